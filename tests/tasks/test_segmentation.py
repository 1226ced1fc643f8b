"""Segmentation: sizes of published models, any image size, exact scores, and a trial from start to pictures."""

from __future__ import annotations

import contextlib
import json
import math
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from patchscale import models
from patchscale.data import Augment, DataSpec, Mixing
from patchscale.data.masks import IGNORED
from patchscale.errors import InputError
from patchscale.laws import published
from patchscale.tasks import ModelSpec, Regularisation, Trained, build_task
from patchscale.tasks.segmentation import Options, Segmentation, Segmenter
from patchscale.tasks.segmentation.confusion import class_scores, confusion, mean_scores
from patchscale.tasks.segmentation.inference import sliding_logits, whole_logits, window_starts
from patchscale.tasks.segmentation.upernet import level_scales
from patchscale.training import TrialConfig, load_weights, train
from patchscale.training.costs import cost_of_trial

CPU = torch.device("cpu")
SMALL = {"name": "adventurer_pico_patch16", "positions": "sincos", "options": {"depth": 2}}


def small_model(patch_size: int = 4, size=(24, 32), classes: int = 5, **changes) -> Segmenter:
    torch.manual_seed(0)
    arguments = {"channels": 8, "depth": 2, "positions": "sincos"} | changes
    name = arguments.pop("name", "adventurer_pico_patch16")
    model = Segmenter(name, input_size=size, patch_size=patch_size, num_classes=classes, **arguments)
    return model.eval()


def small_task(regularisation: Regularisation | None = None, **options) -> Segmentation:
    spec = ModelSpec(patch_size=8, input_size=(24, 32), **SMALL)
    data = DataSpec(name="scenes", train_size=12, test_size=7)
    options = {"channels": 8, "scale": (0.5, 2.0), "most_of_one_class": 0.8} | options
    task = build_task("segmentation", spec, data, options, regularisation or Regularisation())
    assert isinstance(task, Segmentation)
    return task


def millions(name: str, patch_size: int, decoder: str, side: int) -> tuple[float, float]:
    """Parameters of encoder and decoder in millions, 150 classes, positions of a grid of `side` pixels."""
    with torch.device("meta"):
        model = Segmenter(name, input_size=(side, side), patch_size=patch_size, num_classes=150, decoder=decoder)
    return tuple(sum(p.numel() for p in part.parameters()) / 1e6 for part in (model.encoder, model.decoder))


@pytest.mark.parametrize("side", [224, 512])
@pytest.mark.parametrize("patch_size", [16, 8])
def test_upernet_and_linear_layer_have_the_published_sizes(patch_size: int, side: int) -> None:
    assert millions("adventurer_base_patch16", patch_size, "upernet", side)[1] == pytest.approx(13.1, abs=0.05)
    assert millions("adventurer_tiny_patch16", patch_size, "upernet", side)[1] == pytest.approx(5.3, abs=0.05)
    for size in ("base", "tiny"):
        assert millions(f"adventurer_{size}_patch16", patch_size, "linear", side)[1] <= 0.2


def test_totals_are_those_of_table_2() -> None:
    """Positions of the grid of classification training, 224 pixels, from which segmentation starts."""
    table = published(2)
    rows = table[table["metric"] == "params_million"].to_dict("records")
    assert len(rows) == 10
    for row in rows:
        size = {"Adventurer-T": "tiny", "Adventurer-B": "base"}[row["model"]]
        total = sum(millions(f"adventurer_{size}_patch16", int(row["patch"]), row["decoder"].lower(), 224))
        if (size, row["patch"]) == ("base", 2):
            assert total - row["value"] == pytest.approx(6.9, abs=0.1), "12,545 rows of positions alone are 9.6 million"
        else:
            assert abs(total - row["value"]) <= 1.5, row


def test_levels_are_never_finer_than_a_pixel() -> None:
    assert level_scales(16) == level_scales(4) == (4, 2, 1, 0.5)
    assert level_scales(2) == (2, 1, 0.5, 0.25)
    assert level_scales(1) == (1, 0.5, 0.25, 0.125)


