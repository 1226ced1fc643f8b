"""The panels of a study of vision tokens: S(n) with its laws, the published curves, whole cost, and answers at every n.

Curves and laws are copied from `laws.json`, answers from `predictions/` of finished trials, published numbers from
`patchscale.laws`; costs are counted from shapes.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from PIL import Image

from patchscale.cost import shape_of
from patchscale.laws import published_vlm
from patchscale.report.dense import predictions_folder
from patchscale.report.frames import distinct
from patchscale.report.run import Run

N = "task.vision_tokens"
SMALL = 96
"""Pictures of at most so many pixels a side are enlarged with every pixel a square."""


def vision_panels(run: Run, axes: list[str]) -> dict[str, Any] | None:
    """The panels' data, or None for a study of something else.

    Args:
        run: a run directory.
        axes: columns of the result table that name a configuration.

    Returns:
        {"curves": entries of `laws.vision_tokens`, "costs": [{"group", "values": [{"x", "encoder", "fusion",
        "language"}]}] with forward FLOPs of an image, "published": `laws.published_vlm`, "examples": `examples`}.
    """
    curves = run.laws.get("vision_tokens")
    if not curves or N not in run.results:
        return None
    others = [axis for axis in axes if axis not in (N, "task.protocol")]
    return {
        "curves": curves,
        "costs": whole_costs(run, others),
        "published": published_vlm(),
        "examples": examples(run, [axis for axis in axes if axis != N]),
    }


def whole_costs(run: Run, axes: list[str]) -> list[dict[str, Any]]:
    """Forward FLOPs of an image by part at every n; the protocol of training changes nothing about them."""
    from patchscale.tasks import ModelSpec, task_class
    from patchscale.tasks.captioning.cost import image_flops
    from patchscale.training.costs import cost_of, with_options

    found: dict[str, dict[str, Any]] = {}
    for row in run.results.drop_duplicates([*axes, N]).sort_values(N, kind="stable").to_dict("records"):
        config = run.configs.get(str(row["trial"]))
        if config is None:
            continue
        spec = ModelSpec.model_validate(config["model"])
        chosen = {**config["task_options"], "protocol": "one_each", "vision_tokens": int(row[N])}
        options = task_class("captioning").Options.model_validate(chosen)
        encoder, width = cost_of(spec, 0).flops_forward, with_options(shape_of(spec.name), spec.options).embed_dim
        parts = image_flops(spec, options, width, encoder, round(row["flops_per_image"]))
        group = {axis: row[axis] for axis in axes}
        entry = found.setdefault(json.dumps(group, default=str), {"group": group, "values": []})
        entry["values"].append({"x": int(row[N]), **parts})
    return list(found.values())


def examples(run: Run, axes: list[str]) -> dict[str, Any] | None:
    """Answers of one random seed, or None where no finished trial left any.

    Returns:
        {"seed", "counts": every n, "images": [{"image", "small", "asked": [{"kind", "question", "truth", "rows":
        [{"group", "said": {n: text}, "right": {n: bool}}]}], "maps": [{"group", "map"}]}]}: images as data addresses.
        Trials of the contrastive stage have maps instead of answers, and the image their question and truth.
    """
    if run.results.empty or "random_seed" not in run.results:
        return None
    seed = min(distinct(run.results, "random_seed"))
    rows = run.results.loc[run.results["random_seed"] == seed].drop_duplicates("trial").to_dict("records")
    images: dict[int, dict[str, Any]] = {}
    counts: set[int] = set()
    for row in rows:
        folder = predictions_folder(run, row)
        index = json.loads((folder / "index.json").read_text()) if folder else {}
        if folder is None or index.get("kind") != "captioning":
            continue
        counts |= set(index["counts"])
        group = {axis: row[axis] for axis in axes}
        for shown in index["images"]:
            image = images.setdefault(shown["index"], {**_picture(folder / shown["image"]), "asked": {}, "maps": []})
            if "map" in shown:
                image["maps"].append({"group": group, "map": _picture(folder / shown["map"])["image"]})
                image |= {"question": shown["question"], "truth": shown["truth"]}
            for asked in shown.get("asked", []):
                _add(image["asked"], asked, index["counts"], group)
    if not images:
        return None
    ordered = [images[index] for index in sorted(images)]
    return {
        "seed": int(seed),
        "counts": sorted(counts),
        "images": [{**image, "asked": list(image["asked"].values())} for image in ordered],
    }


def _add(known: dict[str, Any], asked: dict[str, Any], counts: list[int], group: dict[str, Any]) -> None:
    """One trial's answers to one question, beside those of the trials of the same group at other n."""
    about = {name: asked[name] for name in ("kind", "question", "truth")}
    entry = known.setdefault(asked["question"], {**about, "rows": []})
    row = next((row for row in entry["rows"] if row["group"] == group), None)
    if row is None:
        row = {"group": group, "said": {}, "right": {}}
        entry["rows"].append(row)
    row["said"] |= {str(count): text for count, text in zip(counts, asked["said"], strict=True)}
    row["right"] |= {str(count): right for count, right in zip(counts, asked["right"], strict=True)}


def _picture(file: Path) -> dict[str, Any]:
    with Image.open(file) as image:
        small = max(image.size) <= SMALL
    return {"image": "data:image/png;base64," + base64.b64encode(file.read_bytes()).decode(), "small": small}
