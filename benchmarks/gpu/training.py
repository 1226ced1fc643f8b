"""Item 3: training steps of DeiT-Base, Adventurer-Tiny and -Base at 224 pixels down to pixel tokens, bfloat16 autocast.

    PYTHONPATH=src python benchmarks/gpu/training.py --out DIR
    PYTHONPATH=src python benchmarks/gpu/training.py --tiny --out DIR      (dry run on a CPU)

Per model, patch size and form (plain, recompute, compile): images/s, peak memory per image beyond weights and
optimizer, MFU (training FLOPs by `patchscale.cost` over the measured product rate), time per token. Each step is
forward, backward and AdamW. Table 6 of the paper stands beside what it gives.
"""

from __future__ import annotations

import contextlib
from functools import partial

import torch
import torch.nn.functional as F
from harness import Log, about, best_seconds, ceilings, device, options, peak_bytes

from patchscale.cost import estimate
from patchscale.models import create

MODELS = ("adventurer_base_patch16", "adventurer_tiny_patch16", "deit_base_patch16")
PATCHES = (16, 8, 4, 2, 1)
BATCHES = {16: 128, 8: 64, 4: 16, 2: 4, 1: 2}
FORMS = ("plain", "recompute", "compile")


def step_of(model, optimizer, images, labels):
    kind = device().type

    def step() -> None:
        with torch.autocast(kind, torch.bfloat16) if kind == "cuda" else contextlib.nullcontext():
            loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def case(name: str, side: int, patch: int, batch: int, form: str, repeats: int, ceiling: dict, **shape) -> dict:
    torch.manual_seed(0)
    model = create(name, input_size=(side, side), patch_size=patch, num_classes=1000, **shape).to(device())
    model.set_grad_checkpointing(form == "recompute")  # type: ignore[operator]
    called = torch.compile(model) if form == "compile" else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=device().type == "cuda")
    images = torch.randn(batch, 3, side, side, device=device())
    labels = torch.zeros(batch, dtype=torch.long, device=device())
    step = step_of(called, optimizer, images, labels)
    step()
    peak = peak_bytes(step)
    seconds = best_seconds({"step": step}, repeats)["step"]
    tokens = (side // patch) ** 2
    cost = estimate(name, input_size=side, patch_size=patch)
    facts = {
        "batch": batch, "tokens": tokens, "images_per_second": batch / seconds,
        "gib_per_image": peak / batch / 2**30, "microseconds_per_token": seconds / batch / tokens * 1e6,
    }  # fmt: skip
    return facts if shape else facts | {"mfu": cost.flops_train * batch / seconds / ceiling["flops"]}


def main() -> None:
    chosen = options(__doc__)
    log, ceiling = Log(chosen, __file__), ceilings(chosen.tiny)
    log.write("about", **about(), **ceiling)
    side, repeats = (16, 1) if chosen.tiny else (224, 5)
    shape = {"depth": 2, "embed_dim": 64} if chosen.tiny else {}
    for patch in PATCHES[2:] if chosen.tiny else PATCHES:
        for name in MODELS:
            for form in FORMS[:2] if chosen.tiny else FORMS:
                if name.startswith("deit") and patch < 4 and form == "compile":
                    continue  # hours of attention say nothing new
                batch = 1 if chosen.tiny else BATCHES[patch]
                heads = {"num_heads": 4} if chosen.tiny and name.startswith("deit") else {}
                run = partial(case, name, side, patch, batch, form, repeats, ceiling, **shape, **heads)
                log.measure(f"{name} p{patch} {form}", run)
    print("table 6: 16.1 GB of activations for an image of 50,176 tokens in a ViT-Base; goal: 2 GB in Adventurer-Base")
    log.table(["batch", "images_per_second", "gib_per_image", "microseconds_per_token", "mfu"])


if __name__ == "__main__":
    main()
