"""The captioning task: nested queries, what the language model sees, pure batches, exact scores."""

from __future__ import annotations

import contextlib

import pytest
import torch

from patchscale.data import Augment, DataSpec, normalise
from patchscale.data.captions import load_captions
from patchscale.errors import InputError
from patchscale.tasks import ModelSpec, Regularisation
from patchscale.tasks.captioning import Captioning, Options
from patchscale.tasks.captioning.asking import Asked
from patchscale.tasks.captioning.contrastive import gram_loss, matching_loss, trimmed

SMALL = {"fusion_width": 16, "fusion_depth": 1, "fusion_heads": 2, "language_width": 16, "language_heads": 2}
CPU = torch.device("cpu")


def make(task_data: str = "glyphs", size: int = 24, patch: int = 8, **options) -> Captioning:
    model = ModelSpec(
        name="deit_atto_patch16",
        patch_size=patch,
        input_size=size,  # pyright: ignore[reportArgumentType]
        positions="sincos",
        options={"depth": 1},
    )
    data = DataSpec(name=task_data, train_size=12, test_size=6)
    if "nested" in options:
        options["protocol"] = "nested"
    return Captioning(model, data, Options(**{**SMALL, "vision_tokens": 5, **options}), Regularisation())


def measured(task: Captioning, model: torch.nn.Module, indices: torch.Tensor):
    return task.measure(model.eval(), CPU, contextlib.nullcontext, indices)


def test_fewer_queries_are_the_first_of_more():
    for question in ("inside", "outside"):
        task = make(question=question)
        model = task.build_model().eval()
        batch = task.batch(torch.arange(6), 3, slice(None))
        many = model.vision(batch.inputs, Asked.of(batch).text.question, 5)
        few = model.vision(batch.inputs, Asked.of(batch).text.question, 2)
        torch.testing.assert_close(many[:, :2], few)


def test_the_question_reaches_the_vision_tokens_only_inside():
    for question, same in (("inside", False), ("outside", True)):
        task = make(question=question)
        model = task.build_model().eval()
        images = task.batch(torch.arange(2), 0, slice(None)).inputs
        found = [model.vision(images, torch.tensor(asked), 5) for asked in ([[4, 5], [4, 5]], [[4, 6], [4, 6]])]
        assert torch.equal(*found) == same


def test_padding_of_a_question_changes_nothing():
    task = make(question="inside")
    model = task.build_model().eval()
    images = task.batch(torch.arange(1), 0, slice(None)).inputs
    first = model.vision(images, torch.tensor([[4, 5, -1]]), 5)
    model.fusion.words.weight.data[0] += 1.0  # the row that padding looks up
    assert torch.equal(first, model.vision(images, torch.tensor([[4, 5, -1]]), 5))
    alone = model.vision(images, torch.tensor([[4, 5]]), 5)
    for padded in ([[4, 5, -1]], [[4, 5, -1, -1, -1, -1]]):
        torch.testing.assert_close(model.vision(images, torch.tensor(padded), 5), alone)


def test_loss_counts_answers_only_and_the_next_word():
    task = make(bottleneck=None)
    text = Asked.of(task.batch(torch.arange(4), 1, slice(None))).text
    for row in range(4):
        answer = text.following[row][text.counted[row]].tolist()
        assert answer[-1] == task.spelling.end
        assert task.spelling.decode(answer) in {
            answer for exchange in task.train_set.exchanges[row] for answer in exchange.answers
        }
        assert torch.equal(text.words[row][1:], text.following[row][:-1])


def test_batches_are_pure_and_their_parts_are_the_whole():
    task = make(nested=[1, 3, 5], turns=2)
    indices = torch.tensor([3, 1, 4, 1, 5, 9, 2, 6])
    whole = task.batch(indices, 11, slice(None))
    parts = [task.batch(indices, 11, rows) for rows in (slice(0, 3), slice(3, 8))]
    assert {Asked.of(part).count for part in parts} == {Asked.of(whole).count}
    assert torch.equal(torch.cat([part.inputs for part in parts]), whole.inputs)
    assert torch.equal(torch.cat([Asked.of(part).noise for part in parts]), Asked.of(whole).noise)
    model = task.build_model()
    losses = [task.loss(model, part) * len(part) / 8 for part in parts]
    torch.testing.assert_close(sum(losses), task.loss(model, whole))
    counts = {Asked.of(task.batch(indices, seed, slice(0, 1))).count for seed in range(30)}
    assert counts == {1, 3, 5}


def test_a_batch_travels_between_devices():
    batch = make().batch(torch.arange(3), 0, slice(None))
    moved = batch.to(torch.device("meta"))
    assert moved.inputs.is_meta
    assert all(part.is_meta for part in Asked.of(moved).text)
    assert Asked.of(moved).count == 5


def test_scores_do_not_depend_on_the_division():
    task = make(nested=[1, 2, 5])
    model = task.build_model()
    whole = task.scores([measured(task, model, torch.arange(6))])
    parts = [measured(task, model, torch.tensor(rows)) for rows in ([4, 0], [5, 1, 2, 3])]
    divided = task.scores(parts)
    assert whole.keys() == divided.keys()
    for name, value in whole.items():
        assert divided[name] == pytest.approx(value, rel=1e-5), name
    assert whole["test_loss"] == whole["test_loss_n5"] != whole["test_loss_n1"]


