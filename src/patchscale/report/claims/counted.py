"""Answers by arithmetic: counts from shapes, the recipes that the package carries, published numbers recomputed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import metadata
from typing import Any

import numpy as np

from patchscale.cost import (
    TokenReduction,
    device_of,
    estimate,
    model_flops_hours,
    overhead_table,
    training_memory,
)
from patchscale.cost.memory import MIB
from patchscale.cost.overhead import IMAGENET_IMAGES
from patchscale.data import known_sets
from patchscale.data.boxes import BOX_SETS
from patchscale.data.masks import MASK_SETS
from patchscale.laws import published
from patchscale.laws.published_laws import visual_bases_minimum
from patchscale.report.claims.answer import Verdict
from patchscale.studies import load_study
from patchscale.studies.counting import planned
from patchscale.training.recipes import load_plan, load_table

Found = tuple[str, Verdict]
BASE = {"deit": "deit_base_patch16", "adventurer": "adventurer_base_patch16"}
PATCHES = (16, 8, 4, 2, 1)
SIZES = {"T": "tiny", "S": "small", "B": "base", "L": "large", "H": "huge", "Ti": "tiny"}
MEMORY_ERROR, HOURS_ERROR = 0.1, 0.12


def yes(holds: bool) -> Verdict:
    """A count has no interval: it agrees or it does not."""
    return "reproduced" if holds else "not reproduced"


@cache
def hours_per_epoch(family: str, patch: int) -> float:
    """A100 hours of an ImageNet epoch of a Base model at 224, predicted."""
    return model_flops_hours(
        estimate(BASE[family], input_size=224, patch_size=patch), device_of("a100"), IMAGENET_IMAGES
    )


def paper_hours(preset: str, **wanted: Any) -> Callable[[], str]:
    """What the trials of a preset's paper scale take, those with these axis values only."""

    def text() -> str:
        rows = planned(load_study(preset, scale="paper"))[0]
        kept = [row for row in rows if all(row[name] in _listed(value) for name, value in wanted.items())]
        return f"{sum(row['device_hours'] for row in kept):,.0f} A100 hours predicted"

    return text


