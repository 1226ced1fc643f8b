"""From the name of a recipe or plan, and a model's, to the keys of a trial."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from patchscale.errors import InputError
from patchscale.training.recipe import IN_OTHER_UNITS
from patchscale.training.recipes.table import SIZES, Origin, Plan, Table, load_plan, load_table

STAGE = "stages."
"""`stages.<recipe>.<key>` changes one stage of a plan."""

RATE = ("base_learning_rate", "learning_rate_batch")


class Choice(NamedTuple):
    """One value of a trial and where it comes from."""

    key: str
    """Dotted, as `--set` takes it; in a stage with `stages.<recipe>.` in front."""
    value: Any
    origin: Origin
    source: str


class Resolved(NamedTuple):
    """A trial by recipe."""

    title: str
    sources: list[str]
    """Papers, code and published commands, a line each."""
    content: dict[str, Any]
    """The keys of a `TrialConfig`."""
    choices: list[Choice]


class _Model(NamedTuple):
    name: str
    family: str
    size: str
    patch_size: int


def resolve(
    name: str, model: str, data: str, *, init: str | None = None, changes: Mapping[str, Any] | None = None
) -> Resolved:
    """The trial that recipe or plan `name` makes of a model and a data set.

    Args:
        name: of a recipe, or of a plan in stages.
        model: a registered model; its name tells family, size and patch size.
        data: name or folder of a data set.
        init: weights to start from.
        changes: the user's values by dotted key; in a plan they change every stage, and
            `stages.<recipe>.<key>` changes one.

    Raises:
        InputError: unknown recipe, a model whose name does not tell its size, or a stage the plan does not have.
    """
    wishes, parsed = dict(changes or {}), _parse(model)
    about = {"data.name": Choice("data.name", data, "set", "")}
    if init is not None:
        about["init.weights"] = Choice("init.weights", init, "set", "")
    plan = load_plan(name)
    if plan is None:
        table = load_table(name)
        return Resolved(table.title, _sources(table), *_assemble(about | _stage(table, parsed, wishes), []))
    return _resolve_plan(name, plan, parsed, about, wishes)


def _resolve_plan(name: str, plan: Plan, model: _Model, about: dict[str, Choice], wishes: dict[str, Any]) -> Resolved:
    _check_stages(name, [stage.recipe for stage in plan.stages], wishes)
    shared = {key: value for key, value in wishes.items() if not key.startswith(STAGE)}
    stages = []
    for stage in plan.stages:
        prefix = f"{STAGE}{stage.recipe}."
        own = {key.removeprefix(prefix): value for key, value in wishes.items() if key.startswith(prefix)}
        size = Choice("model.input_size", stage.input_size, "paper", f"plan {name}, {plan.source}")
        stages.append((stage.recipe, _stage(load_table(stage.recipe), model, shared | own, {size.key: size})))
    *earlier, (_, last) = stages
    sources = [line for stage in plan.stages for line in _sources(load_table(stage.recipe))]
    return Resolved(plan.title, sources, *_assemble(about | last, earlier))


def _check_stages(plan: str, names: list[str], wishes: Mapping[str, Any]) -> None:
    """Refuses a wish for a stage that the plan does not have, or for what no stage has of its own."""
    for key in wishes:
        group, _, rest = key.partition(".")
        stage, _, own = rest.partition(".")
        if group == "stages" and stage not in names:
            raise InputError(f"{plan} has no stage {stage!r}; use one of {', '.join(names)}")
        if group == "stages" and not _is_of_a_stage(own):
            raise InputError(
                f"{key}: a stage has its own task, task_options, recipe.<field> and model.<field> but the name; all "
                f"else is one for all stages: set it without stages.{stage}"
            )


def _is_of_a_stage(key: str) -> bool:
    return key != "model.name" and key.startswith(("task", "model.", "recipe.", *RATE))


def _stage(
    table: Table, model: _Model, wishes: Mapping[str, Any], given: Mapping[str, Choice] | None = None
) -> dict[str, Choice]:
    """The choices of one training by key: the table's, over them `given`, over all the user's wishes."""
    found = {"task": Choice("task", table.task, "paper", "what the recipe is for")}
    fits = model.family in table.families
    whose = "" if fits else f"the recipe was made for {' and '.join(table.families)}"
    found["model.name"] = Choice("model.name", model.name, "set", whose)
    found["model.patch_size"] = Choice("model.patch_size", model.patch_size, "set", "the model's name")
    for key in table.values:
        row = table.row(key, model.size)
        found[key] = Choice(key, row.value, row.origin, row.source)
    found |= given or {}
    for key, value in wishes.items():
        group, _, field = key.rpartition(".")
        if group == "recipe":
            found.pop(f"recipe.{IN_OTHER_UNITS.get(field)}", None)
        found[key] = Choice(key, value, "set", "")
    if "recipe.learning_rate" not in found:
        found["recipe.learning_rate"] = _rate(found)
    return found


def _rate(found: Mapping[str, Choice]) -> Choice:
    """The learning rate as used, with the rule written out."""
    base, reference = (found[key] for key in RATE)
    rate = _number(base)
    if reference.value is None:
        return Choice("recipe.learning_rate", rate, base.origin, f"{base.source}; unscaled ({reference.source})")
    batch = found["recipe.batch_size"]
    value = float(f"{rate * _number(batch) / _number(reference):.12g}")
    rule = (
        f"{rate:g} ({base.source}) x batch {batch.value} / {reference.value} ({reference.origin}: {reference.source})"
    )
    return Choice("recipe.learning_rate", value, base.origin, rule)


def _number(choice: Choice) -> float:
    """A number of the rule, also from text: YAML reads 1e-3 as that."""
    try:
        value = float(choice.value)
    except (TypeError, ValueError):
        value = math.nan
    if not 0 < value < math.inf:
        raise InputError(f"{choice.key}: {choice.value!r} is not a positive number")
    return value


def _assemble(
    last: dict[str, Choice], earlier: list[tuple[str, dict[str, Choice]]]
) -> tuple[dict[str, Any], list[Choice]]:
    """Keys of a trial, nested, and all choices; what earlier stages share with the trial is written once."""
    content: dict[str, Any] = {}
    choices = list(last.values())
    for choice in choices:
        if choice.key not in RATE:
            _put(content, choice.key, choice.value)
    for name, found in earlier:
        stage: dict[str, Any] = {"name": name, "task_options": {}, "model": {"options": {}}}
        for choice in found.values():
            same_patches = choice.key == "model.patch_size" and choice.value == last["model.patch_size"].value
            if same_patches or not _is_of_a_stage(choice.key):
                continue
            choices.append(choice._replace(key=f"{STAGE}{name}.{choice.key}"))
            if choice.key not in RATE:
                _put(stage, choice.key, choice.value)
        content.setdefault("stages", []).append(stage)
    return content, choices


def _put(content: dict[str, Any], key: str, value: Any) -> None:
    *groups, field = key.split(".")
    for group in groups:
        content = content.setdefault(group, {})
        if not isinstance(content, dict):
            raise InputError(f"{key}: {group!r} is a value, not a group of keys")
    content[field] = value


def _parse(model: str) -> _Model:
    match = re.fullmatch(rf"(\w+?)_({'|'.join(SIZES)})_patch(\d+)(_\w+)?", model)
    if match is None:
        raise InputError(
            f"model {model!r} does not tell family, size and patch size, which a recipe needs; use a name like "
            "adventurer_base_patch16"
        )
    return _Model(model, match[1], match[2], int(match[3]))


def _sources(table: Table) -> list[str]:
    return [f"{table.name}: {table.source}", *([f"published command: {table.command}"] if table.command else [])]
