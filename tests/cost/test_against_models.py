"""The counts against the models themselves: parameters, torch's FLOP counter, and what autograd really keeps."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.utils.flop_counter import FlopCounterMode

from patchscale import models
from patchscale.cost import SHAPES, TokenReduction, activation_memory, estimate
from patchscale.tokens.reducers import REDUCERS


def build(name: str, input_size: tuple[int, int], patch_size: int, device: str = "meta", classes: int = 1000):
    with torch.device(device):
        return models.create(name, input_size=input_size, patch_size=patch_size, num_classes=classes)


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_parameters_equal_the_built_model(name):
    model = build(name, (64, 96), 8)
    assert estimate(name, input_size=(64, 96), patch_size=8).params == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("name", [name for name in sorted(SHAPES) if name.startswith("deit")])
@pytest.mark.parametrize(("input_size", "patch_size"), [((224, 224), 16), ((32, 48), 4)])
def test_deit_flops_equal_torch_counter(name, input_size, patch_size):
    model = build(name, input_size, patch_size)
    with FlopCounterMode(display=False) as counter:
        model(torch.empty(1, 3, *input_size, device="meta"))
    assert estimate(name, input_size=input_size, patch_size=patch_size).flops_forward == counter.get_total_flops()


@pytest.mark.parametrize("name", ["adventurer_nano_patch16", "adventurer_tiny_patch16"])
def test_adventurer_products_equal_torch_counter(name):
    """The linear layers alone: the counter sees neither the scan nor the convolution written as multiply-adds."""
    model, counted = build(name, (64, 64), 4, device="cpu"), {}
    for block in model.layers:
        block.lean = False
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, 3, 64, 64))
    for module, flops in counter.get_flop_counts().items():
        for layer in ("in_proj", "out_proj", "w1", "w2", "w3"):
            if module.endswith(f".{layer}"):
                counted[layer] = counted.get(layer, 0) + sum(flops.values())
    terms = {term.name.removeprefix("mlp_"): term.flops for term in estimate(name, input_size=64, patch_size=4).terms}
    assert set(counted) == {"in_proj", "out_proj", "w1", "w2", "w3"}
    assert counted == {layer: terms[layer] for layer in counted}


@pytest.mark.parametrize(
    ("name", "input_size", "patch_size", "batch_size"),
    [
        ("deit_pico_patch16", (64, 64), 4, 3),
        ("deit_nano_patch16", (32, 64), 4, 2),
        ("adventurer_pico_patch16", (64, 64), 4, 3),
        ("adventurer_pico_patch16", (64, 64), 2, 2),
        ("adventurer_nano_patch16", (32, 64), 4, 4),
    ],
)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(("recompute", "lean"), [(False, True), (True, True), (False, False)])
def test_kept_bytes_equal_what_autograd_keeps(name, input_size, patch_size, batch_size, precision, recompute, lean):
    model = build(name, input_size, patch_size, device="cpu", classes=10)
    for block in getattr(model, "layers", []):
        block.lean = lean
    kept = kept_bytes(model, batch_size, input_size, precision, recompute) / batch_size
    formula = activation_memory(
        estimate(name, input_size=input_size, patch_size=patch_size, num_classes=10),
        precision=precision,
        recompute=recompute,
        ssd="lean" if lean else "torch",
        batch_size=batch_size,
        cpu=True,
    )
    predicted = formula.kept - (formula.block if recompute else 0)
    assert predicted == pytest.approx(kept, rel=0.05)


@pytest.mark.parametrize("reducer", REDUCERS)
@pytest.mark.parametrize(("before", "precision"), [(0, "float32"), (2, "bfloat16")])
def test_kept_bytes_with_a_reducer(reducer, before, precision):
    """The reducer's own are what is kept more than by blocks and head alone."""
    options = {"reducer": reducer, "kept_tokens": 33, "reducer_options": {"before": before}}
    sizes = {"input_size": (48, 40), "patch_size": 4, "num_classes": 10}
    model = models.create("deit_pico_patch16", **sizes, **options)
    kept = kept_bytes(model, 2, (48, 40), precision, False) / 2
    cost = estimate("deit_pico_patch16", **sizes, reduction=TokenReduction(reducer, 33, before))
    formula = activation_memory(cost, precision=precision, batch_size=2, cpu=True)
    assert formula.kept == pytest.approx(kept, rel=0.03)
    if formula.reducer > 0.05 * formula.kept:
        assert formula.reducer == pytest.approx(kept - (formula.kept - formula.reducer), rel=0.1)


def kept_bytes(model, batch_size, input_size, precision, recompute) -> int:
    """Bytes of the distinct storages that autograd saves in one forward pass; weights and their casts left out."""
    model.set_grad_checkpointing(recompute)
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    weight_shapes = {tuple(p.shape) for p in model.parameters()} | {tuple(p.shape)[::-1] for p in model.parameters()}
    storages: dict[int, torch.UntypedStorage] = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights and tuple(tensor.shape) not in weight_shapes:
            storages[storage.data_ptr()] = storage
        return tensor

    images = torch.randn(batch_size, 3, *input_size)
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16")
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), autocast:
        cross_entropy(model(images), torch.zeros(batch_size, dtype=torch.long))
    storages[images.untyped_storage().data_ptr()] = images.untyped_storage()
    return sum(storage.nbytes() for storage in storages.values())
