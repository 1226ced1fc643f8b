"""Questions of a JSONL file put to a real model with n vision tokens: likelihood of the answer, and what it says."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from patchscale.data.captions import read_exchanges, words
from patchscale.data.decode import open_image
from patchscale.files import write_text
from patchscale.tasks.captioning.real_cost import measure_times, prefill_flops
from patchscale.tasks.captioning.real_models import ReducedVLM

LONGEST = 32


def prompt_inputs(processor: Any, image: Path, question: str, device: torch.device) -> dict[str, Tensor]:
    """What a model reads of an image file and a question; by the processor's chat template where it has one."""
    if getattr(processor, "chat_template", None):
        content = [{"type": "image"}, {"type": "text", "text": question}]
        text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    else:
        text = f"{getattr(processor, 'image_token', '<image>')}\n{question}"
    read = processor(images=open_image(image.read_bytes(), str(image)), text=text, return_tensors="pt")
    return {name: value.to(device) for name, value in read.items()}


def score_questions(
    model: ReducedVLM, processor: Any, questions: Path, counts: Sequence[int | None], out: Path, *, most: int = LONGEST
) -> list[dict[str, Any]]:
    """Asks every question at every n and writes a JSON line for each to `out`.

    Args:
        model: its `kept_tokens` is set to each of `counts`, and left as it was.
        processor: the model's own, `AutoProcessor.from_pretrained(...)`.
        questions: lines {"image": path beside the file, "question": text, "answer": text or list of texts}.
        counts: numbers of vision tokens; None: all.
        out: receives lines with vision_tokens, kind, question, answer, log_likelihood (nats, of the first answer),
            words (its tokens), said and exact_match.
        most: longest answer generated.

    Raises:
        InputError: a line that cannot be read, or an image that is missing.
    """
    device = next(model.model.parameters()).device
    end = processor.tokenizer.eos_token_id
    before, rows = model.kept_tokens, []
    try:
        for image, (kind, question, answers) in read_exchanges(questions):
            inputs = prompt_inputs(processor, image, question, device)
            spelled = processor.tokenizer(" " + answers[0], add_special_tokens=False, return_tensors="pt")["input_ids"]
            for count in counts:
                model.kept_tokens = count
                said = processor.tokenizer.decode(model.generate(inputs, most, end)[0], skip_special_tokens=True)
                row = {
                    "vision_tokens": count,
                    "kind": kind,
                    "question": question,
                    "answer": list(answers),
                    "log_likelihood": model.log_likelihood(inputs, spelled.to(device)).item(),
                    "words": spelled.shape[1],
                    "said": said.strip(),
                    "exact_match": any(words(said) == words(answer) for answer in answers),
                }
                rows.append(row)
    finally:
        model.kept_tokens = before
    write_text(out, "".join(json.dumps(row) + "\n" for row in rows))
    return rows


def token_curve(
    model: ReducedVLM, processor: Any, questions: Path, counts: Sequence[int | None], out: Path, *, runs: int = 3
) -> list[dict[str, Any]]:
    """S(n) of `score_questions` with what n costs of the whole pipeline beside it: a row for every n.

    FLOPs and seconds are those of the first question: fewer tokens save only the language model's part.

    Args:
        model, processor, questions, counts, out: as for `score_questions`.
        runs: timed runs, of which the median counts, after one to warm up.

    Returns:
        Dicts with vision_tokens, questions, exact_match, nats_per_word (of the right answers), the FLOPs encoder_flops,
        projector_flops and language_flops, and the seconds image, prefill and decode (see `Times`).

    Raises:
        InputError: as `score_questions`; a model that `prefill_flops` cannot count.
    """
    scored = score_questions(model, processor, questions, counts, out)
    image, exchange = next(read_exchanges(questions))
    inputs = prompt_inputs(processor, image, exchange.question, next(model.model.parameters()).device)
    text = int((inputs["input_ids"] != model.placeholder).sum())
    patches = len(inputs["pixel_values"]) if "image_grid_thw" in inputs else None
    before, rows = model.kept_tokens, []
    try:
        for count in counts:
            model.kept_tokens = count
            own = [row for row in scored if row["vision_tokens"] == count]
            flops = prefill_flops(model.model.config, text=text, kept_tokens=count, patches=patches)
            nats = -sum(row["log_likelihood"] for row in own) / sum(row["words"] for row in own)
            exact = sum(row["exact_match"] for row in own) / len(own)
            score = {"vision_tokens": count, "questions": len(own), "exact_match": exact, "nats_per_word": nats}
            costs = {f"{part}_flops": value for part, value in flops._asdict().items()}
            rows.append({**score, **costs, **measure_times(model, inputs, runs=runs)._asdict()})
    finally:
        model.kept_tokens = before
    return rows
