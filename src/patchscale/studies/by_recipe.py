"""A trial by the name of a recipe, and that trial as YAML in which every value says where it comes from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import yaml

from patchscale.studies.clear_errors import clear_errors
from patchscale.studies.presets import read_setting
from patchscale.studies.schema import KEYS
from patchscale.training import TrialConfig
from patchscale.training.recipes import Choice, Resolved, resolve

COMMENT_COLUMN = 48


def trial_by_recipe(
    recipe: str, model: str, data: str, init: str | None, settings: list[str]
) -> tuple[TrialConfig, Resolved]:
    """The trial that a recipe or plan makes of a model and a data set, and where its values come from.

    Args:
        recipe: name of a recipe or plan.
        model: a registered model.
        data: name or folder of a data set.
        init: weights to start from.
        settings: `key=value` lines, as for a trial file; in a plan they change every stage, and
            `stages.<recipe>.<key>=value` changes one.

    Raises:
        InputError: unknown names, or keys and values that do not fit.
    """
    changes = {".".join(parts): value for parts, value in map(read_setting, settings)}
    found = resolve(recipe, model, data, init=init, changes=changes)
    with clear_errors(recipe, KEYS):
        return TrialConfig.model_validate(found.content), found


def as_yaml(found: Resolved) -> str:
    """A trial file that `patchscale train` takes, its sources on top and beside every value."""
    notes = {choice.key: choice for choice in found.choices}
    head = [
        f"# {line}" for line in (found.title, *found.sources, "each value: whose it is (paper, code, ours), source")
    ]
    return "\n".join([*head, *_lines(found.content, notes, "", 0)]) + "\n"


def as_json_text(trial: TrialConfig, found: Resolved) -> str:
    """The trial, and under `values` the origin and source of each of its values."""
    about = {"title": found.title, "sources": found.sources, "values": [choice._asdict() for choice in found.choices]}
    return json.dumps({"trial": trial.model_dump(mode="json"), **about}, indent=2)


def _lines(content: dict[str, Any], notes: dict[str, Choice], prefix: str, depth: int) -> Iterator[str]:
    indent = "  " * depth
    for key, value in content.items():
        path = f"{prefix}{key}"
        if path == "stages":
            yield f"{indent}stages:"
            for stage in value:
                first, *others = _lines(stage, notes, f"stages.{stage['name']}.", depth + 2)
                yield f"{indent}  - {first.lstrip()}"
                yield from others
        elif isinstance(value, dict) and value:
            yield f"{indent}{key}:"
            yield from _lines(value, notes, f"{path}.", depth + 1)
        else:
            line = f"{indent}{key}: {_scalar(value)}"
            yield f"{line:<{COMMENT_COLUMN}}  # {_note(notes[path])}" if path in notes else line


def _scalar(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("\n").removesuffix("\n...")


def _note(choice: Choice) -> str:
    return f"{choice.origin}: {choice.source}" if choice.source else choice.origin