def _listed(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def overhead() -> Found:
    """Table 6: memory without a fitted constant, hours with one efficiency a family."""
    worst = dict.fromkeys(("memory_mb_per_image", "a100_gpu_hours_per_imagenet_epoch"), 0.0)
    for row in overhead_table():
        worst[row["quantity"]] = max(worst[row["quantity"]], abs(row["error"]))
    memory, hours = worst.values()
    text = f"memory within {memory:.1%} (nothing fitted), hours within {hours:.1%} (one efficiency a family)"
    return f"{text}; no A100 was timed", yes(memory < MEMORY_ERROR and hours < HOURS_ERROR)


def memory_growth() -> Found:
    """Memory of an image of DeiT-Base from patch 16 to 1, MiB."""
    ours = [row["predicted"] for row in overhead_table() if row["quantity"] == "memory_mb_per_image"]
    given = [row["published"] for row in overhead_table() if row["quantity"] == "memory_mb_per_image"]
    error = max(abs(a / b - 1) for a, b in zip(ours, given, strict=True))
    return f"{', '.join(f'{value:,.0f}' for value in ours)} MiB; largest error {error:.1%}", yes(error < MEMORY_ERROR)


def cheaper_family() -> Found:
    """From which patch size on the Adventurer's epoch takes fewer predicted hours."""
    cheaper = [patch for patch in PATCHES if hours_per_epoch("adventurer", patch) < hours_per_epoch("deit", patch)]
    ours = f"{hours_per_epoch('deit', 1):,.0f} against {hours_per_epoch('adventurer', 1):.0f} h at patch 1 predicted"
    text = f"{ours}; Adventurer cheaper from patch {max(cheaper)} down ({hours_per_epoch('adventurer', 8):.2f} against "
    text += f"{hours_per_epoch('deit', 8):.2f} h at 8; no A100 was timed)"
    return text, yes(max(cheaper) == 8) if max(cheaper) != 4 else "inconclusive"


def protocol() -> Found:
    """Memory of an image excludes weights, and what training adds for each image does not depend on the batch."""
    cost = estimate(BASE["deit"], input_size=224)
    peaks = [training_memory(cost, batch_size=batch, precision="float16").peak for batch in (256, 512, 768)]
    growth = (peaks[2] - peaks[1]) / (peaks[1] - peaks[0])
    image = (peaks[1] - peaks[0]) / 256 / MIB
    text = f"peak memory grows by {image:.0f} MiB an image at any batch (ratio {growth:.4f}); weights excluded"
    return text, yes(abs(growth - 1) < 0.01)


def linear_growth() -> Found:
    """The exponent of the Adventurer's FLOPs in tokens between patch 16 and 1."""
    coarse, fine = (estimate(BASE["adventurer"], input_size=224, patch_size=patch) for patch in (16, 1))
    power = float(np.log(fine.flops_forward / coarse.flops_forward) / np.log(fine.tokens / coarse.tokens))
    hours = f"{hours_per_epoch('adventurer', 16):.2f} and {hours_per_epoch('adventurer', 1):.1f} h an epoch predicted"
    return f"FLOPs grow as tokens^{power:.3f}; {hours}", yes(abs(power - 1) < 0.02)


def quadratic_growth() -> Found:
    """The exponent of attention's products in tokens, and of all of DeiT's between patch 2 and 1."""
    coarse, fine = (estimate(BASE["deit"], input_size=224, patch_size=patch) for patch in (2, 1))
    products = [sum(term.flops for term in cost.terms if term.name.startswith("attention_")) for cost in (coarse, fine)]
    lengths = np.log(fine.tokens / coarse.tokens)
    own = float(np.log(products[1] / products[0]) / lengths)
    whole = float(np.log(fine.flops_forward / coarse.flops_forward) / lengths)
    return (
        f"attention's products grow as tokens^{own:.3f}, the whole model as tokens^{whole:.2f} from patch 2 to 1",
        yes(abs(own - 2) < 0.01),
    )


def compromise() -> Found:
    """What giving up patches costs: a judgement that numbers inform and do not decide."""
    times = hours_per_epoch("adventurer", 1) / hours_per_epoch("adventurer", 16)
    hours = 300 * hours_per_epoch("adventurer", 1)
    return (
        f"patch 1 takes {times:.0f} x the hours of patch 16: {hours:,.0f} A100 hours for 300 epochs; a judgement",
        "inconclusive",
    )


def on_256() -> Found:
    """Days on 256 A100s for 300 epochs of pixel tokens at 224."""
    days = 300 * hours_per_epoch("adventurer", 1) / 256 / 24
    return f"300 epochs take {days:.1f} days on 256 A100s, predicted", yes(days < 30)


def storage() -> Found:
    """Bytes of a raw 224 image and of 196 English words."""
    image, words = 224 * 224 * 3 / 1024, 196 * 6 / 1024
    return f"224 x 224 x 3 bytes = {image:.0f} KiB; 196 words of 6 characters = {words:.2f} KiB", yes(
        round(image) == 147
    )


def configurations() -> Found:
    """Width, depth and parameters of the ten models of table 7, parameters to the printed million or half a percent."""
    off, models = [], published(7).groupby("model", sort=False)
    for model, part in models:
        family, size = str(model).split("-")
        given = dict(zip(part["metric"], part["value"], strict=True))
        cost = estimate(f"{family.lower()}_{SIZES[size]}_patch16", input_size=224)
        millions, stated = cost.params / 1e6, given["params_million"]
        same = (cost.shape.embed_dim, cost.shape.depth) == (given["embed_dim"], given["blocks"])
        if not same or abs(millions - stated) > max(1.0, 0.005 * stated):
            off.append(f"{model} {millions:.0f} M against {stated:.0f} M")
    return f"{len(models) - len(off)} of {len(models)} agree" + (f"; not {', '.join(off)}" if off else ""), yes(not off)


def huge() -> Found:
    """Parameters of the two Huge models."""
    ours = {family: estimate(f"{family}_huge_patch16", input_size=224).params / 1e6 for family in BASE}
    text = f"DeiT-Huge {ours['deit']:.0f} M, Adventurer-Huge {ours['adventurer']:.0f} M at the stated width and depth"
    return text, yes(abs(ours["deit"] - 631) < 2 and abs(ours["adventurer"] - 759) < 2)


def slot_models() -> Found:
    """Parameters of the five slot models at 96 bases."""
    rows = published("T1").query("metric == 'params_million'").to_dict("records")
    errors = []
    for row in rows:
        size = SIZES[row["model"].split("-")[1]]
        name = f"lct_vit_{size}_patch{14 if size == 'huge' else 16}"
        reduction = TokenReduction("filtering_released", 96, class_token="routed")
        cost = estimate(name, input_size=224, reduction=reduction)
        errors.append(abs(cost.params_without_positions / 1e6 - row["value"]))
    return f"{len(rows)} sizes, trainable parameters within {max(errors):.2f} M of table 1", yes(max(errors) < 0.1)


def minimum() -> Found:
    """The published minimum of ViT-B recomputed from its published curve."""
    row = visual_bases_minimum().iloc[0]
    text = f"ViT-B: {row['recomputed']:.0f} recomputed from the published curve, {row['published']:.0f} printed"
    return f"{text}; no other size has a curve", "inconclusive"


def vlm_fits() -> Found:
    """The 36 published power laws refitted by least squares in log-log."""
    curves, fits = published("vlm"), published("vlm_fits")
    worst, quality = 0.0, []
    for fit in fits.to_dict("records"):
        part = curves.loc[(curves["variant"] == fit["variant"]) & (curves["metric"] == fit["metric"])]
        x, y = np.log(part["vision_tokens"]), np.log(part["score"])
        slope = np.polyfit(x, y, 1)[0]
        worst = max(worst, abs(abs(slope) - abs(fit["alpha"])))
        quality.append(np.corrcoef(x, y)[0, 1] ** 2)
    text = f"{len(fits)} exponents refitted, largest difference {worst:.1g}; median R^2 {np.median(quality):.2f}"
    return text, yes(worst < 1e-3)


def vlm_curvature() -> Found:
    """Whether published curves bend upwards in log-log, as from sublinear to linear growth; the theory is convex."""
    curves = published("vlm").query("variant != 'vq_noft_approx'")
    bends = [
        np.polyfit(np.log(part["vision_tokens"]), np.log(part["score"]), 2)[0]
        for _, part in curves.groupby(["variant", "metric"])
    ]
    convex = sum(bend > 0 for bend in bends)
    text = f"{convex} of {len(bends)} published curves bend upwards in log-log, as the law does"
    return f"{text}; {len(bends) - convex} bend downwards", yes(convex > len(bends) / 2)


def recipe(name: str, wanted: Mapping[str, Any], size: str = "base") -> Callable[[], Found]:
    """Values of a recipe that the package carries against the published ones."""

    def judge() -> Found:
        table = load_table(name)
        ours = {key: _rate(name, size) if key == "learning_rate" else table.row(key, size).value for key in wanted}
        text = ", ".join(f"{key.removeprefix('recipe.').replace('_', ' ')} {value:g}" for key, value in ours.items())
        return f"recipe {name}: {text}", yes(all(np.isclose(ours[key], value) for key, value in wanted.items()))

    return judge


def _rate(name: str, size: str) -> float:
    table = load_table(name)
    base, batch = (table.row(key, size).value for key in ("base_learning_rate", "learning_rate_batch"))
    return base if batch is None else base * table.row("recipe.batch_size", size).value / batch


def both(*judges: Callable[[], Found]) -> Callable[[], Found]:
    """Several at once: agreed only if all are."""

    def judge() -> Found:
        found = [one() for one in judges]
        return "; ".join(text for text, _ in found), yes(all(verdict == "reproduced" for _, verdict in found))

    return judge


def stages() -> Found:
    """Epochs of the three Adventurer stages."""
    plan = load_plan("adventurer_224")
    assert plan is not None
    epochs = [load_table(stage.recipe).row("recipe.epochs", "base").value for stage in plan.stages]
    inputs = [stage.input_size for stage in plan.stages]
    return f"plan adventurer_224: {epochs} epochs at {inputs} pixels", yes(
        epochs == [300, 100, 20] and inputs == [128, 224, 224]
    )


def late_epochs() -> Found:
    """Epochs at 224 pixels when weights at 128 are the start."""
    plan = load_plan("adventurer_224")
    assert plan is not None
    late = [
        load_table(stage.recipe).row("recipe.epochs", "base").value for stage in plan.stages if stage.input_size == 224
    ]
    return f"plan adventurer_224 leaves {sum(late)} epochs at 224", yes(sum(late) == 120)


def benchmarks() -> Found:
    """The three benchmarks can be read; they are not on this machine."""
    sizes = {
        "imagenet-1k": {one.name: one for one in known_sets()}["imagenet-1k"],
        "ade20k": MASK_SETS["ade20k"],
        "coco": BOX_SETS["coco"],
    }
    text = ", ".join(f"{name} ({one.train:,} training images)" for name, one in sizes.items())
    return f"readers for {text}; none is here, smaller sets stand in", "not testable at this scale"


def python_versions() -> Found:
    """What pip is told of supported versions."""
    stated = metadata("patchscale")["Requires-Python"]
    return f"pip install; Python {stated} stated", yes(bool(stated))
