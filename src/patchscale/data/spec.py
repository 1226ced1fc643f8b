"""Which images a trial sees."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from patchscale.errors import InputError

Split = Literal["train", "test"]
SPLITS: tuple[Split, Split] = ("train", "test")
SIZED = ("digits_in_clutter", "scenes", "glyphs")
"""Sets that are generated, with as many images as are asked for."""


class DataSpec(BaseModel):
    """Names a set of labelled images; the canvas comes from the trial's `input_size`.

    Attributes:
        name: a registered set (`patchscale.data.known_sets()`), a directory, or `hf:OWNER/NAME` for a hub set.
        root: the directory of a registered set; without it, `PATCHSCALE_DATA` and the known places are searched.
        limit_train: at most so many training images: a class-balanced choice fixed by `data_seed`, and a larger
            limit contains every smaller one.
        limit_test: the same for test images.
        data_seed: decides the content of generated sets and which images a limit keeps.
        train_size: training images of a generated set (`SIZED`); None: its own number. Other sets refuse it, except
            `camvid` and `ade20k`, which presets put in the place of `scenes`.
        test_size: the same for test images.
        digit_size: side of the digit in `digits_in_clutter`, pixels; None: half the shorter side of the canvas.
        clutter: pieces of other digits per digit-sized area in `digits_in_clutter`.
        cells: cells along a side of a grid of `glyphs`.
        colours: colours of `glyphs`, of which every cell has one.
        test_fraction: for a folder of class folders without splits: the share of each class held out for test; for
            papers with a table of pages: the share of each paper's last pages.
        bad_images: an unreadable image either stops with its name ("fail") or, in classification and detection, is left
            out, counted and named ("skip").
        resample: filter for every change of size, always with antialiasing.
        test_crop: share of the largest centred H:W rectangle that the test view keeps (the older ImageNet habit is
            0.875).
        memory_gib: splits whose decoded pixels (before any limit) fit in so many GiB are decoded once and held;
            larger ones are decoded as they are read, and only those give random-resized crops.
        ignore_label: for a directory of masks: the value of pixels that no loss and no score counts.
        zero_label: for a directory of masks: whether 0 is the first class, or not counted either, so that value v is
            class v - 1 (ADE20K's rule).
        page_label: for papers with a table of pages: the class of an image is its "paper", or whether its pages are in
            "order".
        pages_per_image: for papers: neighbouring pages that are stacked in an image.
        repeat_fraction: share of the samples seen that comes from a small subset of the training images, over and over,
            while the others are seen once; 0: all images in epochs. See `RepeatSampler`.
        repeats: how often each image of that subset is seen.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = "digits_in_clutter"
    root: str | None = None
    limit_train: int | None = Field(default=None, ge=1)
    limit_test: int | None = Field(default=None, ge=1)
    data_seed: int = Field(default=0, ge=0)
    train_size: int | None = Field(default=None, ge=1)
    test_size: int | None = Field(default=None, ge=1)
    digit_size: int | None = Field(default=None, ge=8)
    clutter: float = Field(default=0.5, ge=0.0, le=16.0)
    cells: int = Field(default=3, ge=1, le=8)
    colours: int = Field(default=4, ge=2, le=8)
    test_fraction: float | None = Field(default=None, gt=0.0, lt=1.0)
    bad_images: Literal["fail", "skip"] = "fail"
    resample: Literal["bicubic", "bilinear"] = "bicubic"
    test_crop: float = Field(default=1.0, gt=0.0, le=1.0)
    memory_gib: float = Field(default=4.0, ge=0.0)
    ignore_label: int = Field(default=255, ge=0, le=255)
    zero_label: Literal["class", "ignored"] = "class"
    page_label: Literal["paper", "order"] = "paper"
    pages_per_image: int = Field(default=1, ge=1)
    repeat_fraction: float = Field(default=0.0, ge=0.0, le=1.0)
    repeats: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _repeats_a_fraction(self) -> DataSpec:
        if self.repeats > 1 and not self.repeat_fraction:
            raise ValueError(f"repeats {self.repeats} of no sample; set repeat_fraction, as in 0.1")
        return self

    def limit(self, split: Split) -> int | None:
        """The most images of `split` to keep."""
        return self.limit_train if split == "train" else self.limit_test

    def refuse_sizes(self) -> None:
        """For a set that has the images it has.

        Raises:
            InputError: a size is asked for.
        """
        for split, size in (("train", self.train_size), ("test", self.test_size)):
            if size is not None:
                raise InputError(
                    f"data.{split}_size {size} means nothing for {self.name}, which is not generated to size as "
                    f"{', '.join(SIZED)} are; leave it out, or use data.limit_{split} for fewer images"
                )

    def generated_size(self, split: Split, default: int) -> int:
        """How many images of `split` a generated set makes."""
        size = (self.train_size if split == "train" else self.test_size) or default
        return min(size, self.limit(split) or size)
