"""Judges of the ablation studies: equal compute, equal length, equal recipe, larger inputs, decoders, model sizes."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from patchscale.report.claims.answer import Judge, Verdict, together
from patchscale.report.claims.evidence import Evidence
from patchscale.report.claims.judges import ALMOST_NOTHING, at, gap, interval, short

NATIVE_PIXELS = {"tiny-imagenet-100": 64, "digits_in_clutter": 16, "fashion-mnist": 28}
"""Side of the originals, beyond which an input only interpolates (digits are eight pixels, half of their canvas)."""
NO_GAIN = 0.01
"""A change of the loss by less than this share counts as none."""


def equal_compute(family: str) -> Judge:
    """Finer patches of the smallest model of `family` against its larger models at the coarsest patch, at equal FLOPs.

    The small model's loss at a larger one's FLOPs is interpolated in log FLOPs between its patch sizes. Nothing is
    extrapolated: a larger model that costs more than the finest patch is compared with that, which favours the larger.
    """

    def judge(evidence: Evidence) -> tuple[str, Verdict]:
        table = of_family(evidence.table, family)
        base = table.sort_values("params")["model"].iloc[0]
        coarse = table["patch_size"].max()
        small, texts, verdicts = at(table, model=base), [], []
        for model in dict.fromkeys(at(table, patch_size=coarse)["model"]):
            larger = at(table, model=model, patch_size=coarse)
            flops = larger["flops_per_image"].iloc[0]
            most = small["flops_per_image"].max()
            if model == base or flops < small["flops_per_image"].min():
                continue
            found = interval(
                [_at_flops(small, seed, flops) - loss for seed, loss in seeds_of(larger) if _has(small, seed)]
            )
            more = f", which costs {flops / most:.2g} times the FLOPs" if flops > most else ""
            texts.append(f"{short(base)} with finer patches less {short(model)} at patch {coarse}{more}: {found.text}")
            verdicts.append(found.below_zero())
        if not texts:
            return f"{short(base)}: no larger model lies within its range of FLOPs", "inconclusive"
        return f"test loss at equal FLOPs or fewer, {'; '.join(texts)}", together(verdicts)

    return judge


def of_family(table: pd.DataFrame, family: str) -> pd.DataFrame:
    """Rows whose model's name begins so."""
    return table.loc[[str(model).startswith(family) for model in table["model"]], :]


def seeds_of(part: pd.DataFrame, y: str = "test_loss") -> list[tuple[Any, float]]:
    """(random seed, value) of each row."""
    return list(zip(part["random_seed"], part[y], strict=True))


def _has(table: pd.DataFrame, seed: Any) -> bool:
    return not at(table, random_seed=seed).empty


def _at_flops(small: pd.DataFrame, seed: Any, flops: float) -> float:
    curve = at(small, random_seed=seed).sort_values("flops_per_image")
    return float(np.interp(np.log(flops), np.log(curve["flops_per_image"]), curve["test_loss"]))


def one_recipe(evidence: Evidence) -> tuple[str, Verdict]:
    """One learning rate serves every patch size: no patch size's own best one (mean loss) beats the shared best."""
    texts, verdicts = [], []
    for model, part in evidence.table.groupby("model", sort=False):
        means = part.pivot_table(index="patch_size", columns="recipe.learning_rate", values="test_loss")
        shared = means.mean().idxmin()
        best = {patch: means.loc[patch].idxmin() for patch in sorted(means.index, reverse=True)}
        texts.append(f"{short(model)} best at {', '.join(f'{rate:g} (patch {patch})' for patch, rate in best.items())}")
        verdicts += [_recipe_verdict(part, patch, own, shared) for patch, own in best.items()]
    if len(set(evidence.table["random_seed"])) < 2:
        return f"{'; '.join(texts)} (one random seed)", "inconclusive"
    return "; ".join(texts), "not reproduced" if "not reproduced" in verdicts else together(verdicts)