def test_nested_scores_are_those_of_each_count_alone():
    task, alone = make(nested=[2, 5]), make(vision_tokens=5)
    model = task.build_model()
    nested = task.scores_by_count([measured(task, model, torch.arange(6))])
    single = alone.scores_by_count([measured(alone, model, torch.arange(6))])
    assert nested[5] == single[5]


def test_exact_match_is_what_greedy_decoding_says():
    task = make()
    model = task.build_model().eval()
    part = measured(task, model, torch.arange(6))
    for (image, number, _), exact in zip(part.items.tolist(), part.exact[0].tolist(), strict=True):
        exchange = task.test_set.exchanges[image][number]
        asked = torch.tensor([task.spelling.encode(exchange.question)])
        inputs = normalise(task.test_set.read([image]), task.mean, task.std)
        said = model.generate(model.vision(inputs, None, 5), asked, task.spelling.end, 12)[0].tolist()
        assert (task.spelling.decode(said) == exchange.answers[0]) == exact


def test_captions_of_scenes_are_generated_and_scored():
    task = make("scenes", 32, 16)
    scores = task.scores([measured(task, task.build_model(), torch.arange(6))])
    assert {"bleu1", "bleu4", "rouge_l", "cider", "side_exact_match", "caption_loss"} <= set(scores)


def test_real_captions(real_data):
    data = DataSpec(name="coco-small", root=str(real_data / "coco-small"), limit_train=8, limit_test=4)
    model = ModelSpec(name="deit_atto_patch16", patch_size=16, input_size=32, options={"depth": 1})  # pyright: ignore
    task = Captioning(model, data, Options(**SMALL, vision_tokens=4), Regularisation())
    network = task.build_model()
    assert torch.isfinite(task.loss(network, task.batch(torch.arange(8), 0, slice(None))))
    scores = task.scores([measured(task, network, torch.arange(4))])
    assert 0 <= scores["rouge_l"] <= 1


def test_views_and_merge_have_the_published_number_of_rows():
    task = make("scenes", 48, 2, merge=True, views=(2, 2))
    model = task.build_model().eval()
    images = task.batch(torch.arange(2), 0, slice(None)).inputs
    assert images.shape == (2, 3, 96, 96)
    assert model.image_tokens(images).shape[1] == 5 * 145
    assert torch.equal(model.cut(images)[:, 2], images[:, :, :48, 48:])


def test_glyphs_are_drawn_as_they_are_described():
    spec = DataSpec(name="glyphs", train_size=20, cells=3, colours=4)
    found = load_captions(spec, "train", (24, 24))
    palette = {"red": 0, "green": 1, "blue": 2}
    checked = 0
    for image, exchanges in zip(found.read(range(20)), found.exchanges, strict=True):
        for cell, name in enumerate(exchanges[0].answers[0].split()):
            row, column = divmod(cell, 3)
            part = image[:, row * 8 : row * 8 + 8, column * 8 : column * 8 + 8].flatten(1).max(1).values
            if name in palette:
                assert int(part.argmax()) == palette[name]
                checked += 1
    assert checked > 50
    again = load_captions(spec, "train", (24, 24))
    assert (again.pixels == found.pixels).all()


def test_contrastive_stage():
    task = make(objective="contrastive")
    model = task.build_model()
    loss = task.loss(model, task.batch(torch.arange(6), 0, slice(None)))
    loss.backward()
    assert model.fusion.queries.grad.abs().sum() > 0
    parts = [measured(task, model, torch.tensor(rows)) for rows in ([3, 0], [5, 1, 2, 4])]
    whole = task.scores([measured(task, model, torch.arange(6))])
    assert task.scores(parts) == pytest.approx(whole, rel=1e-5)
    assert 0 <= whole["retrieval"] <= 1
    eye = torch.eye(4)[None]
    assert gram_loss(eye) == 0
    assert gram_loss(torch.ones(1, 4, 4)) == pytest.approx(12 / 16)
    assert matching_loss(eye[0], eye[0], torch.tensor(100.0)) < 1e-6
    rows = trimmed(torch.tensor([[0.0, 0.0, 0.0, 0.0, 10.0]]))
    assert rows.tolist() == [[0.0, 0.0, 0.0, 0.0, 0.0]]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"protocol": "nested"}, "needs nested"),
        ({"queries": 4}, "fewer than 5"),
        ({"nested": [1, 1]}, "different positive"),
        ({"question": "inside", "turns": 2}, "turns 1"),
        ({"kinds": {"dense": 0.0}}, "relative frequencies"),
    ],
)
def test_options_that_do_not_fit(options, words):
    with pytest.raises(ValueError, match=words):
        Options(vision_tokens=5, **options)


def test_augmentation_that_changes_answers_is_refused():
    model = ModelSpec(name="deit_atto_patch16", patch_size=8, input_size=24)  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="horizontal_flip is not for captioning, which takes color_jitter"):
        Captioning(model, DataSpec(name="glyphs"), Options(), Regularisation(Augment(horizontal_flip=0.5)))
