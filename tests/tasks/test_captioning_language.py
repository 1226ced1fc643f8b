"""Language models of transformers as the backbone, and the divergence of texts: tiny, built here, random weights."""

from __future__ import annotations

import math

import pytest
import torch

from patchscale.data import DataSpec
from patchscale.errors import InputError
from patchscale.tasks import ModelSpec, Regularisation
from patchscale.tasks.captioning import Captioning, Options
from patchscale.tasks.captioning.asking import Asked
from patchscale.tasks.captioning.divergence import divergence, text_divergence
from patchscale.tasks.captioning.language import HubLanguage
from patchscale.tasks.captioning.text import HubSpeller

transformers = pytest.importorskip("transformers")

TEXT = "<unk> </s> list all colours what colour is a1 b1 a2 b2 red green blue yellow why because sun rain"
WORDS = tuple(dict.fromkeys(TEXT.split()))


@pytest.fixture(scope="module")
def backbone(tmp_path_factory) -> str:
    """The directory of a Llama of two blocks that knows `WORDS`."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    folder = tmp_path_factory.mktemp("llama")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=len(WORDS), hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, eos_token_id=1, bos_token_id=None, pad_token_id=None,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    words = {word: number for number, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", eos_token="</s>"
    ).save_pretrained(folder)
    return str(folder)


def task(backbone: str, **options) -> Captioning:
    model = ModelSpec(name="deit_atto_patch16", patch_size=8, input_size=16, options={"depth": 1})  # pyright: ignore
    small = {"fusion_width": 16, "fusion_depth": 1, "fusion_heads": 2, "vision_tokens": 3, "backbone": backbone}
    data = DataSpec(name="glyphs", train_size=8, test_size=4, cells=2, colours=4)
    return Captioning(model, data, Options(**small, kinds={"dense": 1, "colour": 1}, **options), Regularisation())


def test_words_after_vision_tokens_are_the_models_own(backbone):
    language = HubLanguage(backbone).eval()
    vision, words = torch.randn(2, 3, language.width), torch.tensor([[2, 3, 4], [5, 6, 7]])
    rows = torch.cat([vision, language.model.get_input_embeddings()(words)], dim=1)
    whole = language.model(inputs_embeds=rows, output_hidden_states=True)
    torch.testing.assert_close(language(vision, words), whole.logits[:, 3:])
    torch.testing.assert_close(language.hidden(vision, words), whole.hidden_states[-1])


def test_a_tokenizer_spells_and_stops_at_its_end(backbone):
    speller = HubSpeller(backbone)
    numbers = speller.encode("list all colours")
    assert [speller.known[number] for number in numbers] == ["list", "all", "colours"]
    assert speller.known[speller.end] == "</s>"
    assert speller.decode([*numbers, speller.end, *numbers]) == "list all colours"


def test_a_frozen_backbone_is_trained_around(backbone):
    one = task(backbone, frozen=["language"])
    model = one.build_model()
    batch = one.batch(torch.arange(8), 0, slice(None))
    answers = Asked.of(batch).text
    assert answers.following[answers.counted].eq(one.spelling.end).sum() == 8
    loss = one.loss(model, batch)
    loss.backward()
    assert loss.item() == pytest.approx(math.log(len(one.classes)), rel=0.2)
    assert model.fusion.queries.grad.abs().sum() > 0
    assert all(part.grad is None for part in model.language.parameters())
    found = one.measure(model.eval(), torch.device("cpu"), torch.no_grad, torch.arange(4))
    scores = one.scores([found])
    assert 0 <= scores["dense_token_accuracy"] <= 1
    assert {"colour_exact_match", "test_loss"} <= set(scores)


def test_the_contrastive_stage_takes_a_backbone(backbone):
    one = task(backbone, objective="contrastive", frozen=["language"])
    model = one.build_model()
    one.loss(model, one.batch(torch.arange(4), 0, slice(None))).backward()
    assert model.text.weight.grad.abs().sum() > 0


def test_divergence_of_texts_is_that_of_their_answers_states(backbone):
    rows = [
        {"prompt": "why is rain blue", "chosen": "because rain is blue", "rejected": "because sun is"},
        {"prompt": "what colour is", "chosen": "red green blue yellow", "rejected": "green red a1 b1 why"},
    ]
    found = text_divergence(backbone, rows)
    assert (found.pairs, list(found.tokens)) == (2, [1, 2, 3])
    language, speller = HubLanguage(backbone).eval(), HubSpeller(backbone)
    sides = []
    for side in ("chosen", "rejected"):
        states = []
        for row in rows:
            prompt, answer = speller.encode(row["prompt"]), speller.encode(row[side])
            whole = language.model(torch.tensor([[*prompt, *answer]]), output_hidden_states=True).hidden_states[-1]
            states.append(whole[0, len(prompt) : len(prompt) + 3])
        sides.append(torch.stack(states))
    expected = divergence(*sides)
    for name in ("distance", "psi_eq", "psi_same", "psi_cross"):
        assert getattr(found, name)[1:] == pytest.approx(getattr(expected, name)[1:], abs=1e-5), name


def test_the_same_answer_twice_is_nothing_apart(backbone):
    found = text_divergence(backbone, [{"prompt": "why", "chosen": "sun is red", "rejected": "sun is red"}])
    assert found.distance == pytest.approx([0, 0, 0], abs=1e-6)
    assert found.psi_eq == pytest.approx([1, 1, 1], abs=1e-6)


def test_texts_are_cut_at_the_longest(backbone):
    row = {"prompt": "why is rain blue", "chosen": "because rain is blue", "rejected": "because sun is red"}
    assert list(text_divergence(backbone, [row], longest=6).tokens) == [1, 2]


def test_texts_that_cannot_be_measured(backbone, tmp_path):
    row = {"prompt": "why", "chosen": "sun", "rejected": "rain"}
    with pytest.raises(InputError, match=r"row 2 lacks \['rejected'\]"):
        text_divergence(backbone, [row, {"prompt": "why", "chosen": "sun"}])
    with pytest.raises(InputError, match="give longer answers"):
        text_divergence(backbone, [{"prompt": "why", "chosen": "", "rejected": "sun"}])
    with pytest.raises(InputError, match="no causal language model"):
        text_divergence(str(tmp_path), [])