def _recipe_verdict(part: pd.DataFrame, patch: Any, own: Any, shared: Any) -> Verdict:
    """Whether the shared rate is as good at this patch size as its own best."""
    if own == shared:
        return "reproduced"
    better = gap(_cell(part, patch, own), _cell(part, patch, shared), "test_loss").below_zero()
    return "not reproduced" if better == "reproduced" else "inconclusive"


def _cell(part: pd.DataFrame, patch: Any, rate: Any) -> pd.DataFrame:
    return part.loc[(part["patch_size"] == patch) & (part["recipe.learning_rate"] == rate), :]


def extending(evidence: Evidence) -> tuple[str, Verdict]:
    """Interpolated tokens gain almost nothing beside real ones: below a quarter of what finer patches gain."""
    texts, verdicts = [], []
    for model, part in evidence.table.groupby("model", sort=False):
        by_extending, by_scaling = length_gains(part)
        texts.append(f"{short(model)} by extending {by_extending.text}, by scaling {by_scaling.text} (test loss)")
        small = by_extending.low is not None and by_extending.low > ALMOST_NOTHING * by_scaling.mean
        large = by_extending.high is not None and by_extending.high < ALMOST_NOTHING * by_scaling.mean
        verdicts.append(
            "reproduced" if small and by_scaling.mean < 0 else "not reproduced" if large else "inconclusive"
        )
    return "; ".join(texts), together(verdicts)


def information(evidence: Evidence) -> tuple[str, Verdict]:
    """At the longest shared length, finer patches beat interpolated tokens."""
    texts, verdicts = [], []
    for model, part in evidence.table.groupby("model", sort=False):
        finest, longest = _ends(part)
        found = gap(finest, longest, "test_loss")
        texts.append(f"{short(model)} finer patches less interpolated tokens {found.text} in test loss")
        verdicts.append(found.below_zero())
    return "; ".join(texts), together(verdicts)


def length_gains(part: pd.DataFrame) -> tuple[Any, Any]:
    """Change of the loss from the plain coarsest patch: by the longest extension, and by the finest patch."""
    finest, longest = _ends(part)
    plain = at(part, patch_size=part["patch_size"].max(), sequence_extension=1)
    return gap(longest, plain, "test_loss"), gap(finest, plain, "test_loss")


