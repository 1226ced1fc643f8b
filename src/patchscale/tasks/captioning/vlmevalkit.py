"""A model with n vision tokens under VLMEvalKit's interface, so that its benchmarks can be run at every n.

VLMEvalKit is not needed to import this. To add a model, put into its `vlmeval/config.py`:

    from functools import partial
    from patchscale.tasks.captioning.vlmevalkit import ReducedForEvaluation
    supported_VLM["llava_64"] = partial(ReducedForEvaluation, "llava-hf/llava-1.5-7b-hf", kept_tokens=64)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from patchscale.errors import InputError
from patchscale.tasks.captioning.language import transformers
from patchscale.tasks.captioning.real_models import ReducedVLM
from patchscale.tasks.captioning.scoring import prompt_inputs

ANSWER_WORDS = {"OCRVQA": 100, "ChartQA": 100, "DocVQA": 100, "TextVQA": 10, "COCO": 32, "MMBench": 32, "POPE": 32}
"""Most words by the beginning of a data set's name, as published; others get 512."""


class ReducedForEvaluation:
    """What VLMEvalKit calls: `generate(message, dataset)`.

    Args:
        name: directory or hub name.
        processor: the model's own; loaded by name if not given.
        model: loaded by name if not given.
        device: where to put a loaded model.
        **options: of `ReducedVLM`, such as kept_tokens and reducer.
    """

    is_api = False
    INTERLEAVE = False

    def __init__(
        self, name: str, *, processor: Any = None, model: Any = None, device: Any = None, **options: Any
    ) -> None:
        self.model = ReducedVLM.load(name, device=device, **options) if model is None else ReducedVLM(model, **options)
        self.processor = transformers().AutoProcessor.from_pretrained(name) if processor is None else processor

    def use_custom_prompt(self, dataset: str) -> bool:
        """No: VLMEvalKit's own prompts."""
        return False

    def set_dump_image(self, function: Any) -> None:
        """Nothing to do: images come as paths."""

    def generate(self, message: Sequence[dict[str, str]] | str, dataset: str | None = None) -> str:
        """The answer to {"type": "image" | "text", "value": path or text} parts, exactly one of them an image.

        Raises:
            InputError: another number of images.
        """
        parts = [{"type": "text", "value": message}] if isinstance(message, str) else message
        images = [part["value"] for part in parts if part["type"] == "image"]
        if len(images) != 1:
            raise InputError(f"the message has {len(images)} images; this model is asked about exactly one")
        question = "\n".join(part["value"] for part in parts if part["type"] == "text")
        device = next(self.model.model.parameters()).device
        inputs = prompt_inputs(self.processor, Path(images[0]), question, device)
        most = next((words for start, words in ANSWER_WORDS.items() if (dataset or "").startswith(start)), 512)
        found = self.model.generate(inputs, most, self.processor.tokenizer.eos_token_id)
        return self.processor.tokenizer.decode(found[0], skip_special_tokens=True).strip()
