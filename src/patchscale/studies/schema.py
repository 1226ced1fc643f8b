"""A study: a grid of trials over axes, one task, one recipe, and the laws to fit; typed, and strict on keys."""

from __future__ import annotations

import itertools
import json
from functools import cached_property
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from patchscale.cost import device_of
from patchscale.data import DataSpec
from patchscale.errors import InputError
from patchscale.laws import get_form
from patchscale.studies.clear_errors import clear_errors
from patchscale.studies.places import key_of, place_of
from patchscale.tasks import ModelSpec
from patchscale.training import Init, Recipe, Stage, TrialConfig

MODEL_AXES = {
    "model": "name",
    "patch_size": "patch_size",
    "input_size": "input_size",
    "sequence_extension": "sequence_extension",
    "reducer": "reducer",
    "kept_tokens": "kept_tokens",
}
"""Axes that set a field of `ModelSpec`; the others are `random_seed`, `init` and those with a prefix."""

PREFIXED_AXES = {"recipe": "recipe", "data": "data", "task": "task_options", "model": "model"}
"""`<prefix>.<field>` sets a field of this part of the study, as `recipe.learning_rate` does."""

COUNTED = ("tokens", "params", "params_without_positions", "flops_per_image", "train_flops", "samples_seen", "steps")
"""Columns of the result table that a law may take as x, beside the axes."""

SCRATCH = "scratch"
"""Value of the axis `init` for random weights."""

Axis = list[Any]


class LawRequest(BaseModel):
    """Which law is fitted to the finished table."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    x: str = "tokens"
    y: str = "test_loss"
    group: tuple[str, ...] = ("model", "input_size")
    forms: tuple[str, ...] = ("power_floor", "power")
    refinement: str = "patch_size"
    """The axis whose neighbouring values are compared in pairs of equal random seeds."""


class Counting(BaseModel):
    """For which device the cost of every trial is predicted, in a study that trains nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    device: str = "a100"

    @field_validator("device")
    @classmethod
    def _known(cls, device: str) -> str:
        try:
            return device_of(device).name
        except InputError as error:
            raise ValueError(str(error)) from error


class Trial(BaseModel):
    """A trial's configuration, and its axis values as tables have them; see `as_cell`."""

    model_config = ConfigDict(frozen=True)

    config: TrialConfig
    axes: dict[str, Any]

    @cached_property
    def id(self) -> str:
        """Hashed once: a study that is watched asks for all of them several times a second."""
        return self.config.trial_id

    @property
    def label(self) -> str:
        """The axis values in a few words."""
        parts = [f"{name.rpartition('.')[2]}={value}" for name, value in self.axes.items() if name != "model"]
        return " ".join([str(self.axes.get("model", self.config.model.name)), *parts])


