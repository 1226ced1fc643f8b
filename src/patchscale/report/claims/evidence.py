"""Finished studies as evidence: the tables under `results/`, each with its study, scale and data."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pandas as pd
import yaml

SCALES = ("custom", "tiny", "small", "paper")
"""From weak to strong."""


@dataclass(frozen=True)
class Evidence:
    """One committed study.

    Attributes:
        place: its folder under the results, such as `tiny/segmentation`.
        study: the preset's name.
        scale: tiny, small or paper.
        data: the data set's name.
        table: results.csv.
        axes: names of the study's axes.
        laws: laws.json.
    """

    place: str
    study: str
    scale: str
    data: str
    table: pd.DataFrame
    axes: tuple[str, ...]
    laws: dict[str, Any]

    @property
    def separating(self) -> list[str]:
        """Axes that tell configurations apart, random seeds aside."""
        return [name for name in self.axes if name != "random_seed" and len(self.table[name].drop_duplicates()) > 1]


def read_evidence(folder: Path) -> list[Evidence]:
    """Every folder under `folder` that holds study.yaml and results.csv, by name."""
    found = []
    for file in sorted(folder.rglob("study.yaml")):
        place = file.parent
        if not (place / "results.csv").is_file():
            continue
        study = cast(dict[str, Any], yaml.safe_load(file.read_text()))["study"]
        laws = place / "laws.json"
        found.append(
            Evidence(
                place=place.relative_to(folder).as_posix(),
                study=study["name"],
                scale=study.get("scale", "custom"),
                data=study["data"]["name"],
                table=pd.read_csv(place / "results.csv", dtype={"trial": str, "commit": str}),
                axes=tuple(study["axes"]),
                laws=json.loads(laws.read_text()) if laws.is_file() else {},
            )
        )
    return found
