"""Real models by configuration alone, random weights: all tokens give the model as it is, fewer run, counts agree."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from patchscale.errors import InputError
from patchscale.tasks.captioning.real_cost import Times, measure_times, prefill_flops
from patchscale.tasks.captioning.real_models import ReducedVLM

transformers = pytest.importorskip("transformers")

TEXT = {
    "vocab_size": 60,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
IMAGE = 50
NAMED = {"image_token_id": IMAGE}


def llava():
    vision = {"hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
    config = transformers.LlavaConfig(
        vision_config=transformers.CLIPVisionConfig(**vision, image_size=32, patch_size=8),
        text_config=transformers.LlamaConfig(**TEXT),
        **NAMED,
    )
    return built(transformers.LlavaForConditionalGeneration, config), {"pixel_values": torch.randn(1, 3, 32, 32)}, 16


def paligemma():
    vision = {"hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = transformers.PaliGemmaConfig(
        vision_config=transformers.SiglipVisionConfig(**vision, image_size=32, patch_size=8, vision_use_head=False),
        text_config=transformers.GemmaConfig(**TEXT, head_dim=8),
        **NAMED,
        projection_dim=32,
        hidden_size=32,
    )
    return (
        built(transformers.PaliGemmaForConditionalGeneration, config),
        {"pixel_values": torch.randn(1, 3, 32, 32)},
        16,
    )


def qwen():
    rope = {"type": "default", "mrope_section": [1, 1, 2], "rope_type": "default"}
    vision = {
        "depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 4, "patch_size": 4,
        "spatial_merge_size": 2, "temporal_patch_size": 2, "window_size": 16, "out_hidden_size": 32,
        "fullatt_block_indexes": [1],
    }  # fmt: skip
    config = transformers.Qwen2_5_VLConfig(
        vision_config=vision,
        text_config={**TEXT, "rope_scaling": rope, "rope_parameters": {**rope, "rope_theta": 1e4}},
        image_token_id=IMAGE,
        vision_start_token_id=51,
        vision_end_token_id=52,
        video_token_id=53,
    )
    images = {
        "pixel_values": torch.randn(64, 3 * 2 * 4 * 4),
        "image_grid_thw": torch.tensor([[1, 8, 8]]),
    }
    return built(transformers.Qwen2_5_VLForConditionalGeneration, config), images, 16


FAMILIES = {"llava": llava, "paligemma": paligemma, "qwen": qwen}


def built(kind, config):
    torch.manual_seed(0)
    return kind._from_config(config, attn_implementation="eager").eval()


def asked(family: str, images: dict, count: int) -> dict:
    ids = torch.tensor([[3, 4, *[IMAGE] * count, 5, 6, 7]])
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), **images}
    if family == "paligemma":
        inputs["token_type_ids"] = torch.zeros_like(ids)
    if family == "qwen" and not transformers.__version__.startswith("4."):
        inputs["mm_token_type_ids"] = (ids == IMAGE).int()
    return inputs


@pytest.mark.parametrize("family", FAMILIES)
def test_all_tokens_are_the_model_as_it_is(family):
    model, images, count = FAMILIES[family]()
    inputs = asked(family, images, count)
    stock = model(**inputs).logits
    for kept in (None, count):
        assert torch.equal(ReducedVLM(model, kept_tokens=kept).logits(inputs), stock)
    said = model.generate(**inputs, max_new_tokens=5, do_sample=False, eos_token_id=None, pad_token_id=0)
    ours = ReducedVLM(model).generate(inputs, 5)
    assert said[0, -5:].tolist() == ours[0].tolist()


@pytest.mark.parametrize("family", FAMILIES)
def test_fewer_tokens_run_forward_and_generate(family):
    model, images, count = FAMILIES[family]()
    inputs = asked(family, images, count)
    for reducer in ("pool", "tome", "qr"):
        reduced = ReducedVLM(model, kept_tokens=5, reducer=reducer)
        logits = reduced.logits(inputs)
        assert logits.shape[:2] == (1, inputs["input_ids"].shape[1] - count + 5)
        assert torch.isfinite(logits).all()
        said = reduced.generate(inputs, 4)
        assert said.shape == (1, 4)
        assert said[0, 0] == logits[0, -1].argmax()
        answer = said[:, :2]
        assert reduced.log_likelihood(inputs, answer).item() <= 0


@pytest.mark.parametrize("family", FAMILIES)
def test_a_wrong_number_of_placeholders_is_told(family):
    model, images, count = FAMILIES[family]()
    with pytest.raises(InputError, match=f"{count - 1} image placeholders, the images have {count} features"):
        ReducedVLM(model, kept_tokens=4).logits(asked(family, images, count - 1))


@pytest.mark.parametrize("family", FAMILIES)
def test_prefill_flops_are_those_that_torch_counts(family):
    model, images, count = FAMILIES[family]()
    inputs = asked(family, images, count)
    for kept in (3, count):
        reduced = ReducedVLM(model, kept_tokens=kept)
        with FlopCounterMode(display=False) as counter:
            reduced.logits(inputs)
        predicted = prefill_flops(model.config, text=5, kept_tokens=kept, patches=64 if family == "qwen" else None)
        assert predicted.total == pytest.approx(counter.get_total_flops(), rel=0.005)


def test_attention_of_the_encoder_chooses_where_there_is_one():
    for family in ("llava", "paligemma"):
        model, images, count = FAMILIES[family]()
        for reducer in ("attention", "visionzip"):
            assert torch.isfinite(
                ReducedVLM(model, kept_tokens=4, reducer=reducer).logits(asked(family, images, count))
            ).all()
    model, images, count = qwen()
    with pytest.raises(InputError, match="use pool, tome or qr"):
        ReducedVLM(model, kept_tokens=4, reducer="attention").logits(asked("qwen", images, count))


def test_class_token_attention_is_what_llava_keeps_by():
    model, images, count = llava()
    reduced = ReducedVLM(model, kept_tokens=4, reducer="attention")
    tower = getattr(model, "model", model).vision_tower
    weights = tower(**images, output_attentions=True).attentions[-2][0].mean(0)[0, 1:]
    _, kept = reduced.features(asked("llava", images, count))
    assert kept[0][1].tolist() == sorted(weights.topk(4).indices.tolist())


def test_qwen_keeps_the_places_of_what_stays():
    model, images, count = qwen()
    inputs = asked("qwen", images, count)
    prepared = ReducedVLM(model, kept_tokens=4, reducer="random").prepare(inputs)
    kinds = {name: inputs[name] for name in ("mm_token_type_ids",) if name in inputs}
    whole, _ = model.model.get_rope_index(inputs["input_ids"], image_grid_thw=images["image_grid_thw"], **kinds)
    columns = {tuple(column) for column in whole[:, 0].T.tolist()}
    positions = prepared.arguments["position_ids"][:, 0].T.tolist()
    assert {tuple(column) for column in positions} <= columns
    assert positions[-1] == whole[:, 0, -1].tolist()


def test_times_are_measured_in_parts():
    model, images, count = llava()
    times = measure_times(ReducedVLM(model, kept_tokens=4), asked("llava", images, count), words=2, runs=1)
    assert isinstance(times, Times)
    assert min(times) > 0


def test_models_and_reducers_that_do_not_fit():
    model, _, _ = llava()
    with pytest.raises(InputError, match="has weights to be trained"):
        ReducedVLM(model, kept_tokens=4, reducer="filtering")
    with pytest.raises(InputError, match="gives no image features"):
        ReducedVLM(getattr(model, "model", model).language_model, kept_tokens=4)
    with pytest.raises(InputError, match="no count for model type"):
        prefill_flops(model.config.text_config, text=4)
    with pytest.raises(InputError, match="give patches"):
        prefill_flops(qwen()[0].config, text=4)


def test_without_transformers_the_rest_works_and_the_error_says_how_to_get_it():
    script = """
