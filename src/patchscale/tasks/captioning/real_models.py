"""Vision-language models of transformers with n vision tokens instead of all: LLaVA, PaliGemma, SmolVLM, Qwen-VL.

Image features come from the model's own `get_image_features`, projector included; a reducer keeps n rows of each; as
many placeholders stay in the text, and the model runs from embedded rows. With n = N nothing is reduced and the numbers
are those of the model as it is. A model that cuts an image into tiles keeps n rows of each tile.

Shape letters: B texts, L their rows, b images or tiles, N features of one, n kept, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from patchscale.errors import InputError
from patchscale.tasks.captioning.language import transformers
from patchscale.tasks.captioning.real_features import Features, body_of, image_features, taken_by, tower_of
from patchscale.tokens.reducers import build_reducer

TEXT_INPUTS = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids", "position_ids", "labels")


class Prepared(NamedTuple):
    """What the language model reads."""

    arguments: dict[str, Tensor]
    """Of the model's forward: rows, mask, and positions where the model cannot tell them itself."""
    following: Tensor | None
    """Position of the first generated word, int64 [3, B, 1], where positions are given."""
    ids: Tensor
    """The text with the placeholders that stay, int64 [B, L]."""


class ReducedVLM:
    """A model of transformers that sees n vision tokens of each image.

    Args:
        model: an image-text-to-text model.
        kept_tokens: n; None: all, the model as it is.
        reducer: one without parameters, such as `pool`, `tome`, `qr`, `attention`, `visionzip`.
        **options: of the reducer.

    Raises:
        InputError: a model of another kind, or a reducer that must be trained first.
    """

    def __init__(self, model: Any, *, kept_tokens: int | None = None, reducer: str = "pool", **options: Any) -> None:
        self.model, self.kept_tokens, self.name = model, kept_tokens, reducer
        self.body = body_of(model)
        self.reducer = build_reducer(reducer, dim=self._width(), slots=kept_tokens or 1, **options).eval()
        if any(True for _ in self.reducer.parameters()):
            raise InputError(
                f"reducer {reducer} has weights to be trained; use one of pool, tome, qr, attention, random"
            )
        self.placeholder = int(getattr(model.config, "image_token_id", None) or model.config.image_token_index)
        tower = tower_of(model)
        if self.reducer.needs_scores and hasattr(tower, "set_attn_implementation"):
            tower.set_attn_implementation("eager")  # others do not give attention weights

    @classmethod
    def load(cls, name: str, *, device: torch.device | None = None, dtype: Any = "auto", **options: Any) -> ReducedVLM:
        """The model in a directory or on the hub; `options` are those of the constructor.

        Raises:
            InputError: transformers is missing, or there is no such model.
        """
        library = transformers()
        try:
            model = library.AutoModelForImageTextToText.from_pretrained(name, dtype=dtype)
        except (OSError, ValueError) as error:
            first = str(error).strip().splitlines()[0]
            raise InputError(f"no vision-language model {name!r}: {first}; give a directory or a hub name") from error
        return cls(model.to(device or "cpu").eval(), **options)

    @torch.no_grad()
    def logits(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Logits [B, L, words] for what a processor of transformers gives.

        Raises:
            InputError: the text has not as many placeholders as the images have features.
        """
        return self.model(**self.prepare(inputs).arguments, use_cache=False).logits

    @torch.no_grad()
    def generate(self, inputs: Mapping[str, Tensor], most: int, end: int | None = None) -> Tensor:
        """Most probable words after the text, int64 [B, up to `most`]; after `end`, `end` again."""
        prepared = self.prepare(inputs)
        found = self.model(**prepared.arguments, use_cache=True, **self.last_alone)
        return self.continue_from(prepared, found, most, end)

    @property
    def last_alone(self) -> dict[str, int]:
        """Asks for the logits of the last row alone, of models that can leave out the others."""
        return {"logits_to_keep": 1} if "logits_to_keep" in taken_by(self.model.forward)[0] else {}

    @torch.no_grad()
    def continue_from(self, prepared: Prepared, found: Any, most: int, end: int | None = None) -> Tensor:
        """`generate` from the output of a pass over the whole text, its cache included."""
        mask, place = prepared.arguments["attention_mask"], prepared.following
        # the first since transformers 5.24, the second before
        cache = "cache" if "cache" in taken_by(self.model.forward)[0] else "past_key_values"
        words = [found.logits[:, -1].argmax(1)]
        ended = torch.zeros_like(words[0], dtype=torch.bool) if end is None else words[0] == end
        while len(words) < most and not ended.all():
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
            positions = {} if place is None else {"position_ids": place + len(words) - 1}
            found = self.model(
                input_ids=words[-1][:, None],
                attention_mask=mask,
                use_cache=True,
                **{cache: getattr(found, cache)},
                **positions,
            )
            following = found.logits[:, -1].argmax(1)
            if end is not None:
                following = following.masked_fill(ended, end)
                ended |= following == end
            words.append(following)
        return torch.stack(words, dim=1)

    @torch.no_grad()
    def log_likelihood(self, inputs: Mapping[str, Tensor], answer: Tensor) -> Tensor:
        """Log-probability in nats of each answer int64 [B, T] after its text, [B]."""
        whole = dict(inputs)
        for name in TEXT_INPUTS:
            if name in inputs:
                value = answer if name == "input_ids" else torch.full_like(answer, int(name == "attention_mask"))
                if name == "token_type_ids":
                    value = torch.ones_like(answer)  # PaliGemma: what follows the prefix is read causally
                whole[name] = torch.cat([inputs[name], value], dim=1)
        logits = self.logits(whole)[:, -answer.shape[1] - 1 : -1].float()
        return logits.log_softmax(2).gather(2, answer[..., None])[..., 0].sum(1)

    def prepare(self, inputs: Mapping[str, Tensor]) -> Prepared:
        """Reduces the image features and drops the placeholders that are too many; see `logits`."""
        ids = inputs["input_ids"]
        mask = inputs.get("attention_mask", torch.ones_like(ids))
        is_image = ids == self.placeholder
        features, kept = self.features(inputs)
        given, wanted = int(is_image.sum()), sum(len(rows) for rows in features)
        if given != wanted:
            raise InputError(
                f"the text has {given} image placeholders, the images have {wanted} features; give the text as the "
                f"model's processor expands it, {wanted} placeholders: those beyond kept_tokens are dropped here"
            )
        stays, rows = torch.ones_like(ids, dtype=torch.bool), []
        places = is_image.nonzero().split([len(block) for block in features])
        for place, (tokens, source) in zip(places, kept, strict=True):
            stays[place[:, 0], place[:, 1]] = False
            own = place[source]
            stays[own[:, 0], own[:, 1]] = True
            rows.append(tokens)
        lengths = stays.sum(1)
        if len(set(lengths.tolist())) > 1:
            raise InputError(f"texts of {sorted(set(lengths.tolist()))} rows are left in one batch; give one at a time")
        batch = len(ids)
        thinned = {
            name: inputs[name][stays].view(batch, -1)
            for name in ("input_ids", "token_type_ids")
            if inputs.get(name) is not None
        }
        kept_ids = thinned.pop("input_ids")
        words = self.model.get_input_embeddings()(kept_ids.masked_fill(kept_ids == self.placeholder, 0))
        if self.placeholder < self.model.get_input_embeddings().num_embeddings:
            words = self.model.get_input_embeddings()(kept_ids)
        image = torch.cat(rows).to(words.device, words.dtype)
        spread = (kept_ids == self.placeholder)[..., None].expand_as(words)
        arguments = {
            "inputs_embeds": words.masked_scatter(spread, image),
            "attention_mask": mask[stays].view(batch, -1),
            **thinned,
        }
        following = None
        if hasattr(self.body, "get_rope_index"):
            positions = self._rotary_positions(inputs, mask)
            arguments["position_ids"] = positions[:, stays].view(3, batch, -1)
            following = positions.amax(dim=(0, 2))[None, :, None].expand(3, -1, -1) + 1
        return Prepared(arguments, following, kept_ids)

    def features(self, inputs: Mapping[str, Tensor]) -> tuple[list[Tensor], list[tuple[Tensor, Tensor]]]:
        """Features [N, D] of each image or tile; of each the kept rows [n, D] and the places they stand for [n]."""
        images = {name: value for name, value in inputs.items() if name not in TEXT_INPUTS}
        if "pixel_values" not in images:
            raise InputError("there are no pixel_values; give what the model's processor makes of an image and a text")
        found = image_features(self.model, images, attentions=self.reducer.needs_scores)
        kept = []
        for number, rows in enumerate(found.blocks):
            count = min(self.kept_tokens or len(rows), len(rows))
            scores = self._scores(found, number, len(rows)) if self.reducer.needs_scores and count < len(rows) else None
            reduced = self.reducer(rows[None], count, scores=scores)
            source = reduced.source[0].sort().values
            if len(source.unique()) < count or int(source[0]) < 0:
                source = torch.arange(count, device=rows.device) * len(rows) // count
            kept.append((reduced.tokens[0], source))
        return found.blocks, kept

    def _scores(self, found: Features, number: int, count: int) -> Tensor:
        """Attention of the class token to each feature, else the mean attention that it receives, [1, N]."""
        if not found.attentions:
            raise InputError(f"{type(self.model).__name__} gives no attention of its encoder; use pool, tome or qr")
        layer = getattr(self.model.config, "vision_feature_layer", -1)
        weights = found.attentions[layer if isinstance(layer, int) else -1]
        if weights is None or weights.ndim != 4 or weights.shape[-1] - count not in (0, 1) or number >= len(weights):
            raise InputError(
                f"the encoder of {type(self.model).__name__} has no attention for each of {count} features; "
                "use pool, tome or qr"
            )
        mean = weights[number].float().mean(0)
        return (mean[0, 1:] if weights.shape[-1] == count + 1 else mean.mean(0))[None]

    def _rotary_positions(self, inputs: Mapping[str, Tensor], mask: Tensor) -> Tensor:
        """Positions int64 [3, B, L] of the whole text: what stays keeps its place in the image (Qwen-VL)."""
        ids = inputs["input_ids"]
        kinds = inputs.get("mm_token_type_ids", (ids == self.placeholder).int())
        types = {"mm_token_type_ids": kinds} if "mm_token_type_ids" in taken_by(self.body.get_rope_index)[0] else {}
        positions, _ = self.body.get_rope_index(
            ids, image_grid_thw=inputs.get("image_grid_thw"), attention_mask=mask, **types
        )
        return positions

    def _width(self) -> int:
        return int(self.model.get_input_embeddings().embedding_dim)
