"""Detection as a task: batches, scores, AP, and trained weights in use."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from safetensors import safe_open

from patchscale.data import Augment, DataSpec
from patchscale.data.boxes import load_boxes
from patchscale.errors import InputError
from patchscale.tasks import ModelSpec, Regularisation, build_task, evaluate
from patchscale.tasks.detection.ap import average_precision, result, truth_of
from patchscale.training import Init, Recipe, TrialConfig, train
from patchscale.training.init import apply_init
from patchscale.training.use import evaluate_weights, predict_images

OPTIONS = {
    "width": 16, "box_hidden": 32, "mask_layers": 1, "anchor_scale": 4, "anchors_sampled": 32, "proposals": 40,
    "rois_sampled": 16, "detections": 20, "score_threshold": 0.0, "jitter": [0.6, 1.5],
}  # fmt: skip
SPEC = ModelSpec(name="deit_pico_patch16", patch_size=8, input_size=(48, 64), options={"depth": 1})
DATA = DataSpec(name="scenes", train_size=12, test_size=5)
CPU = torch.device("cpu")


def make_task(augment: Augment | None = None):
    return build_task("detection", SPEC, DATA, OPTIONS, Regularisation(augment=augment or Augment()))


def same(one, other) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return set(one) == set(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def test_a_batch_is_a_pure_function_and_its_parts_are_those_of_the_whole():
    task = make_task(Augment(horizontal_flip=0.5, color_jitter=0.3))
    indices = torch.tensor([3, 8, 1, 11, 0])
    whole = task.batch(indices, 77, slice(None))
    assert len(whole) == 5
    parts = [task.batch(indices, 77, rows) for rows in (slice(0, 2), slice(2, 5))]
    assert torch.equal(torch.cat([part.inputs for part in parts]), whole.inputs)
    for key in ("sizes", "objects", "seeds"):
        assert same([one for part in parts for one in part.targets[key]], whole.targets[key])
    assert not torch.equal(task.batch(indices, 78, slice(None)).inputs, whole.inputs)
    for image, (height, width) in zip(whole.inputs, whole.targets["sizes"], strict=True):
        assert not image[:, height:].any()
        assert not image[:, :, width:].any()


def test_scores_do_not_depend_on_how_the_test_set_is_divided():
    task = make_task()
    torch.manual_seed(0)
    model = task.build_model().eval()
    whole = evaluate(task, model, CPU, contextlib.nullcontext)
    torch.manual_seed(1)
    with torch.no_grad():
        parts = [task.measure(model, CPU, contextlib.nullcontext, torch.tensor(rows)) for rows in ([4, 1], [0], [3, 2])]
    assert task.scores(parts) == whole
    assert whole["test_loss"] == pytest.approx(whole["detection_loss"] + whole["mask_loss"])
    assert whole["detection_loss"] == pytest.approx(whole["rpn_loss"] + whole["box_loss"])
    assert {"box_ap", "box_ap50", "box_ap75", "mask_ap", "mask_ap50", "mask_ap75"} <= set(whole)


def imperfect(truth: dict, seed: int = 0) -> list[dict]:
    """The true objects moved about, some missing, some twice."""
    generator, results = np.random.default_rng(seed), []
    for one in truth["annotations"]:
        for _ in range(generator.integers(0, 3)):
            x, y, width, height = np.asarray(one["bbox"]) + generator.normal(0, 1.5, 4)
            box = (x, y, x + max(1.0, width), y + max(1.0, height))
            entry = result(one["image_id"], one["category_id"], float(generator.random()), box, None)
            results.append(entry | {"segmentation": one["segmentation"]})
    return results


@pytest.mark.parametrize("kind", ["box", "mask"])
def test_ap_is_what_pycocotools_prints(kind):
    truth = truth_of(load_boxes(DataSpec(name="scenes", test_size=20), "test", (96, 96)))
    results = imperfect(truth)
    ours = average_precision(truth, results, kind).scores(kind)
    field = "bbox" if kind == "box" else "segmentation"
    with contextlib.redirect_stdout(io.StringIO()):
        known = COCO()
        known.dataset = truth
        known.createIndex()
        kept = ("image_id", "category_id", "score", field)
        found = known.loadRes([{key: one[key] for key in kept} for one in results])
        theirs = COCOeval(known, found, {"box": "bbox", "mask": "segm"}[kind])
        theirs.evaluate()
        theirs.accumulate()
        theirs.summarize()
    names = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
    expected = {f"{kind}_{name}": value for name, value in zip(names, theirs.stats, strict=False) if value >= 0}
    assert ours == pytest.approx(expected, abs=1e-12)
    assert 0.1 < ours[f"{kind}_ap"] < 0.95


def test_the_truth_scores_one_nothing_scores_zero_and_the_largest_count_counts():
    truth = truth_of(load_boxes(DataSpec(name="scenes", test_size=10), "test", (96, 96)))
    exact = [one | {"score": 0.9} for one in truth["annotations"]]
    assert average_precision(truth, exact, "mask").scores("mask")["mask_ap"] == pytest.approx(1.0)
    assert average_precision(truth, [], "box").scores("box")["box_ap"] == 0.0
    assert average_precision(truth, exact, "box", largest=1).scores("box")["box_ap"] < 0.9
    precision = average_precision(truth, exact, "box")
    assert set(precision.by_class()) <= set(precision.classes)
    assert all(value == pytest.approx(1.0) for value in precision.by_class().values())
    recall, values = precision.curve()
    assert recall[0] == 0
    assert values.shape == recall.shape
    assert (values == 1).all()


@pytest.fixture(scope="module")
def trial(tmp_path_factory) -> Path:
    """A trial of few steps on a COCO json of scenes, in three sizes; its folder lies beside the images."""
    root = tmp_path_factory.mktemp("mine")
    drawn = load_boxes(DataSpec(name="scenes", test_size=6), "test", (40, 61))
    truth = truth_of(drawn)
    for index, entry in enumerate(truth["images"]):
        entry["file_name"] = f"{index}.png"
        drawn.image(index).save(root / f"{index}.png")
    (root / "mine.json").write_text(json.dumps(truth))
    config = TrialConfig(
        task="detection",
        task_options=OPTIONS,
        model=SPEC,
        data=DataSpec(name=str(root / "mine.json")),
        recipe=Recipe(steps=4, batch_size=2, accumulation=2, precision="float32"),
        evaluations=2,
    )
    train(config, root / "trial", device=CPU)
    return root


def test_a_trial_reports_both_losses_and_ap_and_shows_what_it_sees(trial):
    row = json.loads((trial / "trial" / "result.json").read_text())
    assert {"test_loss", "detection_loss", "mask_loss", "box_ap50", "mask_ap50"} <= set(row)
    shown = json.loads((trial / "trial" / "predictions" / "index.json").read_text())
    assert shown["kind"] == "detection"
    assert {row["class"] for row in shown["classes"]} <= set(load_boxes(DATA, "test", (48, 64)).classes)
    assert len(shown["curves"]["mask"]["precision"]) == 101
    for one in shown["images"]:
        for part in ("image", "truth", "prediction"):
            with Image.open(trial / "trial" / "predictions" / one[part]) as drawn:
                assert drawn.size == (61, 40)


def test_pictures_of_a_trial_resumed_after_its_last_test_point_have_scores(tmp_path):
    task = make_task()
    torch.manual_seed(0)
    task.illustrate(task.build_model(), CPU, contextlib.nullcontext, tmp_path)
    shown = json.loads((tmp_path / "index.json").read_text())
    assert len(shown["images"]) == 4
    assert set(shown["curves"]) == {"box", "mask"}
    assert all({"box_ap", "mask_ap"} <= set(row) for row in shown["classes"])
    assert shown["classes"]


def one_in_four_found(content: dict) -> dict:
    """A truth that a model meets in part: some of the objects it found, every second of them 1.5 pixels aside."""
    annotations = []
    for number, one in enumerate(content["annotations"][::4]):
        x, y, width, height = one["bbox"]
        x = max(0.0, x - 1.5) if number % 2 else x
        outline = [x, y, x + width, y, x + width, y + height, x, y + height]
        mine = {"id": number + 1, "bbox": [x, y, width, height], "area": width * height, "segmentation": [outline]}
        annotations.append(one | mine)
    return content | {"annotations": annotations}


def test_the_exported_json_scores_what_evaluate_says(trial, tmp_path):
    """On a truth that the untrained detector meets in part, so that every AP is a number worth comparing."""
    weights = trial / "trial" / "weights.safetensors"
    predict_images([trial / "mine.json"], weights, tmp_path)
    truth = one_in_four_found(json.loads((tmp_path / "predictions.json").read_text()))
    (trial / "own.json").write_text(json.dumps(truth))
    scores = evaluate_weights(weights, str(trial / "own.json"))
    assert all(0.02 < scores[name] < 0.9 for name in ("box_ap", "box_ap50", "mask_ap50")), scores
    found = predict_images([trial / "own.json"], weights, tmp_path)
    content = json.loads((tmp_path / "predictions.json").read_text())
    assert len(content["annotations"]) == len(found.rows) > 20
    for one, row in zip(content["annotations"], found.rows, strict=True):
        corners = [row["x0"], row["y0"], row["x1"] - row["x0"], row["y1"] - row["y0"]]
        assert one["bbox"] == pytest.approx(corners, abs=0.02)
    for kind in ("box", "mask"):
        again = average_precision(truth, content["annotations"], kind, OPTIONS["detections"]).scores(kind)
        assert again == {name: value for name, value in scores.items() if name.startswith(f"{kind}_ap")}
    assert len(list(tmp_path.glob("*.png"))) == 6
    assert COCO(str(tmp_path / "predictions.json")).getAnnIds(), "annotation tools can open the file"


def test_evaluate_says_what_the_trial_said(trial):
    scores = evaluate_weights(trial / "trial" / "weights.safetensors", str(trial / "mine.json"))
    assert scores["test_loss"] == json.loads((trial / "trial" / "result.json").read_text())["test_loss"]


def test_encoders_start_from_classification_at_the_same_patch_size(trial, tmp_path):
    recipe = Recipe(steps=1, batch_size=2, precision="float32")
    square = SPEC.model_copy(update={"input_size": (32, 32)})
    data = DataSpec(name="digits", limit_train=20, limit_test=10)
    train(TrialConfig(model=square, data=data, recipe=recipe, evaluations=1), tmp_path / "classes", device=CPU)
    weights = tmp_path / "classes" / "weights.safetensors"
    task = make_task()
    torch.manual_seed(0)
    encoder = task.encoder(task.build_model())
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    report = apply_init(encoder, Init(weights=str(weights)))
    with safe_open(weights, "pt") as file:
        assert torch.equal(
            encoder.state_dict()["blocks.0.attn.qkv.weight"], file.get_tensor("blocks.0.attn.qkv.weight")
        )
    assert report.resized == {"pos_embed": "[1, 17, 64] -> [1, 49, 64]"}
    assert not torch.equal(before["blocks.0.attn.qkv.weight"], encoder.state_dict()["blocks.0.attn.qkv.weight"])


def test_bfloat16_losses_are_near_those_of_float32():
    task = make_task()
    torch.manual_seed(0)
    model, batch = task.build_model(), task.batch(torch.arange(4), 3, slice(None))
    losses = []
    for precise in (True, False):
        torch.manual_seed(1)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=not precise):
            losses.append(task.loss(model, batch))
    assert losses[1].dtype == torch.float32
    torch.testing.assert_close(losses[1], losses[0], rtol=0.05, atol=0)
    losses[1].backward()


def test_images_of_any_size_are_searched(trial, tmp_path):
    sizes = [(20, 30), (200, 33), (1, 1)]
    for number, size in enumerate(sizes):
        Image.new("L", size[::-1], 90).save(tmp_path / f"{number}.png")
    (tmp_path / "out").mkdir()
    found = predict_images([tmp_path], trial / "trial" / "weights.safetensors", tmp_path / "out")
    for entry, (height, width) in zip(
        json.loads((tmp_path / "out" / "predictions.json").read_text())["images"], sizes, strict=True
    ):
        assert (entry["height"], entry["width"]) == (height, width)
    assert all(0 <= row["x0"] <= row["x1"] <= 200 for row in found.rows)


def test_other_categories_and_missing_masks_are_refused(trial, tmp_path):
    content = json.loads((trial / "mine.json").read_text())
    other = content | {"categories": [{**one, "name": f"{one['name']}s"} for one in content["categories"]]}
    (trial / "other.json").write_text(json.dumps(other))
    weights = trial / "trial" / "weights.safetensors"
    with pytest.raises(InputError, match="classes discs"):
        evaluate_weights(weights, str(trial / "other.json"))
    with pytest.raises(InputError, match="categories of the weights"):
        predict_images([trial / "other.json"], weights, tmp_path)
    for one in content["annotations"]:
        one.pop("segmentation")
    (trial / "boxes.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="not every object has a mask"):
        evaluate_weights(weights, str(trial / "boxes.json"))
    spec = DataSpec(name=str(trial / "boxes.json"))
    task = build_task("detection", SPEC, spec, {**OPTIONS, "masks": False}, Regularisation())
    scores = evaluate(task, task.build_model(), CPU, contextlib.nullcontext)
    assert "mask_loss" not in scores
    assert scores["test_loss"] == scores["detection_loss"]
