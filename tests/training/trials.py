"""Small but real trials for tests: digits, a few steps, every feature of the recipe in use."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from patchscale.training import TrialConfig


def small_trial(**changes) -> TrialConfig:
    """A 12-step trial on 16-pixel digits with averaging, mixing, augmentation and stochastic depth."""
    recipe = {
        "steps": 12,
        "batch_size": 16,
        "learning_rate": 3e-3,
        "warmup_steps": 2,
        "precision": "float32",
        "ema_decay": 0.9,
        "label_smoothing": 0.1,
        "augment": {"crop_padding": 2, "horizontal_flip": 0.5},
        "mixing": {"mixup_alpha": 0.8, "cutmix_alpha": 1.0},
    } | changes.pop("recipe", {})
    content = {
        "model": {
            "name": changes.pop("name", "deit_pico_patch16"),
            "patch_size": 8,
            "input_size": 16,
            "drop_path": 0.1,
            "options": {"depth": 2},
        },
        "data": {"name": "digits_in_clutter", "train_size": 64, "test_size": 50, "digit_size": 8},
        "recipe": recipe,
        "evaluations": 3,
    }
    return TrialConfig.model_validate(content | changes)


def stop_at(question: int) -> Callable[[], bool]:
    """A `should_stop` that says yes from the given time it is asked on."""
    asked = itertools.count(1)
    return lambda: next(asked) >= question


def without_time(row: dict) -> dict:
    """A metrics line or result row without what depends on the clock, the machine's memory and a commit in between."""
    return {k: v for k, v in row.items() if k not in {"seconds", "images_per_second", "peak_memory_bytes", "commit"}}
