"""A recipe as the package carries it: one YAML table a recipe, one or more rows a value, each with its origin."""

from __future__ import annotations

import difflib
from functools import lru_cache
from importlib.resources import files
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict

from patchscale.errors import InputError

Origin = Literal["paper", "code", "ours", "set"]
"""Whose a value is: a paper's, its authors' code's (a command or a default), this project's, or the user's."""

SIZES = ("pico", "nano", "tiny", "small", "base", "large", "huge")
STAND_INS = {"pico": "nano", "nano": "tiny", "tiny": "small", "small": "base", "huge": "large"}
"""Whose row a size takes where a table has none of its own."""


class Row(BaseModel):
    """One value."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sizes: tuple[str, ...] = SIZES
    """Models it holds for."""
    value: Any
    origin: Origin
    source: str


class Table(BaseModel):
    """A recipe for every size of model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    title: str
    source: str
    families: tuple[str, ...]
    """Families of models it was made for."""
    command: str = ""
    """The published command for one size."""
    task: str = "classification"
    values: dict[str, tuple[Row, ...]]
    """By key of a trial (`recipe.epochs`); `base_learning_rate` x batch / `learning_rate_batch` is the rate as used,
    or the base rate itself where the latter is null."""

    def row(self, key: str, size: str) -> Row:
        """The row of `key` for models of `size`: its own, or its stand-in's, which is then our choice."""
        wanted: str | None = size
        while wanted is not None:
            for row in self.values[key]:
                if wanted == size and size in row.sizes:
                    return row
                if wanted in row.sizes:
                    source = f"no row for {size}; {wanted}'s, {row.source}"
                    return row.model_copy(update={"origin": "ours", "source": source})
            wanted = STAND_INS.get(wanted)
        raise AssertionError(f"{self.name} has no {key} for {size}")


class PlanStage(BaseModel):
    """One training of a plan."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipe: str
    input_size: int


class Plan(BaseModel):
    """A training in stages."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str
    source: str
    stages: tuple[PlanStage, ...]


def recipe_names() -> list[str]:
    """All recipes that the package carries."""
    folder = files("patchscale.training.recipes") / "tables"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def plan_names() -> list[str]:
    """All plans in stages."""
    return sorted(_plans())


@lru_cache
def load_table(name: str) -> Table:
    """The table of a recipe.

    Raises:
        InputError: no such recipe; names close matches.
    """
    if name not in recipe_names():
        known = [*recipe_names(), *plan_names()]
        close = difflib.get_close_matches(name, known, n=3)
        hint = f"did you mean {' or '.join(close)}?" if close else f"use one of {', '.join(known)}"
        raise InputError(f"no recipe {name!r}; {hint}")
    text = (files("patchscale.training.recipes") / "tables" / f"{name}.yaml").read_text()
    return Table.model_validate(yaml.safe_load(text))


def load_plan(name: str) -> Plan | None:
    """The plan of this name, if it is one."""
    return _plans().get(name)


@lru_cache
def _plans() -> dict[str, Plan]:
    content = yaml.safe_load((files("patchscale.training.recipes") / "plans.yaml").read_text())
    return {name: Plan.model_validate(plan) for name, plan in content.items()}
