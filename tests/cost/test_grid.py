"""The exported grid: every node is the planner's own answer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from patchscale.cost import plan, plan_grid

TABLE = Path(__file__).parents[2] / "results" / "tiny_imagenet" / "results.csv"


@pytest.fixture(scope="module")
def grid():
    return plan_grid(64_000, table=TABLE, devices=("h100", "cpu"), counts=(1, 4))


def test_nodes_are_plans(grid):
    for device, count, hours, target in ((0, 0, 0, 0), (0, 1, 2, 1), (1, 0, 1, 2), (1, 0, 0, 3)):
        node = dict(zip(grid["fields"], grid["nodes"][device][count][hours][target], strict=True))
        best = plan(
            grid["devices"][device]["name"], gpus=grid["counts"][count], budget_hours=grid["hours"][hours],
            target=grid["targets"][target], data_size=64_000, table=TABLE,
        )  # fmt: skip
        line = best.configurations[0]
        assert (node["model"], node["patch_size"], node["fits"]) == (line.model, line.patch_size, line.fits)
        assert node["predicted"] == pytest.approx(line.predicted, rel=1e-6)
        assert [grid["texts"][index] for index in node["outside"]] == list(line.outside)
        assert [grid["texts"][index] for index in node["notes"]] == list(best.notes)


def test_targets_change_the_recommendation_and_processors_are_alone(grid):
    patches = {node[grid["fields"].index("patch_size")] for node in grid["nodes"][0][0][-1]}
    assert len(patches) > 1
    assert grid["nodes"][1][1] is None
    assert grid["targets"][0] is None
    json.dumps(grid, allow_nan=False)