class Study(BaseModel):
    """Everything that decides the numbers of a study."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    title: str
    source: str = ""
    """The paper section, figure or table that the study answers."""
    scale: Literal["tiny", "small", "paper", "custom"] = "custom"
    task: str = "classification"
    task_options: dict[str, Any] = {}
    """What the task leaves to choose."""
    data: DataSpec
    model: dict[str, Any] = {}
    """Fields of `ModelSpec` that are not axes."""
    recipe: Recipe
    axes: dict[str, Axis]
    only: list[dict[str, Any]] = []
    """Combinations kept: written as under `skip`, one of which must match. Axes that move together are listed here."""
    skip: list[dict[str, Any]] = []
    """Combinations left out: each entry names axes with a value or a list of values, all of which must match."""
    evaluations: int = Field(default=6, ge=1)
    even_evaluations: int = Field(default=0, ge=0)
    init: Init | None = None
    """Weights that trials start from: a file, whose path may name `{model}`, `{patch_size}`, `{input_size}` and
    `{random_seed}`, or a run directory, of which the trial of the same model and patch size is taken. An axis `init`
    lists such places instead, and `scratch`."""
    starts: dict[str, Init] = {}
    """File and digest for every place of weights; settled before a study starts, so that other weights are other
    trials."""
    stages: tuple[Stage, ...] = ()
    """Trainings that every trial begins with; see `TrialConfig.stages`."""
    counting: Counting | None = None
    """Trials are counted from shapes and predicted for a device instead of being trained."""
    laws: LawRequest = LawRequest()

    @field_validator("axes")
    @classmethod
    def _known_axes(cls, axes: dict[str, Axis]) -> dict[str, Axis]:
        for name, values in axes.items():
            if not _is_axis(name):
                raise ValueError(
                    f"unknown axis {name!r}; use model, patch_size, input_size, random_seed, init, recipe.<field>, "
                    "data.<field>, task.<option> or model.<field>"
                )
            if not values:
                raise ValueError(f"axis {name!r} has no values; give at least one")
            if len(values) != len({repr(value) for value in values}):
                raise ValueError(f"axis {name!r} lists a value twice: {values}")
        for place in axes.get("init", []):
            if not isinstance(place, str):
                raise ValueError(f"axis 'init' lists {place!r}; write {SCRATCH}, a file of weights or a run directory")
        for name in ("model", "patch_size", "input_size"):
            if name not in axes:
                raise ValueError(f"axis {name!r} is missing; a study names at least model, patch_size and input_size")
        return axes

    @model_validator(mode="after")
    def _skips_name_axes(self) -> Study:
        for key in ("only", "skip"):
            for entry in getattr(self, key):
                if unknown := set(entry) - set(self.axes):
                    raise ValueError(f"{key} names {sorted(unknown)}, which are not axes of this study")
        if fixed := set(self.model) & {field for axis, field in MODEL_AXES.items() if axis in self.axes}:
            raise ValueError(f"model sets {sorted(fixed)}, which the axes decide; give it there")
        return self

    @model_validator(mode="after")
    def _laws_name_columns(self) -> Study:
        request = self.laws
        if request.refinement not in self.axes:
            raise ValueError(f"laws.refinement {request.refinement!r} is not an axis of this study")
        if unknown := set(request.group) - set(self.axes):
            raise ValueError(f"laws.group names {sorted(unknown)}, which are not axes of this study")
        if request.x not in (*self.axes, *COUNTED):
            raise ValueError(f"laws.x {request.x!r} is neither an axis nor one of {', '.join(COUNTED)}")
        for form in request.forms:
            get_form(form)
        if self.recipe.precision != "auto" and "auto" in self.axes.get("recipe.precision", []):
            raise ValueError("recipe.precision as an axis takes float32 and bfloat16, not auto")
        return self

    def trials(self) -> list[Trial]:
        """The grid, in order of the axes: combinations under `only`, those under `skip` left out.

        Raises:
            InputError: a combination is not a valid trial, or nothing is left.
        """
        names = list(self.axes)
        points = [dict(zip(names, values, strict=True)) for values in itertools.product(*self.axes.values())]
        made = [(point, self._trial(point)) for point in points]
        trials = [trial for point, trial in made if self._wanted(point, trial.axes)]
        if not trials:
            raise InputError(f"study {self.name!r} has no trials: only and skip leave 0 of {len(points)} combinations")
        if len({trial.id for trial in trials}) < len(trials):
            raise InputError(f"study {self.name!r}: the axes name the same trial twice; write each value once")
        return trials

    def separating_axes(self) -> list[str]:
        """Axes that tell laws apart: those of the request, and every other that is neither x, refined nor repeated."""
        request = self.laws
        others = [name for name in self.axes if name not in (*request.group, request.refinement, request.x)]
        return [*request.group, *(name for name in others if name != "random_seed")]

    def _wanted(self, point: dict[str, Any], axes: dict[str, Any]) -> bool:
        """Values count as the study writes them and as tables have them."""
        values = {name: (point[name], axes[name]) for name in point}
        return (not self.only or _matches(self.only, values)) and not _matches(self.skip, values)

    def _trial(self, point: dict[str, Any]) -> Trial:
        parts: dict[str, dict[str, Any]] = {
            "model": self.model | {field: point[axis] for axis, field in MODEL_AXES.items() if axis in point},
            "recipe": self.recipe.model_dump(),
            "data": self.data.model_dump(),
            "task_options": dict(self.task_options),
        }
        for name, value in point.items():
            prefix, dot, field = name.partition(".")
            if dot:
                parts[PREFIXED_AXES[prefix]][field] = value
        with clear_errors(f"study {self.name!r} at {point}", KEYS):
            config = TrialConfig.model_validate(
                {
                    **parts,
                    "task": self.task,
                    "random_seed": point.get("random_seed", 0),
                    "evaluations": self.evaluations,
                    "even_evaluations": self.even_evaluations,
                    "stages": self.stages,
                }
            )
            config = config.model_copy(update={"init": self._start(point, config)})
        values = {axis: getattr(config.model, field) for axis, field in MODEL_AXES.items()}
        values["input_size"] = config.model.size
        values |= {"random_seed": config.random_seed, "init": point.get("init")}
        for name, value in point.items():
            prefix, dot, field = name.partition(".")
            if dot:
                values[name] = value if prefix == "task" else getattr(getattr(config, prefix), field)
        cells = {name: as_cell(values[name], text=None in self.axes[name]) for name in point}
        return Trial(config=config, axes=cells)

    def _start(self, point: dict[str, Any], config: TrialConfig) -> Init | None:
        """The weights of one trial, by file and content if they are settled."""
        init = self.init
        if "init" in point:
            init = None if point["init"] == SCRATCH else Init(weights=point["init"])
        if init is None:
            return None
        place = place_of(init.weights, config)
        found = self.starts.get(place) or self.starts.get(key_of(place, config))
        return found or init.model_copy(update={"weights": place})


def as_cell(value: Any, *, text: bool = False) -> Any:
    """A value as tables have it: a number, a switch or text; `none` for nothing, compact JSON for anything nested.

    Args:
        value: of an axis.
        text: a number becomes text too, as in a column that holds `none`: a table that is read again has it so.
    """
    if value is None:
        return "none"
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json", exclude_defaults=True)
    if isinstance(value, str) or (isinstance(value, int | float) and not text):
        return value
    return json.dumps(value, separators=(",", ":"), sort_keys=True).removesuffix(".0")


def _matches(entries: list[dict[str, Any]], values: dict[str, tuple[Any, ...]]) -> bool:
    """Whether an entry names only values of a trial, in either spelling; a list of values matches any of them."""
    return any(
        all(
            any(value in (wanted if isinstance(wanted, list) else [wanted]) for value in values[name])
            for name, wanted in entry.items()
        )
        for entry in entries
    )


def _is_axis(name: str) -> bool:
    prefix, dot, field = name.partition(".")
    if not dot:
        return name in MODEL_AXES or name in ("random_seed", "init")
    fields = {"recipe": Recipe.model_fields, "data": DataSpec.model_fields, "model": ModelSpec.model_fields}
    return prefix == "task" or field in fields.get(prefix, {})


KEYS = tuple(
    name
    for part in (Study, TrialConfig, ModelSpec, Recipe, DataSpec, LawRequest, Counting)
    for name in part.model_fields
)
"""Every key that a study or trial file may hold, to suggest one for a mistyped one."""
