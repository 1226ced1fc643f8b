"""Named studies: YAML files of the package, three scales each with one schema, and how a user's wishes change them."""

from __future__ import annotations

import difflib
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from patchscale.errors import InputError
from patchscale.studies.clear_errors import clear_errors
from patchscale.studies.schema import KEYS, Study
from patchscale.training.recipe import IN_OTHER_UNITS

SCALES = ("tiny", "small", "paper")


def preset_names() -> list[str]:
    """All presets that the package carries."""
    folder = files("patchscale.studies") / "presets"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def preset_text(name: str) -> str:
    """The YAML of a preset.

    Raises:
        InputError: no such preset; names close matches.
    """
    if name not in preset_names():
        close = difflib.get_close_matches(name, preset_names(), n=3)
        hint = f"did you mean {' or '.join(close)}?" if close else f"use one of {', '.join(preset_names())}"
        raise InputError(f"no preset or file {name!r}; {hint}")
    return (files("patchscale.studies") / "presets" / f"{name}.yaml").read_text()


def load_study(
    preset_or_file: str, *, scale: str | None = None, data: str | None = None, settings: list[str] | None = None
) -> Study:
    """A preset or a YAML file, at one scale, with data and single values replaced.

    Args:
        preset_or_file: a preset's name, or the path of a YAML or JSON file with the same keys; a run directory's
            study.yaml is one.
        scale: `tiny`, `small` or `paper`; a file may have no scales at all. The default is `tiny` where there is one.
        data: the name or folder of a data set that replaces the study's own.
        settings: `key=value` lines; the key is a dotted path, the value is YAML, as in `axes.patch_size=[8,4]`.

    Raises:
        InputError: anything that does not fit, in one line.
    """
    content = _read(preset_or_file)
    content = _at_scale(content, scale, preset_or_file)
    if data is not None:
        content["data"] = {"name": data}
    for setting in settings or []:
        apply_setting(content, setting)
    with clear_errors(str(preset_or_file), KEYS):
        return Study.model_validate(content)


def _read(preset_or_file: str) -> dict[str, Any]:
    """The keys of a preset, of a YAML or JSON file, or of the study that a run directory's study.yaml holds."""
    path = Path(preset_or_file)
    if path.is_dir():
        there = f"; its study is {path / 'study.yaml'}" if (path / "study.yaml").is_file() else ""
        raise InputError(f"{path} is a folder, not a preset or a study file{there}")
    if not (path.suffix in {".yaml", ".yml", ".json"} or len(path.parts) > 1):
        return _parse(preset_text(preset_or_file), preset_or_file)
    try:
        content = _parse(path.read_text(), str(path))
    except FileNotFoundError as error:
        raise InputError(f"no study file at {path}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as a study file ({error})") from error
    resolved = content.get("study") if "provenance" in content else None
    return resolved if isinstance(resolved, dict) else content


def _parse(text: str, name: str) -> dict[str, Any]:
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f" at line {where.line + 1}" if where else ""
        problem = " ".join(str(getattr(error, "problem", error)).split())
        raise InputError(f"{name} is not valid YAML{line}: {problem}") from error
    if not isinstance(content, dict):
        raise InputError(f"{name} holds {type(content).__name__}, not the keys of a study")
    return content


def _at_scale(content: dict[str, Any], scale: str | None, name: str) -> dict[str, Any]:
    scales = content.pop("scales", None)
    if scales is None:
        if scale is not None and content.get("scale", "custom") != scale:
            raise InputError(f"{name} has no scales, so --scale {scale} means nothing there; leave it out")
        return content
    if not isinstance(scales, dict):
        raise InputError(f"{name}: scales must be a mapping of {', '.join(SCALES)}, not {type(scales).__name__}")
    chosen = scale or "tiny"
    if chosen not in scales:
        raise InputError(f"{name} has no scale {chosen!r}; use one of {', '.join(scales)}")
    changes = scales[chosen] or {}
    if not isinstance(changes, dict):
        raise InputError(f"{name}: scale {chosen} must hold keys of a study, not {type(changes).__name__}")
    return _merge(content, changes) | {"scale": chosen}


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`over` wins; mappings are merged, everything else is replaced."""
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def read_setting(setting: str) -> tuple[list[str], Any]:
    """A `key=value` line as the parts of its dotted key and its value, which is YAML.

    Axis names may hold a dot themselves (`axes.recipe.learning_rate=[...]`).

    Raises:
        InputError: it is not such a line.
    """
    key, equals, text = setting.partition("=")
    if not equals or not key:
        raise InputError(f"--set {setting!r} is not key=value, as in --set recipe.steps=200")
    parts = key.strip().split(".")
    if parts[0] == "axes":
        parts = ["axes", ".".join(parts[1:])]
    try:
        return parts, yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"--set {setting!r}: {text!r} is not YAML") from error


def apply_setting(content: dict[str, Any], setting: str) -> None:
    """Sets one dotted key; a stage is told by its name (`stages.pretrain.recipe.steps=200`)."""
    parts, value = read_setting(setting)
    place: Any = content
    for part in parts[:-1]:
        if isinstance(place, list):
            place = next((item for item in place if isinstance(item, dict) and item.get("name") == part), None)
            if place is None:
                raise InputError(f"--set {setting!r}: nothing is called {part!r} there")
        else:
            if place.get(part) is None:
                place[part] = {}
            place = place[part]
        if not isinstance(place, dict | list):
            raise InputError(f"--set {setting!r}: {part!r} is a value, not a group of keys")
    if isinstance(place, list):
        raise InputError(f"--set {setting!r}: name a key of one of the {len(place)} in that list")
    place[parts[-1]] = value
    if parts[-2:-1] == ["recipe"]:
        place.pop(IN_OTHER_UNITS.get(parts[-1]), None)