def _ends(part: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Trials of the longest sequence that both ways reach: by patches, and by extension."""
    extended = at(part, patch_size=part["patch_size"].max(), sequence_extension=part["sequence_extension"].max())
    length = extended["tokens"].iloc[0]
    return at(part, tokens=length, sequence_extension=1), extended


def enlarging(evidence: Evidence) -> tuple[str, Verdict]:
    """From the originals' own size on, a larger input at a fixed number of tokens lowers no loss."""
    native = NATIVE_PIXELS[evidence.data]
    texts, verdicts = [], []
    for model, part in evidence.table.groupby("model", sort=False):
        sizes = [size for size in sorted(set(part["input_size"])) if size >= native]
        for small, large in pairwise(sizes):
            before, after = at(part, input_size=small), at(part, input_size=large)
            found = gap(after, before, "test_loss")
            texts.append(f"{short(model)} {small} to {large} px {found.text}")
            if found.low is not None and found.low > -NO_GAIN * float(np.mean(before["test_loss"])):
                verdicts.append("reproduced")
            else:
                verdicts.append("not reproduced" if found.below_zero() == "reproduced" else "inconclusive")
    return f"test loss beyond {native} px: {'; '.join(texts)}", together(verdicts)


def overgrown(evidence: Evidence) -> tuple[str, Verdict]:
    """With the input the patch embedding's parameters grow, and beyond the originals' size the loss rises."""
    native = NATIVE_PIXELS[evidence.data]
    texts, verdicts = [], []
    for model, part in evidence.table.groupby("model", sort=False):
        largest, own = at(part, input_size=part["input_size"].max()), at(part, input_size=native)
        found = gap(own, largest, "test_loss")
        growth = float(np.mean(largest["params_without_positions"]) / np.mean(own["params_without_positions"]))
        back = f"{native} px less {part['input_size'].max()} px"
        texts.append(f"{short(model)} parameters x {growth:.2f}, loss at {back} {found.text}")
        verdicts.append(found.below_zero() if growth > 1 else "not reproduced")
    return "; ".join(texts), together(verdicts)


def synergy(evidence: Evidence) -> tuple[str, Verdict]:
    """The largest model with the finest patch beats the same model one patch coarser and the next smaller model."""
    texts, verdicts = [], []
    for family in dict.fromkeys(str(model).split("_")[0] for model in evidence.table["model"]):
        table = of_family(evidence.table, family)
        models = list(dict.fromkeys(table.sort_values("params_without_positions")["model"]))
        patches = sorted(set(table["patch_size"]))
        best = at(table, model=models[-1], patch_size=patches[0])
        for other, name in (
            (at(table, model=models[-1], patch_size=patches[1]), f"itself at patch {patches[1]}"),
            (at(table, model=models[-2], patch_size=patches[0]), f"{short(models[-2])} at patch {patches[0]}"),
        ):
            found = gap(best, other, "test_loss")
            texts.append(f"{short(models[-1])} at patch {patches[0]} less {name} {found.text}")
            verdicts.append(found.below_zero())
    return f"test loss, {'; '.join(texts)}", together(verdicts)


def several_sizes(table: pd.DataFrame) -> bool:
    """Whether a family comes in two sizes, each at several patch sizes."""
    groups = table.groupby("model")
    full = [str(model).split("_")[0] for model, part in groups if len(set(part["patch_size"])) > 1]
    return len(full) > len(set(full))


def family_gains(table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """DeiT and Adventurer at the finest patch both have, and at the coarsest: fine and coarse of each."""
    deit, adventurer = of_family(table, "deit"), of_family(table, "adventurer")
    shared = set(deit["patch_size"]) & set(adventurer["patch_size"])
    fine, coarse = min(shared), max(shared)
    return (
        at(deit, patch_size=fine), at(deit, patch_size=coarse),
        at(adventurer, patch_size=fine), at(adventurer, patch_size=coarse),
    )  # fmt: skip


def decoder_gaps(table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """UperNet and linear layer at the finest patch, then at the coarsest."""
    fine, coarse = table["patch_size"].min(), table["patch_size"].max()
    return tuple(  # type: ignore
        at(table, patch_size=patch, task__decoder=decoder)
        for patch in (fine, coarse)
        for decoder in ("upernet", "linear")
    )


def decoder_advantage(evidence: Evidence) -> tuple[str, Verdict]:
    """At the coarsest patch UperNet leads in mean IoU."""
    _, _, upernet, linear = decoder_gaps(evidence.table)
    found = gap(linear, upernet, "miou")
    patch = evidence.table["patch_size"].max()
    return f"linear less UperNet at patch {patch}: {found.text} in mean IoU", found.below_zero()


def without_decoder(evidence: Evidence) -> tuple[str, Verdict]:
    """The linear layer at the finest patch passes UperNet at the coarsest, which leads there."""
    coarse = evidence.table["patch_size"].max()
    _, linear, upernet, _ = decoder_gaps(evidence.table)
    found = gap(upernet, linear, "miou")
    text = f"linear at the finest patch less UperNet at {coarse} {-found.mean:+.3g} in mean IoU"
    if decoder_advantage(evidence)[1] != "reproduced":
        return f"{text}, but UperNet does not lead at patch {coarse}, so patches are not the cause", "inconclusive"
    return text, found.below_zero()


def larger_image(evidence: Evidence) -> tuple[str, Verdict]:
    """Below the originals' size a larger image at the same patch beats a finer patch at equal tokens."""
    texts, verdicts = [], []
    for model, part in evidence.table.groupby("model", sort=False):
        small, large = min(part["input_size"]), max(part["input_size"])
        for tokens in sorted(set(at(part, input_size=large)["tokens"]) & set(at(part, input_size=small)["tokens"])):
            found = gap(
                at(part, tokens=tokens, input_size=large), at(part, tokens=tokens, input_size=small), "test_loss"
            )
            texts.append(f"{short(model)} {large} px less {small} px at {tokens} tokens {found.text}")
            verdicts.append(found.below_zero())
    return f"test loss, {'; '.join(texts)}", together(verdicts)
