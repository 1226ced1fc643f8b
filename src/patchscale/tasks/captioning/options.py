"""What the task leaves to choose."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Options(BaseModel):
    """Of vision tokens, fusion, bottleneck and language model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    vision_tokens: int = Field(default=16, ge=1)
    """n: rows that the language model sees of an image; protocol `nested` goes by its own list."""
    protocol: Literal["one_each", "nested"] = "one_each"
    """One model for each n, or one model for every n of `nested`."""
    nested: tuple[int, ...] = ()
    """Under that protocol: the n of which each training batch draws one, and that are measured."""
    queries: int | None = Field(default=None, ge=1)
    """Learned queries, of which the first n are used; n by default. Equal numbers let a trial start from another's."""
    question: Literal["inside", "outside"] = "outside"
    """Whether the fusion sees the question (published as vqq) or the image alone (vq); the language model always does.
    """
    turns: int = Field(default=1, ge=1)
    """Short questions asked of a training image, one after the other; captions stand alone, because they give the other
    answers away. A test asks one question."""
    kinds: dict[str, float] = {}
    """How often each kind of question is drawn in training, relative to the others; others are not tested either. All
    kinds evenly by default."""
    sayings: int = Field(default=1, ge=1)
    """How often an answer is said in a row, in training and in tests. From two on, all but the first can be copied from
    the text; what is copied, and how attention heads do it, is measured (`copying_loss`, `prefix_matching`)."""
    fusion_width: int = Field(default=64, ge=4)
    fusion_depth: int = Field(default=2, ge=1)
    fusion_heads: int = Field(default=4, ge=1)
    fusion_places: bool = True
    """Learned rows added to the image's, so that queries find their places; without, the encoder's positions alone."""
    merge: bool = False
    """Halve the encoder's grid by a convolution and end every view with a learned row, as published."""
    views: tuple[int, int] | None = None
    """Rows and columns of further views of `input_size` that the image is cut into, beside the whole one."""
    bottleneck: int | None = Field(default=4, ge=1)
    """Numbers that a vision token carries, each between -1 and 1; without one, few tokens carry an image whole."""
    noise: float = Field(default=0.3, ge=0)
    """Standard deviation of what is added to them in training."""
    language_width: int = Field(default=64, ge=4)
    language_depth: int = Field(default=2, ge=1)
    language_heads: int = Field(default=4, ge=1)
    language_hidden: int | None = Field(default=None, ge=1)
    """Four times the width by default."""
    language_places: int = Field(default=256, ge=0)
    """Learned rows added to so many first words, beside rotary positions; 0: rotary positions alone, as in Llama."""
    backbone: str | None = None
    """Directory or hub name of a causal language model of transformers, instead of our own; its tokenizer comes along.
    """
    frozen: tuple[Literal["encoder", "language"], ...] = ()
    """Parts that are not trained."""
    objective: Literal["answers", "contrastive"] = "answers"
    """`contrastive` is the published first stage: the last query against the answer's text, and queries orthogonal."""
    orthogonal: float = Field(default=1.0, ge=0)
    """Weight of the Gram-to-identity term in that stage."""

    @model_validator(mode="after")
    def _fit(self) -> Options:
        if self.protocol == "nested" and not self.nested:
            raise ValueError("protocol nested needs nested, the numbers of vision tokens, such as [1, 2, 4, 8]")
        if self.queries is not None and self.queries < self.counts[-1]:
            raise ValueError(f"queries {self.queries} are fewer than {self.counts[-1]} vision tokens; raise them")
        if self.sayings > 1 and (self.backbone is not None or self.turns > 1 or self.objective != "answers"):
            raise ValueError(
                f"sayings {self.sayings} ask our own language model for one answer, said again; use backbone null, "
                "turns 1 and objective answers"
            )
        if min(self.nested, default=1) < 1 or len(set(self.nested)) < len(self.nested):
            raise ValueError(f"nested {list(self.nested)} must be different positive numbers")
        if self.question == "inside" and self.turns > 1:
            raise ValueError("question inside takes turns 1: one image has one set of vision tokens")
        if any(weight < 0 for weight in self.kinds.values()) or (self.kinds and not any(self.kinds.values())):
            raise ValueError(f"kinds {self.kinds} are relative frequencies; use numbers from 0, one of them positive")
        return self

    def weight(self, kind: str) -> float:
        """How often a kind of question is asked in training, relative to the others; 0: never, and not tested."""
        return self.kinds.get(kind, 0.0) if self.kinds else 1.0

    @property
    def counts(self) -> tuple[int, ...]:
        """Numbers of vision tokens that are evaluated, rising."""
        return tuple(sorted(self.nested)) if self.protocol == "nested" else (self.vision_tokens,)
