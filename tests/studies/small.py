"""A study of seconds for tests of everything around training: digits, one small model, two patch sizes."""

from __future__ import annotations

SMALL = [
    "recipe.batch_size=32",
    "data.train_size=96",
    "data.test_size=40",
    "data.digit_size=8",
    "axes.model=[deit_pico_patch16]",
    "axes.patch_size=[16,8]",
    "axes.input_size=[16]",
]
"""Settings of the preset quickstart."""

TIMES = ["seconds", "images_per_second", "peak_memory_bytes", "commit"]
"""Columns that may differ between runs of one study; the commit only when someone commits in between."""
