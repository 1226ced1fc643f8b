"""What a trained small model shows and says: examples of a finished trial, a user's own images, patch-text maps."""

from __future__ import annotations

import contextlib
import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from patchscale.cli import app
from patchscale.data import DataSpec
from patchscale.errors import InputError
from patchscale.tasks import ModelSpec, Regularisation, Trained
from patchscale.tasks.captioning import Captioning, Options
from patchscale.tasks.captioning.maps import map_picture, patch_text_maps
from patchscale.tasks.captioning.predict import predict
from patchscale.tasks.captioning.text import spell
from patchscale.training import Recipe, TrialConfig, train

CPU = torch.device("cpu")
SMALL = {"fusion_width": 16, "fusion_depth": 1, "fusion_heads": 2, "language_width": 16, "language_heads": 2}
NESTED = {**SMALL, "protocol": "nested", "nested": [1, 3], "kinds": {"dense": 1, "colour": 1}}
MODEL = {"name": "deit_atto_patch16", "patch_size": 8, "input_size": 24, "positions": "sincos", "options": {"depth": 1}}


def make(data: str = "glyphs", **options) -> Captioning:
    spec = DataSpec(name=data, train_size=12, test_size=6)
    return Captioning(ModelSpec.model_validate(MODEL), spec, Options(**{**SMALL, **options}), Regularisation())


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a nested trial of two steps."""
    folder = tmp_path_factory.mktemp("trial")
    config = TrialConfig(
        task="captioning",
        task_options=NESTED,
        model=ModelSpec.model_validate(MODEL),
        data=DataSpec(name="glyphs", train_size=16, test_size=6),
        recipe=Recipe(steps=2, batch_size=8, learning_rate=1e-3, precision="float32"),
        evaluations=1,
    )
    train(config, folder, device=CPU)
    return folder


def test_examples_are_test_images_with_an_answer_for_every_n(finished):
    task = make(**{k: v for k, v in NESTED.items() if k not in SMALL})
    index = json.loads((finished / "predictions" / "index.json").read_text())
    assert (index["kind"], index["counts"]) == ("captioning", [1, 3])
    assert [image["index"] for image in index["images"]] == [0, 2, 3, 5]
    for image in index["images"]:
        with Image.open(finished / "predictions" / image["image"]) as picture:
            shown = np.asarray(picture).transpose(2, 0, 1)
        assert (shown == task.test_set.read([image["index"]])[0].numpy()).all()
        dense, *pointed = image["asked"]
        exchanges = task.test_set.exchanges[image["index"]]
        assert (dense["question"], dense["truth"]) == (exchanges[0].question, exchanges[0].answers[0])
        assert [asked["kind"] for asked in pointed] == ["colour"] * 3
        for asked in image["asked"]:
            assert len(asked["said"]) == len(asked["right"]) == 2
            assert asked["right"] == [said == asked["truth"] for said in asked["said"]]


def test_own_images_are_asked_about_the_whole_and_a_file_asks_its_own(finished, tmp_path):
    Image.new("RGB", (40, 30), "red").save(tmp_path / "red.png")
    questions = tmp_path / "mine.jsonl"
    questions.write_text('{"image": "red.png", "question": "what colour is a1", "answer": ""}\n')
    weights = ["--weights", str(finished / "weights.safetensors"), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, ["predict", str(tmp_path / "red.png"), str(questions), *weights])
    assert done.exit_code == 0, done.output
    with (tmp_path / "out" / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["question"], row["vision_tokens"]) for row in rows] == [
        ("what colour is a1", "1"), ("what colour is a1", "3"), ("list all colours", "1"), ("list all colours", "3"),
    ]  # fmt: skip
    assert rows[3]["answer"] in done.output


def trained(task: Captioning, **changes) -> Trained:
    model = task.build_model().eval()
    return Trained(model, task.spec, task.data, task.options.model_dump(), task.classes, task.mean, task.std)._replace(
        **changes
    )


def test_predicting_without_a_question_to_ask(tmp_path):
    Image.new("RGB", (40, 30), "red").save(tmp_path / "red.png")
    task = make()
    with pytest.raises(InputError, match=r"no captioned set 'lost'.* give a JSONL file of lines"):
        predict(trained(task, data=DataSpec(name="lost")), [tmp_path / "red.png"], tmp_path, CPU)
    (tmp_path / "mine.jsonl").write_text('{"image": "none.png", "question": "what", "answer": ""}\n')
    with pytest.raises(InputError, match="line 1: no image at"):
        predict(trained(task), [tmp_path / "mine.jsonl"], tmp_path, CPU)
    with pytest.raises(InputError, match="cannot read"):
        predict(trained(task), [tmp_path / "absent.jsonl"], tmp_path, CPU)
    (tmp_path / "red.png").rename(tmp_path / "picture.jsonl")
    with pytest.raises(InputError, match="it is not text; give a JSONL file"):
        predict(trained(task), [tmp_path / "picture.jsonl"], tmp_path, CPU)


def test_maps_are_cosines_of_image_rows_with_the_answer():
    task = make(objective="contrastive")
    model = task.build_model().eval()
    images = task.batch(torch.arange(2), 0, slice(None)).inputs
    text = spell([[task.asking.turn(task.train_set.exchanges[row][0], 0)] for row in range(2)])
    found = patch_text_maps(model, images, text)
    assert found.shape == (2, 3, 3)
    rows = model.fusion.image_rows(model.image_tokens(images))
    words = model.language.embedding(text.following[1][text.counted[1]]).mean(0)
    mean = model.text(words)
    answer = mean.masked_fill((mean - mean.mean()).abs() > mean.std(), 0.0)
    for place in (0, 4, 8):
        expected = torch.nn.functional.cosine_similarity(rows[1, place], answer, dim=0)
        assert found[1].flatten()[place] == pytest.approx(expected.item(), abs=1e-5)


def test_maps_of_merged_views_are_of_the_whole_view():
    task = make(objective="contrastive", merge=True, views=(2, 2))
    images = task.batch(torch.arange(2), 0, slice(None)).inputs
    text = spell([[task.asking.turn(task.train_set.exchanges[row][0], 0)] for row in range(2)])
    assert patch_text_maps(task.build_model().eval(), images, text).shape == (2, 2, 2)


def test_a_map_colours_the_ends_and_leaves_the_middle():
    image = np.full((3, 8, 8), 100, dtype=np.uint8)
    picture = np.asarray(map_picture(image, np.array([[0.1, 0.3], [0.2, 0.2]]), opacity=1.0))
    assert picture[0, 0].tolist() == [31, 111, 180]
    assert picture[0, 7].tolist() == [200, 80, 10]
    assert picture[7, 0].tolist() == [100, 100, 100]


def test_the_contrastive_stage_draws_maps(tmp_path):
    task = make(objective="contrastive")
    model = task.build_model()
    task.illustrate(model, CPU, contextlib.nullcontext, tmp_path / "predictions")
    index = json.loads((tmp_path / "predictions" / "index.json").read_text())
    with Image.open(tmp_path / "predictions" / index["images"][0]["map"]) as picture:
        assert picture.size == (24, 24)
    Image.new("RGB", (40, 30), "red").save(tmp_path / "red.png")
    questions = tmp_path / "mine.jsonl"
    questions.write_text('{"image": "red.png", "question": "list all colours", "answer": "red red"}\n')
    found = predict(trained(task), [questions], tmp_path, CPU)
    assert found.rows[0]["answer"] == "red red"
    assert (tmp_path / "1_red.png").is_file()
    with pytest.raises(InputError, match="need an answer to look for"):
        predict(trained(task), [tmp_path / "red.png"], tmp_path, CPU)
