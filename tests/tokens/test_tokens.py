"""Patches, positions and their resizing."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from patchscale.errors import InputError
from patchscale.tokens import (
    PatchEmbed,
    grid_size,
    patchify,
    resize_patch_weight,
    resize_positions,
    sincos_positions,
)
from patchscale.tokens.positions import _resize_matrix
from patchscale.tokens.resize import _pseudo_inverse


def test_grid_size_names_the_divisors_of_both_sides():
    assert grid_size((32, 48), 16) == (2, 3)
    with pytest.raises(InputError) as error:
        grid_size((32, 32), 5)
    assert str(error.value) == "patch_size 5 does not divide image height 32; use one of 1, 2, 4, 8, 16, 32"
    with pytest.raises(InputError, match=r"image width 36; use one of 1, 2, 4$"):
        grid_size((32, 36), 8)
    with pytest.raises(InputError, match="patch_size 0"):
        grid_size((4, 4), 0)
    with pytest.raises(InputError, match="not positive"):
        grid_size((0, 4), 1)


@settings(deadline=None, max_examples=25)
@given(p=st.integers(1, 5), rows=st.integers(1, 4), cols=st.integers(1, 4), seed=st.integers(0, 99))
def test_patch_embedding_equals_the_convolution(p, rows, cols, seed):
    torch.manual_seed(seed)
    images = torch.randn(2, 3, rows * p, cols * p)
    embed = PatchEmbed((rows * p, cols * p), p, embed_dim=8)
    expected = F.conv2d(images, embed.proj.weight, embed.proj.bias, stride=p).flatten(2).transpose(1, 2)
    torch.testing.assert_close(embed(images), expected, atol=1e-5, rtol=1e-5)
    assert patchify(images, p).shape == (2, rows * cols, 3 * p * p)


def test_patch_embedding_refuses_other_sizes():
    embed = PatchEmbed((32, 48), 4, embed_dim=8)
    with pytest.raises(InputError, match="images are 32x32, the model was built for 32x48"):
        embed(torch.zeros(1, 3, 32, 32))
    with pytest.raises(InputError, match="not square"):
        PatchEmbed(32, (4, 8))


def test_patch_embedding_formats_and_padding():
    images = torch.randn(2, 3, 8, 12)
    flat = PatchEmbed((8, 12), 4, embed_dim=8)
    grid = PatchEmbed((8, 12), 4, embed_dim=8, output_fmt="NHWC")
    grid.load_state_dict(flat.state_dict())
    torch.testing.assert_close(grid(images).flatten(1, 2), flat(images))
    padded = PatchEmbed((7, 10), 4, embed_dim=8, dynamic_img_pad=True, strict_img_size=False)
    assert padded(images[:, :, :7, :10]).shape == (2, 6, 8)


def test_sincos_positions_are_distinct_and_bounded():
    table = sincos_positions((3, 5), 16)
    assert table.shape == (15, 16)
    assert table.abs().max() <= 1
    assert torch.pdist(table).min() > 0.1
    torch.testing.assert_close(table[:5, :8], table[:1, :8].expand(5, 8))  # one row shares its row code
    with pytest.raises(InputError, match="multiple of 4, not 10; use 12"):
        sincos_positions((2, 2), 10)


@pytest.mark.parametrize("where", ["first", "last", None])
def test_position_resize_keeps_the_class_row(where):
    pos = torch.randn(1, 12 + (where is not None), 6)
    out = resize_positions(pos, (3, 4), (6, 2), class_row=where)
    assert out.shape == (1, 12 + (where is not None), 6)
    if where:
        row = 0 if where == "first" else -1
        torch.testing.assert_close(out[:, row], pos[:, row], rtol=0, atol=0)
    assert resize_positions(pos, (3, 4), (3, 4), class_row=where) is pos
    with pytest.raises(InputError, match="does not match a 4x4 grid"):
        resize_positions(pos, (4, 4), (2, 2), class_row=where)


def test_position_resize_keeps_a_constant_and_orientation():
    ramp = torch.arange(4.0)[:, None].expand(4, 3).reshape(1, 12, 1)  # grows along the rows
    out = resize_positions(ramp, (4, 3), (8, 6)).reshape(8, 6)
    assert (out[1:] > out[:-1]).all()
    torch.testing.assert_close(out, out[:, :1].expand(8, 6))
    flat = torch.full((1, 12, 1), 2.5)
    torch.testing.assert_close(resize_positions(flat, (4, 3), (2, 9)), torch.full((1, 18, 1), 2.5))


@pytest.mark.parametrize(("old", "new"), [(4, 8), (2, 6), (1, 3)])
def test_growing_patches_keep_their_products(old, new):
    weight, patch = torch.randn(5, 3, old, old), torch.randn(1, 3, old, old)
    big = F.interpolate(patch, size=(new, new), mode="bilinear", antialias=True, align_corners=False)
    moved = resize_patch_weight(weight, new)
    torch.testing.assert_close((moved * big).sum((1, 2, 3)), (weight * patch).sum((1, 2, 3)), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("new", [1, 2, 3, 8])
def test_shrinking_patches_is_the_least_squares_solution(new):
    basis = torch.eye(256).reshape(256, 1, 16, 16)
    resize = F.interpolate(basis, size=(new, new), mode="bilinear", antialias=True, align_corners=False).flatten(1)
    known = torch.randn(4, 3, new * new)
    moved = resize_patch_weight((known @ resize.T).reshape(4, 3, 16, 16), new)
    torch.testing.assert_close(moved.flatten(2), known, atol=1e-3, rtol=1e-3)
    weight = torch.randn(4, 3, 16, 16)
    residual = resize_patch_weight(weight, new).flatten(2) @ resize.T - weight.flatten(2)
    assert (residual @ resize).abs().max() < 1e-4
    assert resize_patch_weight(weight, 16) is weight


def test_training_resizes_what_inference_resized_first():
    """What is kept for equal sizes does not depend on the mode that it was first asked in."""
    _resize_matrix.cache_clear()
    _pseudo_inverse.cache_clear()
    with torch.inference_mode():
        resize_positions(torch.randn(1, 4, 8), (2, 2), (3, 5))
        resize_patch_weight(torch.randn(8, 3, 4, 4), 3)
    pos, weight = (torch.randn(shape, requires_grad=True) for shape in ((1, 4, 8), (8, 3, 4, 4)))
    resize_positions(pos, (2, 2), (3, 5)).square().sum().backward()
    resize_patch_weight(weight, 3).square().sum().backward()
    assert pos.grad is not None
    assert weight.grad is not None
