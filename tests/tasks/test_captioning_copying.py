"""Answers that are said twice: what is copied of them, and the attention heads that do it."""

from __future__ import annotations

import contextlib
import math

import pytest
import torch
import torch.nn.functional as F

from patchscale.data import DataSpec
from patchscale.tasks import ModelSpec, Regularisation
from patchscale.tasks.captioning import Captioning, Options
from patchscale.tasks.captioning.asking import Asked
from patchscale.tasks.captioning.copying import of_answers, prefix_matching, random_texts
from patchscale.tasks.captioning.decoder import Decoder, rotated, turns_at
from patchscale.tasks.captioning.language import SmallLanguage

CPU = torch.device("cpu")
SMALL = {"fusion_width": 16, "fusion_depth": 1, "fusion_heads": 2, "language_width": 16, "language_heads": 2}


def make(train_size: int = 12, **options) -> Captioning:
    model = ModelSpec(name="deit_zepto_patch16", patch_size=12, input_size=24, positions="sincos")  # pyright: ignore
    data = DataSpec(name="scenes", train_size=train_size, test_size=6)
    chosen = {**SMALL, "vision_tokens": 2, "kinds": {"caption": 1}, "sayings": 2, **options}
    return Captioning(model, data, Options(**chosen), Regularisation())


def measured(task: Captioning, model: torch.nn.Module, images: list[int]):
    return task.measure(model.eval(), CPU, contextlib.nullcontext, torch.tensor(images))


def test_an_answer_is_said_as_often_as_asked():
    task = make(sayings=3)
    text = Asked.of(task.batch(torch.arange(4), 1, slice(None))).text
    for row in range(4):
        answer = text.following[row][text.counted[row]].tolist()
        period = len(answer) // 3
        assert answer == answer[:period] * 3
        assert answer[period - 1] == task.spelling.end
        assert task.spelling.decode(answer) == " ".join(
            task.spelling.decode([number])
            for number in task.spelling.encode(task.train_set.exchanges[row][0].answers[0])
        )


def test_losses_of_first_and_later_sayings_are_those_of_their_words():
    """Against one text at a time, without padding, word by word."""
    task = make(sayings=3)
    model = task.build_model().eval()
    scores = task.scores([measured(task, model, list(range(6)))])
    first, later, count = 0.0, 0.0, 0
    for image in range(6):
        exchange = task.test_set.exchanges[image][0]
        question, answer = task.spelling.encode(exchange.question), task.spelling.encode(exchange.answers[0])
        said = [*answer, task.spelling.end]
        words = torch.tensor([[*question, *said * 3]])
        vision = model.vision(task.examination.inputs([image], CPU), None, 2)
        nats = F.cross_entropy(model.language(vision, words[:, :-1])[0], words[0, 1:], reduction="none")
        own = nats[len(question) - 1 :]
        assert len(own) == 3 * len(said)
        first, later, count = first + own[: len(said)].sum(), later + own[len(said) :].sum(), count + len(said)
    assert scores["first_saying_loss"] == pytest.approx(first.item() / count, rel=1e-5)
    assert scores["copying_loss"] == pytest.approx(later.item() / (2 * count), rel=1e-5)
    assert scores["test_loss"] == pytest.approx((first + later).item() / (3 * count), rel=1e-5)


def test_scores_do_not_depend_on_the_division():
    task = make()
    model = task.build_model()
    whole = task.scores([measured(task, model, list(range(6)))])
    divided = task.scores([measured(task, model, images) for images in ([4, 0], [5, 1, 2, 3])])
    assert whole.keys() == divided.keys()
    assert {"prefix_matching", "best_prefix_matching", "answer_prefix_matching"} <= whole.keys()
    for name, value in whole.items():
        assert divided[name] == pytest.approx(value, rel=1e-5), name


def test_answers_said_once_have_no_such_scores():
    task = make(sayings=1)
    scores = task.scores([measured(task, task.build_model(), [0, 1])])
    assert not [name for name in scores if "copying" in name or "matching" in name or "saying" in name]


def test_attention_is_what_the_blocks_mix_by():
    """Weights add up to one, see nothing later, and give the decoder's own output when they mix its values."""
    torch.manual_seed(0)
    decoder, x, positions = Decoder(16, 2, 2), torch.randn(3, 7, 16), torch.tensor([0, 1, 5, 6, 7, 8, 9])
    turns, rows = turns_at(positions, 8), x
    for block, weights in zip(decoder.blocks, decoder.attention(x, positions), strict=True):
        torch.testing.assert_close(weights.sum(3), torch.ones(3, 2, 7))
        assert torch.equal(weights.triu(1), torch.zeros(3, 2, 7, 7))
        value = block.qkv(block.norm1(rows)).view(3, 7, 3, 2, 8)[:, :, 2].transpose(1, 2)
        rows = rows + block.out((weights @ value).transpose(1, 2).reshape(3, 7, 16))
        inner = block.norm2(rows)
        rows = rows + block.down(F.silu(block.gate(inner)) * block.up(inner))
    torch.testing.assert_close(decoder.norm(rows), decoder(x, positions))
    assert rotated(value, turns).shape == value.shape