@pytest.mark.parametrize("name", ["adventurer_pico_patch16", "deit_pico_patch16"])
@pytest.mark.parametrize("decoder", ["upernet", "linear"])
@pytest.mark.parametrize("patch_size", [16, 8, 4, 2, 1])
def test_every_patch_size_gives_every_pixel_logits_and_gradients(patch_size: int, decoder: str, name: str) -> None:
    size = (32, 16) if patch_size > 2 else (6, 10)
    model = small_model(patch_size, size, name=name, decoder=decoder, auxiliary=True).train()
    logits, extra = model.forward_train(torch.randn(2, 3, *size))
    assert extra is not None
    assert logits.shape == extra.shape == (2, 5, *size)
    (logits.square().mean() + extra.square().mean()).backward()
    without = [n for n, p in model.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert [n for n in without if "cls_token" not in n] == []


def test_a_sample_does_not_depend_on_its_neighbours() -> None:
    model = small_model().train()
    images = torch.randn(3, 3, 24, 32)
    together = model(images)
    for row in range(3):
        assert torch.allclose(model(images[row : row + 1])[0], together[row], atol=1e-4)


@pytest.mark.parametrize("size", [(20, 30), (24, 32), (7, 5), (1, 1), (61, 33), (40, 200)])
@pytest.mark.parametrize("decoder", ["upernet", "linear"])
@pytest.mark.parametrize("name", ["adventurer_pico_patch16", "deit_pico_patch16"])
def test_images_of_any_size_get_logits_of_their_size(name: str, decoder: str, size: tuple[int, int]) -> None:
    model = small_model(8, name=name, decoder=decoder, positions="learned")
    images = torch.randn(1, 3, *size)
    for logits in (whole_logits(model, images), sliding_logits(model, images, 2 / 3)):
        assert logits.shape == (1, 5, *size)
        assert torch.isfinite(logits).all()


def test_one_window_is_the_whole_image_and_windows_are_averaged() -> None:
    model = small_model()
    images = torch.randn(1, 3, 24, 48)
    assert torch.equal(sliding_logits(model, images[..., :32], 0.5), model(images[..., :32]))
    expected = torch.zeros(1, 5, 24, 48)
    counts = torch.zeros(48)
    for left in (0, 16):
        expected[..., left : left + 32] += model(images[..., left : left + 32])
        counts[left : left + 32] += 1
    assert torch.allclose(sliding_logits(model, images, 0.5), expected / counts, atol=1e-6)


@pytest.mark.parametrize("step", [0.1, 0.5, 2 / 3, 1.0])
@pytest.mark.parametrize("length", [32, 33, 47, 64, 101])
def test_windows_cover_every_pixel_and_stay_inside(length: int, step: float) -> None:
    starts = window_starts(length, 32, step)
    assert {pixel for start in starts for pixel in range(start, start + 32)} == set(range(length))


def brute_force(predicted: np.ndarray, truth: np.ndarray, classes: int) -> dict[str, float]:
    """The three scores by counting pixel sets."""
    counted = truth != IGNORED
    ious, accuracies = [], []
    for number in range(classes):
        said, real = (predicted == number) & counted, (truth == number) & counted
        if (said | real).any():
            ious.append((said & real).sum() / (said | real).sum())
        if real.any():
            accuracies.append((said & real).sum() / real.sum())
    right = (predicted == truth)[counted]
    return {"miou": np.mean(ious), "mean_accuracy": np.mean(accuracies), "pixel_accuracy": right.mean()}


@pytest.mark.parametrize("seed", range(5))
def test_scores_equal_a_brute_force_count(seed: int) -> None:
    rng = np.random.default_rng(seed)
    classes = int(rng.integers(2, 9))
    truth = rng.integers(0, classes, (3, 17, 23)).astype(np.uint8)
    truth[truth == 1] = rng.choice([0, IGNORED], (truth == 1).sum())
    predicted = rng.integers(0, classes - 1, truth.shape)
    table = sum(
        confusion(torch.from_numpy(p), torch.from_numpy(t), classes) for p, t in zip(predicted, truth, strict=True)
    )
    assert int(table.sum()) == (truth != IGNORED).sum()
    assert mean_scores(table) == pytest.approx(brute_force(predicted, truth, classes), abs=1e-12)
    assert sum(score.share for score in class_scores(table)) == pytest.approx(1)


def test_nothing_counted_gives_finite_scores_and_no_gradient() -> None:
    task = small_task()
    model = task.build_model()
    batch = task.batch(torch.arange(3), 0, slice(0, 3))
    loss = task.loss(model, type(batch)(batch.inputs, torch.full_like(batch.targets, IGNORED)))
    loss.backward()
    assert loss.item() == 0
    assert not any(p.grad.any() for p in model.parameters() if p.grad is not None)
    table = confusion(torch.zeros(4, dtype=torch.long), torch.full((4,), IGNORED, dtype=torch.uint8), 3)
    assert mean_scores(table) == {"miou": 0.0, "mean_accuracy": 0.0, "pixel_accuracy": 0.0}


def test_a_batch_and_its_loss_are_the_sum_of_their_parts() -> None:
    task = small_task(Regularisation(Augment(horizontal_flip=0.5, color_jitter=0.4)), auxiliary=0.4)
    model, indices = task.build_model(), torch.tensor([3, 3, 0, 7, 11])
    whole = task.batch(indices, 9, slice(0, 5))
    parts = [task.batch(indices, 9, rows) for rows in (slice(0, 2), slice(2, 5))]
    assert torch.equal(whole.inputs, torch.cat([part.inputs for part in parts]))
    assert torch.equal(whole.targets, torch.cat([part.targets for part in parts]))
    assert not torch.equal(whole.inputs[0], whole.inputs[1]), "the same sample twice in a batch is cut twice"
    divided = sum(task.loss(model, part) * len(part) / 5 for part in parts)
    assert divided.item() == pytest.approx(task.loss(model, whole).item(), rel=1e-5)


@pytest.mark.parametrize("options", [{}, {"score_size": "original", "inference": "slide"}])
def test_scores_do_not_depend_on_the_division(options: dict) -> None:
    task = small_task(**options)
    model = task.build_model().eval()
    order = random.Random(0).sample(range(7), 7)
    with torch.no_grad():
        whole = task.scores([task.measure(model, CPU, contextlib.nullcontext, torch.arange(7))])
        parts = [task.measure(model, CPU, contextlib.nullcontext, torch.tensor(order[k::3])) for k in range(3)]
    assert task.scores(parts) == whole
    assert set(whole) == {"test_loss", "miou", "mean_accuracy", "pixel_accuracy"}
    assert 0 < whole["test_loss"] < 2 * math.log(7)


def test_the_test_loss_is_the_mean_over_counted_pixels(tmp_path) -> None:
    for side in ("train", "val"):
        for place in (side, f"{side}annot"):
            (tmp_path / place).mkdir()
        for index, share in enumerate((1.0, 0.25)):
            mask = np.zeros((24, 32), dtype=np.uint8)
            mask[int(24 * share) :] = 255
            mask[0, :16] = 1
            Image.fromarray(mask).save(tmp_path / f"{side}annot" / f"{index}.png")
            image = np.random.default_rng(index).integers(0, 255, (24, 32, 3)).astype(np.uint8)
            Image.fromarray(image).save(tmp_path / side / f"{index}.png")
    spec = ModelSpec(patch_size=8, input_size=(24, 32), **SMALL)
    task = build_task("segmentation", spec, DataSpec(name=str(tmp_path)), {"decoder": "linear"}, Regularisation())
    model = task.build_model().eval()
    total, count = 0.0, 0
    with torch.no_grad():
        for index in range(2):
            image, mask = task.test_set.test_view(index, original=True)
            logits = task.logits(model, image, CPU, contextlib.nullcontext, mask.shape)[0].log_softmax(0)
            for row, column in zip(*np.nonzero(mask != IGNORED), strict=True):
                total -= logits[mask[row, column], row, column].item()
                count += 1
        scores = task.scores([task.measure(model, CPU, contextlib.nullcontext, torch.arange(2))])
    assert count == 24 * 32 + 6 * 32
    assert scores["test_loss"] == pytest.approx(total / count, rel=1e-5)


def stored(path: Path) -> np.ndarray:
    """The values of an image file."""
    with Image.open(path) as image:
        return np.asarray(image)


def trial(**changes) -> TrialConfig:
    content = {
        "task": "segmentation",
        "task_options": {"channels": 8, "scale": [0.5, 2.0]},
        "model": {"patch_size": 8, "input_size": "24x32", **SMALL},
        "data": {"name": "scenes", "train_size": 16, "test_size": 6},
        "recipe": {"steps": 3, "batch_size": 4, "learning_rate": 3e-3, "precision": "float32"},
        "evaluations": 2,
    }
    return TrialConfig.model_validate(content | changes)


@pytest.mark.parametrize("decoder", ["upernet", "linear"])
@pytest.mark.parametrize("auxiliary", [0.0, 0.4])
def test_a_trial_counts_all_of_its_parameters(decoder: str, auxiliary: float) -> None:
    config = trial(task_options={"channels": 8, "decoder": decoder, "auxiliary": auxiliary})
    model = Segmentation.network(config.model, 7, Options.model_validate(config.task_options))
    cost = cost_of_trial(config, 7)
    assert cost.params == sum(p.numel() for p in model.parameters())
    head, flops = Segmentation.head_cost(config.model, 7, Options.model_validate(config.task_options))
    assert 0 < head < cost.params
    if decoder == "linear" and not auxiliary:
        assert flops == 2 * 12 * 64 * 7, "12 tokens of width 64, 7 classes"


def test_a_trial_leaves_weights_scores_and_pictures(tmp_path) -> None:
    config = trial()
    row = train(config, tmp_path, device=CPU)
    assert {"test_loss", "miou", "mean_accuracy", "pixel_accuracy"} <= set(row)
    trained = load_weights(tmp_path / "weights.safetensors")
    task = build_task(config.task, config.model, config.data, config.task_options, Regularisation())
    with torch.no_grad():
        part = task.measure(trained.model, CPU, contextlib.nullcontext, torch.arange(6))
    assert task.scores([part])["test_loss"] == row["test_loss"]
    about = json.loads((tmp_path / "predictions" / "index.json").read_text())
    assert [entry["class"] for entry in about["classes"]] == list(task.classes)
    ious = [entry["iou"] for entry in about["classes"] if entry["iou"] is not None]
    assert sum(ious) / len(ious) == pytest.approx(row["miou"])
    assert len(about["images"]) == 4
    for entry in about["images"]:
        truth = stored(tmp_path / "predictions" / entry["truth"])
        assert np.array_equal(truth, task.test_set.test_view(entry["index"], original=False)[1])
        predicted = stored(tmp_path / "predictions" / entry["prediction"])
        assert predicted.shape == truth.shape == (24, 32)
        assert predicted.max() < 7


def test_an_encoder_starts_from_classification_on_a_non_square_grid(tmp_path) -> None:
    model = {"name": "deit_pico_patch16", "patch_size": 8, "positions": "learned", "options": {"depth": 2}}
    first = TrialConfig.model_validate(
        {
            "model": {**model, "input_size": 32},
            "data": {"name": "digits_in_clutter", "train_size": 16, "test_size": 8},
            "recipe": {"steps": 2, "batch_size": 4, "precision": "float32"},
            "evaluations": 1,
        }
    )
    train(first, tmp_path / "classification", device=CPU)
    weights = tmp_path / "classification" / "weights.safetensors"
    source = load_weights(weights).model
    task = build_task(
        "segmentation",
        ModelSpec(**model, input_size=(24, 40)),
        DataSpec(name="scenes", train_size=4, test_size=2),
        {"channels": 8},
        Regularisation(),
    )
    segmenter = task.build_model()
    report = models.load_resized(task.encoder(segmenter), weights)
    assert set(report.resized) == {"pos_embed"}
    assert set(report.left_over) == {"head.weight", "head.bias"}
    assert report.missing == []
    kept = dict(segmenter.encoder.named_parameters())
    for name, value in source.named_parameters():
        if name.startswith("blocks"):
            assert torch.equal(kept[name], value)
    assert segmenter.encoder.pos_embed.shape == (1, 3 * 5 + 1, 64)


@pytest.mark.parametrize(
    ("regularisation", "message"),
    [
        (Regularisation(Augment(random_erasing=0.2)), "recipe.augment.random_erasing is not for segmentation"),
        (Regularisation(mixing=Mixing(mixup_alpha=0.8)), "recipe.mixing is not for segmentation"),
    ],
)
def test_what_masks_cannot_take_is_refused(regularisation: Regularisation, message: str) -> None:
    with pytest.raises(InputError, match=message):
        small_task(regularisation)


@pytest.mark.parametrize("options", [{"scale": [2.0, 0.5]}, {"channels": 10}, {"decoder": "fcn"}])
def test_options_that_mean_nothing_are_refused(options: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        trial(task_options=options)


def test_an_encoder_that_drops_tokens_is_refused() -> None:
    spec = ModelSpec(patch_size=8, input_size=(24, 32), reducer="average", kept_tokens=6, **SMALL)
    with pytest.raises(InputError, match=r"model.reducer 'average' leaves places without a token"):
        Segmentation.network(spec, 5, Options())


def test_predict_writes_labels_and_pictures_at_the_size_of_the_image(tmp_path) -> None:
    task = small_task()
    model = task.build_model().eval()
    known = Trained(model, task.spec, task.data, {"channels": 8}, task.classes, task.mean, task.std)
    rng = np.random.default_rng(0)
    for name, size in (("tiny.png", (20, 30)), ("odd.png", (33, 61))):
        Image.fromarray(rng.integers(0, 255, (*size, 3)).astype(np.uint8)).save(tmp_path / name)
    out = tmp_path / "out"
    out.mkdir()
    found = Segmentation.predict(known, [tmp_path / "tiny.png", tmp_path / "odd.png"], out, CPU)
    for stem, size in (("1_tiny", (20, 30)), ("2_odd", (33, 61))):
        labels, drawn = (stored(out / f"{stem}{ending}.png") for ending in ("_labels", ""))
        assert labels.shape == size
        assert drawn.shape == (*size, 3)
        rows = [row for row in found.rows if stem[2:] in row["image"]]
        assert {row["class"]: row["pixels"] for row in rows} == {
            task.classes[value]: int((labels == value).sum()) for value in np.unique(labels)
        }
        assert sum(row["share"] for row in rows) == pytest.approx(1)
    Image.fromarray(np.zeros((2, 90, 3), dtype=np.uint8)).save(tmp_path / "slender.png")
    with pytest.raises(
        InputError, match=r"slender.png is 2x90 .* more than 16 times as slender as the input size 24x32"
    ):
        Segmentation.predict(known, [tmp_path / "slender.png"], out, CPU)


def test_a_width_that_cannot_be_grouped_is_refused() -> None:
    with pytest.raises(InputError, match="decoder channels 10 is not a multiple of 4"):
        small_model(channels=10)


@pytest.mark.parametrize("decoder", ["upernet", "linear"])
def test_four_scenes_can_be_learnt_by_heart(decoder: str) -> None:
    """At patches of 2 pixels; calling everything ground would give 87 % of the pixels."""
    spec = ModelSpec(name="deit_pico_patch16", patch_size=2, input_size=(16, 24), options={"depth": 4})
    data = DataSpec(name="scenes", train_size=4, test_size=1)
    torch.manual_seed(0)
    task = build_task("segmentation", spec, data, {"decoder": decoder, "channels": 16}, Regularisation())
    model = task.build_model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    batch = task.batch(torch.arange(4), 0, slice(0, 4))
    first = task.loss(model, batch).item()
    for _ in range(100):
        optimizer.zero_grad()
        task.loss(model, batch).backward()
        optimizer.step()
    assert task.loss(model, batch).item() < first / 8
    right = model(batch.inputs).argmax(1) == batch.targets
    assert right.float().mean() > 0.92
