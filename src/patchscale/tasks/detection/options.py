"""What a detection trial can choose besides encoder, data and recipe; the defaults are those for COCO."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Options(BaseModel):
    """`task_options` of detection."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stages: int = Field(default=3, ge=1, le=3)
    """Box heads in a row, at IoU 0.5, 0.6 and 0.7; 1 is Mask R-CNN."""
    masks: bool = True
    """Whether there is a mask head; a set with boxes only needs `false`."""
    width: int = Field(default=256, ge=8)
    """Channels of the feature pyramid."""
    box_hidden: int = Field(default=1024, ge=8)
    """Width of the two linear layers of each box head."""
    mask_layers: int = Field(default=4, ge=1)
    """3x3 convolutions of the mask head."""
    anchor_scale: float = Field(default=8.0, gt=0)
    """Side of a square anchor as a multiple of its level's stride (4 to 64 pixels)."""
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    """Height over width of the anchors."""
    anchors_sampled: int = Field(default=256, ge=2)
    """Anchors of an image in the loss of the proposal network, half of them positive where there are so many."""
    proposals: int = Field(default=1000, ge=1)
    """Proposals of an image: per level before suppression, in all after it."""
    rois_sampled: int = Field(default=512, ge=1)
    """Proposals of an image in the loss of the heads, a quarter of them positive where there are so many."""
    roi_samples: int = Field(default=2, ge=1)
    """Points along each side of a bin that ROIAlign averages; on a CPU its backward pass is what a step waits for."""
    detections: int = Field(default=100, ge=1)
    """Objects reported per image and counted by AP (pycocotools' largest maxDets)."""
    score_threshold: float = Field(default=0.05, ge=0, lt=1)
    """Least score of an object that is reported."""
    overlap: float = Field(default=0.5, gt=0, lt=1)
    """IoU from which of two objects of a class the one with the lower score is dropped."""
    jitter: tuple[float, float] = (0.1, 2.0)
    """Large-scale jitter: range of the factor on the fitted size of a training image."""
    short_side: int | None = Field(default=None, ge=8)
    """Fits images to this shorter side, if the canvas (`input_size`) allows; without it, to the canvas."""

    @model_validator(mode="after")
    def _in_order(self) -> Options:
        if not 0 < self.jitter[0] <= self.jitter[1]:
            raise ValueError(f"jitter {self.jitter} is not a range of positive factors; write the smaller one first")
        if not self.anchor_ratios or min(self.anchor_ratios) <= 0:
            raise ValueError(f"anchor_ratios {self.anchor_ratios} must be positive numbers, at least one")
        return self
