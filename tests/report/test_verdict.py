"""The verdict says what the numbers say, also when they are unwelcome."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchscale.report.pareto import configurations, pareto
from patchscale.report.verdict import falling_sentences, listed, verdict

FINISHED = pd.DataFrame(
    {
        "model": ["m", "m", "m", "m"],
        "data": "d",
        "patch_size": [16, 16, 8, 8],
        "random_seed": [0, 1, 0, 1],
        "test_loss": [1.0, 1.1, 0.8, 0.9],
        "loss_drop_last_doubling": [0.001, 0.0, 0.05, 0.03],
    }
)
AXES = ["model", "patch_size"]


def difference(verdict: str, coarse: int = 16, fine: int = 8, by: str = "patch_size", y: str = "test_loss") -> dict:
    return {"group": {"model": "m"}, "from": coarse, "to": fine, "verdict": verdict, "by": by, "y": y}


def test_verdict_counts_refinements_and_names_inversions():
    text = verdict(
        FINISHED, [difference("lower"), difference("undecided"), difference("inversion", 8, 4)], "study", AXES
    )
    assert "Of 3 refinements, 1 lowered" in text
    assert "1 is undecided" in text
    assert "1 inversion raised it (m, patch size 8 to 4)" in text
    assert "Every one of the 2 refinements lowered" in verdict(FINISHED, [difference("lower")] * 2, "study", AXES)
    assert "0 lowered" in verdict(FINISHED, [difference("undecided")], "study", AXES)


def test_every_refinement_says_what_was_refined_and_which_loss_changed():
    """Two studies on one page, and reducers that are told apart."""
    kept = [difference("inversion", 2, 4, "kept_tokens", "mask_loss") for _ in range(2)]
    for entry, reducer in zip(kept, ("qr", "tome"), strict=True):
        entry["group"] = {"model": "m", "reducer": reducer, "patch_size": 4}
    text = verdict(FINISHED, [difference("inversion"), *kept], "studies", AXES)
    assert "0 lowered the test loss or mask loss" in text
    steps = ["m, patch size 16 to 8", "m · reducer qr · patch size 4, kept tokens 2 to 4"]
    assert f"({steps[0]}, {steps[1]} and {steps[1].replace('qr', 'tome')})" in text
    alone = verdict(FINISHED, kept, "study", AXES)
    assert "0 lowered the mask loss" in alone
    assert "(m · reducer qr, kept tokens 2 to 4 and m · reducer tome, kept tokens 2 to 4)" in alone


def test_verdict_names_the_best_and_the_unsettled():
    text = verdict(FINISHED, [], "study", AXES)
    assert "lowest mean test loss is 0.85, by m at patch size 8" in text
    assert "2 of 4 learning curves were still falling by more than 2 %" in text
    assert falling_sentences(FINISHED) == ["patch size 8, by 3.0 to 5.0 % over the last doubling of samples."]
    settled = FINISHED.assign(loss_drop_last_doubling=0.0)
    assert "No learning curve fell by more than 2 %" in verdict(settled, [], "study", AXES)
    unknown = FINISHED.assign(loss_drop_last_doubling=np.nan)
    assert "long enough to say" in verdict(unknown, [], "study", AXES)


def test_the_best_is_one_configuration_with_all_that_names_it():
    """A decoder that is the better one at every patch size, and a reducer whose K only one study has."""
    decoders = {"linear": 0.0, "upernet": 0.5}
    table = pd.concat(
        [FINISHED.assign(**{"task.decoder": name}, test_loss=FINISHED["test_loss"] + d) for name, d in decoders.items()]
    )
    text = verdict(table, [], "study", [*AXES, "task.decoder"])
    assert "lowest mean test loss is 0.85, by m at patch size 8 and decoder linear." in text
    both = pd.concat([FINISHED.assign(study="a"), FINISHED.assign(study="b", kept_tokens=4, test_loss=0.5)])
    text = verdict(both, [], "studies", ["study", *AXES, "kept_tokens"])
    assert "lowest mean test loss is 0.5, by m of b at patch size 16 and kept tokens 4." in text
    text = verdict(both[both["study"] == "a"], [], "studies", ["study", *AXES, "kept_tokens"])
    assert "is 0.85, by m of a at patch size 8." in text


def test_losses_of_different_questions_have_no_lowest():
    other = pd.concat([FINISHED, FINISHED.assign(data="e", test_loss=0.1)])
    text = verdict(other, [], "studies", AXES)
    assert "none is called the lowest" in text
    assert "0.1" not in text
    tasks = pd.concat([FINISHED.assign(task="masked"), FINISHED.assign(task="detection")])
    assert "none is called the lowest" in verdict(tasks, [], "studies", AXES)


def test_verdict_of_nothing_says_so():
    assert (
        verdict(pd.DataFrame(), [], "mine", AXES) == "No trial of mine has finished yet; this page fills as trials end."
    )


def test_listed():
    assert [listed([1]), listed([1, 2]), listed([1, 2, 3])] == ["1", "1 and 2", "1, 2 and 3"]


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=30))
def test_pareto_set_is_exactly_what_nothing_beats(points):
    table = pd.DataFrame(points, columns=["cost", "loss"])
    found = {tuple(row) for row in pareto(table, "cost", "loss").to_numpy().tolist()}
    beaten = lambda a: any(b != a and b[0] <= a[0] and b[1] <= a[1] for b in points)  # noqa: E731
    assert found == {point for point in points if not beaten(point)}


def test_configurations_average_over_seeds_only():
    means = configurations(FINISHED, ["model", "patch_size"])
    assert means["test_loss"].tolist() == pytest.approx([1.05, 0.85])
    assert means["seeds"].tolist() == [2, 2]
