"""Kept tokens and reducers as axes: from YAML to trained trials, their cost, and what the study says of them."""

from __future__ import annotations

import pytest
import torch

from patchscale import studies
from patchscale.data import DataSpec
from patchscale.errors import InputError
from patchscale.studies import load_study
from patchscale.tasks import ModelSpec, Regularisation, build_task
from patchscale.training import Recipe, TrialConfig, train
from patchscale.training.costs import cost_of

SMALL = [
    "axes.model=[deit_atto_patch16]", "axes.patch_size=[8]", "axes.input_size=[32]", "axes.reducer=[none,tome]",
    "axes.kept_tokens=[2,4,8,16]", "axes.random_seed=[0,1]", "recipe.steps=2", "recipe.warmup_steps=0",
    "recipe.batch_size=8", "data.train_size=32", "data.test_size=32",
    "skip=[{reducer: none, kept_tokens: [2, 4, 8]}, {reducer: tome, kept_tokens: 16}]", "evaluations=1",
]  # fmt: skip


def spec(**changes) -> ModelSpec:
    return ModelSpec(**{"name": "deit_atto_patch16", "patch_size": 8, "input_size": (32, 32), **changes})


def test_the_preset_is_the_published_question():
    trials = load_study("visual_bases", scale="small").trials()
    models = {trial.config.model.name for trial in trials}
    reducers = {trial.axes["reducer"] for trial in trials} - {"none"}
    assert (len(models), len(reducers)) == (3, 4)
    assert len(trials) == 3 * (2 * 4 + 1)
    assert {trial.config.model.tokens for trial in trials} == {64}
    served = {trial.config.model.counts for trial in trials if trial.axes["reducer"] != "none"}
    assert served == {(2, 4, 8, 16, 32, 64)}
    paper = load_study("visual_bases", scale="paper")
    assert {"filtering_released", "filtering", "qr"} < set(paper.axes["reducer"])
    assert load_study("visual_bases").trials()


def test_a_study_of_kept_tokens_ends_in_what_it_says(tmp_path):
    study = load_study("visual_bases", scale="tiny", settings=SMALL)
    outcome = studies.run(study, tmp_path / "run", workers=1, say=lambda line: None)
    assert not outcome.failed
    table = studies.results(tmp_path / "run")
    assert set(zip(table["reducer"], table["kept_tokens"], strict=True)) == {
        ("tome", 2), ("tome", 4), ("tome", 8), ("none", 16)
    }  # fmt: skip
    full = table[table["reducer"] == "none"]["flops_per_image"].iloc[0]
    assert (table[table["reducer"] == "tome"]["flops_per_image"] < full).all()
    found = outcome.laws["kept_tokens"]
    assert len(found["minimum_tokens"]) == 6
    assert [row["share"] for row in found["equal_flops"]] == [0.125, 0.25, 0.5]


def test_one_model_for_several_k_is_measured_at_each(tmp_path):
    config = TrialConfig(
        model=spec(reducer="filtering", kept_tokens=8, nested=(2, 4, 8)),
        data=DataSpec(train_size=32, test_size=32),
        recipe=Recipe(steps=3, batch_size=8, precision="float32"),
        evaluations=1,
    )
    row = train(config, tmp_path, device=torch.device("cpu"))
    assert row["test_loss_k8"] == row["test_loss"]
    assert len({row[f"test_loss_k{kept}"] for kept in (2, 4, 8)}) == 3
    each = [cost_of(spec(reducer="filtering", kept_tokens=kept), 10).flops_train for kept in (2, 4, 8)]
    assert row["train_flops"] == pytest.approx(3 * 8 * sum(each) / 3)


def test_a_batch_draws_its_k_whatever_its_parts():
    nested = spec(reducer="random", kept_tokens=8, nested=(2, 4, 8))
    task = build_task("classification", nested, DataSpec(train_size=32, test_size=8), {}, Regularisation())
    indices = torch.arange(8)
    drawn = [task.batch(indices, seed, slice(0, 8)).targets[1] for seed in range(30)]
    assert set(drawn) == {2, 4, 8}
    assert drawn == [task.batch(indices, seed, slice(5, 6)).targets[1] for seed in range(30)]
    model, seen = task.build_model().train(), []
    model.reduction.reducer.register_forward_hook(lambda module, args, out: seen.append(out.tokens.shape[1]))
    for seed in range(30):
        task.loss(model, task.batch(indices, seed, slice(0, 2)))
    assert seen == drawn


def test_a_nested_trial_has_a_row_for_each_k(tmp_path):
    settings = [*SMALL[:4], "axes.kept_tokens=[16]", "model.nested=[2,4,8,16]", "axes.random_seed=[0]", "skip=[]"]
    study = load_study("visual_bases", scale="tiny", settings=[*settings, *SMALL[6:11], SMALL[-1]])
    outcome = studies.run(study, tmp_path / "run", workers=1, say=lambda line: None)
    assert not outcome.failed
    table = studies.results(tmp_path / "run").set_index(["reducer", "kept_tokens"])
    assert list(table.index) == [("none", 16), *(("tome", kept) for kept in (2, 4, 8, 16))]
    tome = table.loc["tome"]
    assert tome["test_loss"].nunique() == 4
    assert tome["train_flops"].nunique() == 1
    few = cost_of(spec(reducer="tome", kept_tokens=4), 10)
    assert tome.loc[4, "flops_per_image"] == few.flops_forward
    assert tome.loc[16, "flops_per_image"] == table.loc[("none", 16), "flops_per_image"]


def test_auxiliary_losses_are_trained(tmp_path):
    losses = {}
    for weight in (0.0, 5.0):
        options = {"orthogonality": 0.0, "balance": weight}
        config = TrialConfig(
            model=spec(reducer="filtering", kept_tokens=4, reducer_options=options),
            data=DataSpec(train_size=32, test_size=32),
            recipe=Recipe(steps=1, batch_size=8, precision="float32"),
            evaluations=1,
        )
        losses[weight] = train(config, tmp_path / str(weight), device=torch.device("cpu"))["train_loss"]
    assert losses[5.0] > losses[0.0] + 4, "a balance loss is at least about 1"


def test_costs_count_the_reducer():
    assert cost_of(spec(), 10).reduction is None
    assert cost_of(spec(reducer="tome", kept_tokens=16), 10).flops_forward == cost_of(spec(), 10).flops_forward
    few = cost_of(spec(reducer="filtering", kept_tokens=4, reducer_options={"before": 1}), 10)
    assert few.kept_tokens == 4
    assert {term.stage for term in few.terms} >= {"reducer", "blocks"}
    lct = cost_of(spec(name="lct_vit_tiny_patch16", kept_tokens=4), 10)
    assert (lct.reduction.class_token, lct.kept_tokens) == ("routed", 4)


def test_what_does_not_fit_is_named():
    with pytest.raises(InputError, match="kept_tokens 4 of 16 needs a reducer"):
        _ = spec(kept_tokens=4).reduction
    for wrong, message in (((2, 17), "nested 17 is not between 1 and the 16"), ((2, 2), "names a number twice")):
        with pytest.raises(ValueError, match=message):
            spec(reducer="tome", nested=wrong)
    with pytest.raises(ValueError, match="segmentation needs every token"):
        TrialConfig(
            task="segmentation", model=spec(reducer="tome", kept_tokens=4), data=DataSpec(), recipe=Recipe(steps=1)
        )
