"""What segmentation leaves to choose."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator


class Options(BaseModel):
    """Of a trial's `task_options`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    decoder: Literal["upernet", "linear"] = "upernet"
    """`linear` is the paper's decoder-free model: one linear layer on every token."""
    channels: int = Field(default=192, ge=4, multiple_of=4)
    """Width of UperNet and of the auxiliary head."""
    auxiliary: float = Field(default=0.0, ge=0)
    """Weight of a second loss on the features of the last but one depth; 0: no auxiliary head."""
    scale: tuple[float, float] = (1.0, 1.0)
    """Range of the random size of training images, relative to the one that just covers the input size."""
    most_of_one_class: float = Field(default=1.0, gt=0, le=1)
    """Largest share of a training crop that one class may have; ten places are tried."""
    inference: Literal["whole", "slide"] = "whole"
    """Test images at once, or by windows of the input size."""
    slide_step: float = Field(default=2 / 3, gt=0, le=1)
    """From window to window, as a share of the window."""
    score_size: Literal["input", "original"] = "input"
    """Pixels that are scored: of the image as the model sees it, or of the mask as it is stored."""

    @field_validator("scale")
    @classmethod
    def _low_before_high(cls, scale: tuple[float, float]) -> tuple[float, float]:
        if not 0 < scale[0] <= scale[1]:
            raise ValueError(f"scale {scale} is not a range of positive numbers; give the low one first")
        return scale
