"""Intrinsic complexity of known and of real tokens, and what pictures of them show."""

from __future__ import annotations

import math

import pytest
import torch
from PIL import Image

from patchscale.errors import InputError
from patchscale.tokens import patchify
from patchscale.tokens.complexity import complexity, span_copy, span_residual
from patchscale.tokens.picture import Shown, draw, panels, rows_as_patches, unpatchify
from patchscale.tokens.reducers import build_reducer
from tests.tokens.images import patches, photographs


def test_low_rank_tokens_have_their_rank():
    torch.manual_seed(0)
    tokens = torch.randn(2, 60, 5, dtype=torch.float64) @ torch.randn(2, 5, 40, dtype=torch.float64)
    tokens += 1e-6 * torch.randn(2, 60, 40, dtype=torch.float64)
    found = complexity(tokens, 1e-6)
    assert found.spanning.tolist() == found.rank.tolist() == found.code_rank.tolist() == [5, 5]
    assert (found.effective_rank > 3).all()
    assert (found.effective_rank < 5).all()


def test_equal_directions_have_full_effective_rank_and_noise_has_no_code():
    assert complexity(torch.eye(7)[None]).effective_rank.item() == pytest.approx(7)
    torch.manual_seed(0)
    assert complexity(torch.randn(1, 64, 64)).code_rank.item() == 0


def test_code_length_is_the_formula():
    tokens = torch.diag(torch.tensor([4.0, 2.0, 1.0]))[None]
    tails = [21, 5, 1, 0.2**2 * 21]
    lengths = [4.5 * math.log(t / 9) + k * 3 * math.log(9) for k, t in enumerate(tails)]
    found = complexity(tokens, precision=0.2)
    assert found.code_rank.item() == lengths.index(min(lengths))
    assert found.code_bits.item() == pytest.approx(min(lengths) / math.log(2) / 9)


def test_real_images_need_more_at_a_finer_tolerance(real_data):
    tokens = patches(real_data, 16)
    coarse, fine = complexity(tokens, 0.2), complexity(tokens, 0.01)
    assert (fine.rank > coarse.rank).all()
    assert (fine.spanning >= fine.rank).all(), "no choice of tokens beats the singular vectors"
    assert (coarse.effective_rank == fine.effective_rank).all()


def test_span_of_all_rows_is_everything_and_of_none_nothing():
    tokens = torch.randn(2, 9, 6)
    assert span_residual(tokens, tokens).max() < 1e-12
    assert span_residual(tokens, torch.zeros(2, 1, 6)).tolist() == [1, 1]
    torch.testing.assert_close(span_copy(tokens, tokens), tokens.double())


def test_what_is_wrong_is_named():
    with pytest.raises(InputError, match=r"tolerance 1\.5 is not a share of energy"):
        complexity(torch.randn(1, 4, 4), 1.5)
    with pytest.raises(InputError, match="precision 0 is not positive"):
        complexity(torch.randn(1, 4, 4), precision=0)


def test_patches_go_back_to_the_image():
    image = torch.rand(3, 12, 20)
    assert torch.equal(unpatchify(patchify(image[None], 4)[0], (12, 20), 4), image)


class TestPicture:
    @pytest.fixture
    def image(self, real_data):
        image = photographs(real_data, 1, 64)[0]
        return (image - image.min()) / (image.max() - image.min())

    def shown(self, image, name, keep):
        flat = patchify(image[None], 8)
        mean = image.mean((1, 2)).repeat_interleave(64)
        reduced = build_reducer(name, dim=192, slots=keep).eval()(flat - mean, keep)
        return Shown(name, image, 8, reduced, reduced.tokens[0] + mean)

    def test_panels_of_a_choice(self, image):
        shown = self.shown(image, "qr", 10)
        (first, kept, _, _, best), residual = panels(shown)
        assert torch.equal(torch.from_numpy(first), image.permute(1, 2, 0))
        row, col = divmod(shown.reduced.source[0, 3].item(), 8)
        here = slice(8 * row, 8 * row + 8), slice(8 * col, 8 * col + 8)
        assert (kept[here] == first[here]).all()
        assert abs(best[here] - first[here]).max() < 1e-4
        assert (abs(kept - first).max((0, 2)) > 0).any()
        assert 0 < residual < 1

    def test_more_rows_miss_less_and_qr_less_than_random(self, image):
        missing = {(n, k): panels(self.shown(image, n, k))[1] for n in ("qr", "random") for k in (4, 16, 32)}
        assert missing["qr", 4] > missing["qr", 16] > missing["qr", 32]
        assert all(missing["qr", k] < missing["random", k] for k in (4, 16, 32))

    def test_regions_are_means_of_members(self, image):
        shown = self.shown(image, "tome", 6)
        flat = patchify(image[None], 8)[0]
        torch.testing.assert_close(rows_as_patches(flat, shown.reduced), shown.rows, rtol=1e-4, atol=1e-5)

    def test_a_file_with_a_line_a_method(self, image, tmp_path):
        residuals = draw([self.shown(image, name, 8) for name in ("qr", "pool")], tmp_path / "tokens.png")
        assert len(residuals) == 2
        with Image.open(tmp_path / "tokens.png") as picture:
            assert picture.width > picture.height