import sys
sys.modules["transformers"] = None
import patchscale.tasks.captioning
from patchscale.errors import InputError
from patchscale.tasks.captioning.real_models import ReducedVLM
try:
    ReducedVLM.load("anything")
except InputError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "pip install 'patchscale[vlm]'" in done.stdout, done.stderr


def processor():
    """LLaVA's own processor around a tokenizer of a few words."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    names = ["<unk>", "<s>", "</s>", "what", "colour", "red", "green", "describe", "the", "image"]
    words = {name: number for number, name in enumerate(names)} | {"<image>": IMAGE}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", eos_token="</s>", additional_special_tokens=["<image>"]
    )
    sizes = {"size": {"height": 32, "width": 32}, "crop_size": {"height": 32, "width": 32}}
    return transformers.LlavaProcessor(
        transformers.CLIPImageProcessor(**sizes), fast, patch_size=8, vision_feature_select_strategy="default",
        num_additional_image_tokens=1, image_token="<image>",
    )  # fmt: skip


def test_a_curve_has_scores_and_whole_costs_side_by_side(tmp_path):
    from PIL import Image

    from patchscale.tasks.captioning.scoring import token_curve

    Image.new("RGB", (40, 30), "red").save(tmp_path / "one.png")
    questions = tmp_path / "questions.jsonl"
    lines = [{"image": "one.png", "question": "what colour", "answer": answer} for answer in ("red", "green")]
    questions.write_text("".join(json.dumps(line) + "\n" for line in lines))
    model, _, _ = llava()
    reduced = ReducedVLM(model)
    few, whole = token_curve(reduced, processor(), questions, [4, None], tmp_path / "scores.jsonl", runs=1)
    assert (few["vision_tokens"], whole["vision_tokens"], few["questions"]) == (4, None, 2)
    assert few["encoder_flops"] == whole["encoder_flops"]
    assert few["language_flops"] < whole["language_flops"]
    rows = [json.loads(line) for line in (tmp_path / "scores.jsonl").read_text().splitlines()]
    own = [row["log_likelihood"] for row in rows if row["vision_tokens"] == 4]
    assert few["nats_per_word"] == pytest.approx(-sum(own) / 2)
    assert min(few["image"], few["prefill"], few["decode"]) > 0
    assert reduced.kept_tokens is None


def test_questions_of_a_file_are_scored_at_every_count(tmp_path):
    from PIL import Image

    from patchscale.tasks.captioning.scoring import score_questions
    from patchscale.tasks.captioning.vlmevalkit import ReducedForEvaluation

    Image.new("RGB", (40, 30), "red").save(tmp_path / "one.png")
    questions = tmp_path / "questions.jsonl"
    questions.write_text('{"image": "one.png", "question": "what colour", "answer": ["red", "green"]}\n')
    model, _, _ = llava()
    reduced = ReducedVLM(model)
    rows = score_questions(reduced, processor(), questions, [4, None], tmp_path / "scores.jsonl", most=3)
    assert [row["vision_tokens"] for row in rows] == [4, None]
    assert all(row["log_likelihood"] < 0 and row["words"] == 1 for row in rows)
    assert [json.loads(line) for line in (tmp_path / "scores.jsonl").read_text().splitlines()] == rows
    adapter = ReducedForEvaluation("llava", model=model, processor=processor(), kept_tokens=4)
    message = [{"type": "image", "value": str(tmp_path / "one.png")}, {"type": "text", "value": "what colour"}]
    assert isinstance(adapter.generate(message, "TextVQA_VAL"), str)
    with pytest.raises(InputError, match="has 0 images"):
        adapter.generate("what colour")
    questions.write_text('{"image": "none.png", "question": "what", "answer": "red"}\n')
    with pytest.raises(InputError, match="line 1: no image at"):
        score_questions(reduced, processor(), questions, [4], tmp_path / "scores.jsonl")