def test_prefix_matching_is_the_attention_to_what_came_after():
    torch.manual_seed(1)
    language, vision = SmallLanguage(20, 3, 16, 2, 2).eval(), torch.randn(2, 3, 16)
    text = [[4, 5, 6, 7, 5, 6, 7, 9, 9], [8, 8, 4, 5, 6, 9, 4, 5, 6]]  # questions of 1 and 2 words, periods 3 and 4
    words, first, period = torch.tensor(text), torch.tensor([4, 6]), torch.tensor([3, 4])
    found = prefix_matching(language, vision, words, first, period)
    maps = torch.cat(language.attention(vision, words), dim=1)
    for row, places in enumerate(([(4, 2), (5, 3)], [(6, 3), (7, 4), (8, 5)])):
        expected = sum(maps[row, :, 3 + here, 3 + there] for here, there in places) / len(places)
        torch.testing.assert_close(found[row], expected.double())


def test_a_head_that_copies_by_what_came_before_matches_and_one_that_looks_back_evenly_does_not():
    """Of random texts only: a model whose last block looks, by construction, at the word after the same word."""
    texts = random_texts([0, 1], 40)
    assert texts.shape == (2, 16)
    assert torch.equal(texts, random_texts([0, 1], 40))
    assert all(len(set(text.tolist())) == 16 and min(text) >= 3 for text in texts)

    class Induction(SmallLanguage):
        def attention(self, vision, words):
            count, length = vision.shape[1], words.shape[1]
            weights = torch.zeros(len(words), 2, count + length, count + length)
            for row in range(len(words)):
                for here in range(length):
                    before = [k for k in range(here) if words[row, k] == words[row, here]]
                    weights[row, 0, count + here, count + (before[-1] + 1 if before else 0)] = 1
            weights[:, 1] = (
                torch.ones(count + length, count + length).tril() / torch.arange(1, count + length + 1)[:, None]
            )
            return [weights]

    language, period = Induction(40, 3, 16, 1, 2), torch.tensor([16, 16])
    found = prefix_matching(language, torch.zeros(2, 3, 16), texts.repeat(1, 2), period, period)
    assert found[:, 0].tolist() == [1, 1]
    assert found[0, 1].item() == pytest.approx(sum(1 / (3 + here + 1) for here in range(16, 31)) / 15)


def test_answers_are_matched_behind_their_own_question():
    """Row by row without padding, place by place: from a word of the second saying to the one after it in the first."""
    task = make()
    model = task.build_model().eval()
    text = Asked.of(task.batch(torch.arange(3), 1, slice(None))).text
    vision = torch.randn(3, 2, 16)
    whole = of_answers(model.language, vision, text, 2)
    for row in range(3):
        exchange = task.train_set.exchanges[row][0]
        question, said = task.spelling.encode(exchange.question), task.spelling.encode(exchange.answers[0])
        words = [*question, *said, task.spelling.end, *said, task.spelling.end]
        maps = torch.cat(model.language.attention(vision[row : row + 1], torch.tensor([words[:-1]])), dim=1)[0]
        second = len(question) + len(said) + 1
        looked = [
            maps[:, 2 + second + place, 2 + len(question) + place + 1]  # two vision tokens come first
            for place in range(len(said))
        ]
        torch.testing.assert_close(whole[row], torch.stack(looked).mean(0).double())


def test_scores_are_means_over_images_and_of_them_the_best_head():
    task = make()
    part = measured(task, task.build_model(), [0, 1, 2])
    scores, heads = task.scores([part]), part.matching[:, 1:].mean(0)
    assert part.matching.shape == (3, 1 + 2 * 4)
    assert scores["prefix_matching"] == pytest.approx(heads[:4].mean().item())
    assert scores["best_prefix_matching"] == pytest.approx(heads[:4].max().item())
    assert scores["answer_prefix_matching"] == pytest.approx(heads[4:].mean().item())
    assert scores["best_answer_prefix_matching"] == pytest.approx(heads[4:].max().item())


def test_copying_is_learnt_from_answers_that_are_said_twice():
    """After some hundred updates a second saying costs much less than a first, of scenes that training never showed."""
    torch.manual_seed(0)
    task = make(640, bottleneck=None, noise=0, language_width=32, language_depth=2)
    model = task.build_model().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for step in range(200):
        loss = task.loss(model, task.batch(torch.randint(640, (48,)), step, slice(None)))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    scores = task.scores([measured(task, model, list(range(6)))])
    assert scores["copying_loss"] < 0.7 * scores["first_saying_loss"]
    assert math.isfinite(scores["best_answer_prefix_matching"])


@pytest.mark.parametrize("options", [{"turns": 2}, {"objective": "contrastive"}, {"backbone": "some"}])
def test_what_cannot_be_said_again_is_refused(options):
    with pytest.raises(ValueError, match="sayings 2"):
        Options(sayings=2, **options)
