"""The planner: what it names, what it says of its limits, and that its numbers follow from the parts."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from patchscale.cost import DEVICES, SHAPES, device_of, estimate, plan, training_memory
from patchscale.cost.outlook import IMAGENET_IMAGES, LABORATORY, Outlook, PublishedLaw, Question
from patchscale.cost.published_law import fit_published_law, load_published_law, published_points
from patchscale.cost.schedules import stages
from patchscale.cost.table_law import TableLaw
from patchscale.errors import InputError

RESULTS = Path(__file__).parents[2] / "results"
IMAGENET = {"data_size": IMAGENET_IMAGES}


@pytest.fixture(scope="module")
def eight_h100():
    return plan("h100", gpus=8, budget_hours=48, **IMAGENET)


def test_the_kept_law_is_the_fit_of_the_published_tables():
    fitted, kept = fit_published_law(), load_published_law()
    assert fitted["points"] == kept["points"] == 49
    assert fitted["cells"] == kept["cells"]
    assert fitted["values"] == pytest.approx(kept["values"], rel=1e-3)
    np.testing.assert_allclose(fitted["covariance"], kept["covariance"], rtol=1e-2, atol=1e-6)
    assert kept["largest_residual"] < 0.06


def test_the_law_fitted_to_coarse_patches_predicts_the_fine_ones():
    points = published_points()
    coarse = fit_published_law(points[points["patch_size"] >= 4])
    law = PublishedLaw()
    law.values = np.array(list(coarse["values"].values()))
    fine = points[points["patch_size"] < 4].to_dict("records")
    errors = [
        law.log_value(estimate(row["model"], input_size=int(row["input"]), patch_size=row["patch_size"]))[0]
        - np.log(row["error"])
        for row in fine
    ]
    assert len(errors) == 19
    assert np.sqrt(np.mean(np.square(errors))) < 0.04
    assert np.abs(errors).max() < 0.1


def test_eight_h100_for_two_days_on_imagenet(eight_h100):
    best = eight_h100.configurations[0]
    assert eight_h100.fits
    assert best.model in SHAPES
    assert best.patch_size in (4, 8)
    assert best.hours <= 48
    assert best.hours_low < best.hours < best.hours_high
    assert best.low < best.predicted < best.high
    assert best.outside == ()
    assert best.batch_per_device * best.accumulation * 8 >= best.batch_size
    for line in eight_h100.configurations:
        assert line.fits
        assert line.hours <= 48 * (1 + 1e-6)
        assert line.memory_bytes <= eight_h100.memory_bytes
    highs = [line.high for line in eight_h100.configurations]
    assert highs == sorted(highs)
    for word in ("patch 8", "recompute", "batch", " h (", "top-1 error"):
        assert word in eight_h100.text
    json.dumps(eight_h100.to_dict(), allow_nan=False)


def test_what_lies_outside_the_law_says_so(eight_h100):
    published = {tuple(cell) for cell in load_published_law()["cells"]}
    for line in eight_h100.configurations:
        inside = (line.model, line.input_size[0], line.patch_size) in published
        assert bool(line.outside) == (not inside or line.share < 1 or line.start == "coarser")
        assert ("EXTRAPOLATED" in line.sentence("error")) == bool(line.outside)


def test_memory_of_a_line_is_the_memory_model_s(eight_h100):
    line = next(line for line in eight_h100.configurations if line.start == "scratch")
    cost = estimate(line.model, input_size=line.input_size, patch_size=line.patch_size)
    last = training_memory(
        cost, batch_size=line.batch_per_device, recompute=line.recompute, accumulation=line.accumulation, gpus=8
    ).peak
    assert line.memory_bytes >= last


def test_a_24_gb_laptop_gets_something_sensible():
    sensible = plan("laptop", budget_hours=48, memory=24, **IMAGENET)
    best = sensible.configurations[0]
    assert sensible.fits
    assert best.input_size <= (128, 128)
    assert best.memory_bytes <= 0.75 * 24 * 2**30
    assert best.model.split("_")[1] in ("pico", "nano", "tiny")
    assert "--calibrate" in sensible.text


def test_impossible_budget_gets_the_nearest_plan():
    nothing = plan("rtx4090", budget_hours=0.01, **IMAGENET)
    assert not nothing.fits
    assert nothing.learn_first is None
    needed = [line.over for line in nothing.configurations]
    assert needed == sorted(needed)
    assert needed[0] > 1
    assert nothing.configurations[0].hours == pytest.approx(0.01 * needed[0])
    assert "no configuration fits a budget of 0.01 hours" in nothing.notes[0]


def test_impossible_memory_names_the_least_there_is():
    nothing = plan("rtx4090", budget_hours=1000, memory=1.5, models=["deit_base_patch16"], **IMAGENET)
    assert not nothing.fits
    assert "nothing fits in" in nothing.notes[0]
    assert nothing.configurations[0].memory_bytes > nothing.memory_bytes
    assert nothing.configurations[0].recompute


def test_recompute_where_memory_is_short():
    tight = plan("rtx4090", budget_hours=1e6, models=["deit_large_patch16"], inputs=[224], patches=[1], **IMAGENET)
    assert tight.configurations[0].recompute
    assert tight.configurations[0].memory_bytes <= tight.memory_bytes < 24 * 2**30


def test_more_budget_never_predicts_worse():
    bounds = [
        plan("a100", gpus=8, budget_hours=hours, **IMAGENET).configurations[0].high for hours in (5, 20, 100, 500)
    ]
    assert bounds == sorted(bounds, reverse=True)


def test_the_three_budgets_agree():
    by_hours = plan("a100", gpus=4, budget_hours=30, price_per_hour=2.0, **IMAGENET)
    by_money = plan("a100", gpus=4, budget_money=240, price_per_hour=2.0, **IMAGENET)
    assert by_hours.to_dict()["configurations"] == by_money.to_dict()["configurations"]
    assert by_money.configurations[0].money <= 240 * (1 + 1e-9)
    flops = by_hours.configurations[0].train_flops
    by_flops = plan("a100", budget_flops=flops, **IMAGENET)
    assert all(line.train_flops <= flops * (1 + 1e-9) for line in by_flops.configurations)


def test_target_picks_the_cheapest_that_reaches_it():
    reached = plan("h100", gpus=8, budget_hours=48, target=0.82, **IMAGENET).configurations
    likely = [line for line in reached if line.target_probability >= 0.5]
    assert likely
    assert likely == list(reached[: len(likely)])
    assert [line.device_hours for line in likely] == sorted(line.device_hours for line in likely)
    assert "likelier than not" in plan("h100", budget_hours=5, target=0.9, **IMAGENET).text


def test_a_larger_budget_never_makes_a_target_dearer():
    costs = []
    for hours in (2.5, 3, 3.6, 5, 24, 2000):
        best = plan("a100", gpus=8, budget_hours=hours, target=0.8, **IMAGENET).configurations[0]
        costs.append(best.device_hours if best.target_probability >= 0.5 else np.inf)
    assert costs == sorted(costs, reverse=True)
    assert costs[-1] < 8 * 2.9


@pytest.mark.parametrize(("start", "target"), [("scratch", 0.8), ("coarser", 0.8), ("scratch", 0.84), ("scratch", 0.5)])
def test_a_schedule_ends_where_the_target_is_reached(start, target):
    outlook = Outlook(PublishedLaw(), LABORATORY)
    cost = estimate("adventurer_small_patch16", input_size=224, patch_size=8)

    def chance(share):
        return outlook.predict(Question(cost, share, start)).chance_below(1 - target)

    least = outlook.share_reaching(1 - target, cost, start)
    if chance(1.0) < 0.5:
        assert least == 1
        return
    assert 0.5 <= chance(least) < 0.5 + 1e-6
    after = [chance(share) for share in np.geomspace(least, 1.0, 20)]
    assert after == sorted(after)
    assert all(chance(share) < 0.5 for share in np.geomspace(least / 1000, least * 0.999, 20))


def test_a_target_out_of_reach_leaves_the_whole_schedule():
    best = plan("h100", gpus=8, budget_hours=1e6, target=0.999, **IMAGENET).configurations[0]
    assert best.share == 1
    assert best.target_probability < 0.5


def test_other_data_carries_only_the_order():
    own, home = plan("h100", budget_hours=20, data_size=60_000), plan("h100", budget_hours=20, **IMAGENET)
    assert "not of your 60,000" in own.notes[0]
    assert all("the law is of other images" in line.outside for line in own.configurations)
    assert "ImageNet-1k (1,281,167" not in home.text.split("1.")[0]
    spread = [np.log(p.configurations[0].high / p.configurations[0].low) for p in (own, home)]
    assert spread[0] > 4 * spread[1]


def test_first_trial_is_affordable_and_teaches(eight_h100):
    lesson = eight_h100.learn_first
    assert 0 < lesson.device_hours <= 0.25 * 48 * 8
    before, after = lesson.interval_before, lesson.interval_after
    assert before[0] < after[0] < after[1] < before[1]
    assert lesson.shrinks_by == pytest.approx(1 - np.log(after[1] / after[0]) / np.log(before[1] / before[0]))


def test_a_run_teaches_most_about_itself():
    outlook = Outlook(PublishedLaw(), LABORATORY)
    near, far = (Question(estimate(f"{m}_patch16", input_size=224)) for m in ("deit_large", "adventurer_tiny"))
    before = outlook.predict(near).deviation
    assert outlook.after(near, near) < outlook.after(far, near) < before


def test_published_schedules():
    def epochs(name, side, patch_size=16, start="scratch"):
        return [(s.input_size, s.epochs) for s in stages(SHAPES[name], side, patch_size, start)]

    assert epochs("adventurer_base_patch16", 224) == [(128, 300), (224, 120)]
    assert epochs("adventurer_base_patch16", 128) == [(128, 320)]
    assert epochs("adventurer_base_patch16", 64) == [(64, 300)]
    assert epochs("adventurer_large_patch16", 224) == [(128, 200), (224, 100)]
    assert epochs("deit_base_patch16", 224) == [(224, 300)]
    assert epochs("deit_base_patch16", 224, 8, "coarser") == [(224, 120)]


def own_table(seeds: int = 3, patches=(16, 8, 4, 2)) -> pd.DataFrame:
    """Losses drawn from a known law, as a study would write them."""
    generator = np.random.default_rng(7)
    rows = []
    for model, scale in (("deit_pico_patch16", 2.0), ("adventurer_pico_patch16", 1.8)):
        for patch in patches:
            tokens = (32 // patch) ** 2
            for seed in range(seeds):
                loss = (0.9 + scale * tokens**-0.5) * np.exp(generator.normal(0, 0.01))
                rows.append({"model": model, "patch_size": patch, "input_size": 32, "random_seed": seed, "steps": 2000,
                             "samples_seen": 256_000, "test_loss": loss, "top1": 1 - loss / 3})  # fmt: skip
    return pd.DataFrame(rows)


def test_own_table_is_read_through_its_own_law(tmp_path):
    path = tmp_path / "results.csv"
    own_table().to_csv(path, index=False)
    own = plan("cpu", budget_hours=5, data_size=50_000, table=path)
    assert own.quantity == "test_loss"
    for line in own.configurations:
        scale = 2.0 if line.model.startswith("deit") else 1.8
        true = 0.9 + scale * line.tokens**-0.5
        assert line.batch_size == 128
        if line.share == 1 and not line.outside:
            assert line.low < true < line.high
            assert line.predicted == pytest.approx(true, rel=0.05)
    finest = plan("h100", budget_hours=50, data_size=50_000, table=path, patches=[1]).configurations
    assert all("outside the 4 to 256 of the table" in line.outside[0] for line in finest)
    by_error = plan("cpu", budget_hours=5, data_size=50_000, table=path, metric="top1", target=0.5)
    assert by_error.quantity == "top1_error"


def test_losses_that_lie_on_a_curve_are_not_believed_to_be_without_noise():
    table = own_table(seeds=1, patches=(16, 8, 4)).assign(test_loss=2.0)
    own = plan("cpu", budget_hours=5, data_size=50_000, table=table, target=2.001)
    for line in own.configurations:
        assert line.predicted == pytest.approx(2.0, rel=1e-3)
        assert line.low < 2.0 < line.high
        assert 0 < line.target_probability < 1


def test_one_input_size_is_one_law_however_it_is_written():
    table = own_table().astype({"input_size": object})
    table.loc[table["random_seed"] == 0, "input_size"] = "32x32"
    own, usual = (plan("cpu", budget_hours=5, data_size=50_000, table=one) for one in (table, own_table()))
    assert own.text == usual.text


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("patch_size", math.nan, "column 'patch_size', row 1: nan is not a finite number"),
        ("patch_size", 0, "column 'patch_size', row 1: 0 is not positive"),
        ("patch_size", 5, "column 'patch_size', row 1: 5 does not divide 32x32 pixels"),
        ("patch_size", 0.5, "column 'patch_size', row 1: 0.5 does not divide"),
        ("patch_size", 64, "column 'patch_size', row 1: 64 does not divide"),
        ("samples_seen", math.nan, "column 'samples_seen', row 1: nan is not a finite number"),
        ("steps", 0, "column 'steps', row 1: 0 is not positive"),
        ("test_loss", "high", "column 'test_loss', row 1: 'high' is not a finite number"),
        ("input_size", "32x32x3", "input_size '32x32x3' is not a number of pixels"),
        ("input_size", "inf", "input_size 'inf' is not a number of pixels"),
        ("input_size", 0, "input_size 0 is not a number of pixels"),
    ],
)
def test_a_value_without_meaning_is_named(column, value, message):
    table = own_table().astype(object)
    table.loc[1, column] = value
    with pytest.raises(InputError, match=message):
        plan("cpu", budget_hours=5, data_size=50_000, table=table)


@pytest.mark.parametrize("content", [b"", b"\x89PNG", b"a,b\n1,2,3\n1,2,3,4\n"])
def test_a_file_that_is_no_table_is_named(tmp_path, content):
    (tmp_path / "results.csv").write_bytes(content)
    with pytest.raises(InputError, match=r"results\.csv is not a CSV table: .*; give a file whose first line names"):
        plan("cpu", budget_hours=5, data_size=50_000, table=tmp_path / "results.csv")


@pytest.mark.parametrize("accuracy", [1.0, 100.0])
def test_an_accuracy_that_leaves_no_error_is_named(accuracy):
    table = own_table().assign(top1=0.5 * accuracy)
    table.loc[1, "top1"] = accuracy
    with pytest.raises(InputError, match="column 'top1', row 1"):
        plan("cpu", budget_hours=5, data_size=50_000, table=table, metric="top1")


@pytest.mark.parametrize("setting", ["recipe.learning_rate", "task.protocol", "data.repeats", "init", "samples_seen"])
def test_trials_that_were_trained_differently_are_not_one_law(setting):
    table = own_table()
    values = [0.001, 0.003, 0.009] if setting != "samples_seen" else [64_000, 128_000, 256_000]
    table[setting] = table["random_seed"].map(dict(enumerate(values)))
    message = (
        rf"{setting} has 3 values of deit_pico_patch16 at 32 \({', '.join(map(str, values))}\): keep the rows of one"
    )
    with pytest.raises(InputError, match=message):
        TableLaw(table)
    one = TableLaw(table[table["random_seed"] == 1])
    assert set(one.laws) == {("deit_pico_patch16", (32, 32)), ("adventurer_pico_patch16", (32, 32))}


def test_models_may_have_settings_of_their_own_but_not_data():
    table = own_table()
    rates = table["model"].map({"deit_pico_patch16": 1e-3, "adventurer_pico_patch16": 3e-3})
    scores = {name: np.arange(len(table)) for name in ("top5", "seconds", "device", "commit", "trial", "val.score")}
    assert len(TableLaw(table.assign(**{"recipe.learning_rate": rates}, **scores)).laws) == 2
    with pytest.raises(InputError, match=r"data has 2 values \(digits, photos\): keep the rows of one"):
        TableLaw(table.assign(data=np.where(table["model"] == "deit_pico_patch16", "digits", "photos")))


@pytest.mark.parametrize(
    ("columns", "note"),
    [
        ({"sequence_extension": (1, 2)}, "24 rows with sequence_extension 2,"),
        ({"reducer": ("none", "tome"), "kept_tokens": (64, 4)}, "24 rows with reducer tome,"),
        ({"kept_tokens": (math.nan, 4.0)}, "24 rows with kept_tokens 4.0,"),
        ({"model.options": ("{}", "{'depth': 2}")}, "24 rows with model.options {'depth': 2},"),
    ],
)
def test_models_that_plans_do_not_count_are_left_out_by_name(columns, note):
    plain, other = (own_table().assign(**{k: v[i] for k, v in columns.items()}) for i in (0, 1))
    mixed = pd.concat([plain, other.assign(test_loss=other["test_loss"] * 3)], ignore_index=True)
    found, alone = (plan("cpu", budget_hours=5, data_size=50_000, table=table) for table in (mixed, own_table()))
    assert found.configurations == alone.configurations
    assert note in found.notes[0]
    with pytest.raises(InputError, match=f"the table has no rows but {note}"):
        TableLaw(other)


@pytest.mark.parametrize("name", ["tiny_imagenet", "fashion_mnist", "image_or_patch", "sequence_length"])
def test_kept_results_of_classification_can_be_planned(name):
    law = TableLaw(pd.read_csv(RESULTS / name / "results.csv"))
    assert ("deit_pico_patch16", (32, 32)) in law.laws
    assert [text.split(" ")[0] for text in law.left_out if "rows" in text] == ["12"] * (name == "sequence_length")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("camvid", "not the models of segmentation"),
        ("nuclei", "not the models of detection"),
        ("repeated_data", "not the models of masked"),
        ("vlm_tokens", "not the models of captioning"),
        ("visual_bases", "144 rows with reducer tome, qr, filtering, random"),
    ],
)
def test_kept_results_that_plans_do_not_count_are_refused(name, reason):
    with pytest.raises(InputError, match=reason):
        TableLaw(pd.read_csv(RESULTS / name / "results.csv"))


def test_a_model_with_too_few_patches_is_left_out_by_name():
    table = own_table()
    table = table[(table["model"] != "deit_pico_patch16") | (table["patch_size"] > 4)]
    own = plan("cpu", budget_hours=5, data_size=50_000, table=table)
    assert {line.model for line in own.configurations} == {"adventurer_pico_patch16"}
    assert "left out: deit_pico_patch16 at 32: 2 patch sizes" in own.text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"device": "h1000", "budget_hours": 1}, "unknown device 'h1000'"),
        ({}, "0 budgets given"),
        ({"budget_hours": 1, "budget_flops": 1e18}, "2 budgets given"),
        ({"budget_hours": -1}, "budget_hours -1 is not positive"),
        ({"budget_money": 10}, "needs price_per_hour"),
        ({"budget_hours": 1, "data_size": 0}, "data_size 0 is not positive"),
        ({"budget_hours": 1, "gpus": 0}, "gpus 0 is not positive"),
        ({"budget_hours": 1, "target": 84}, "target 84 is not an accuracy between 0 and 1"),
        ({"budget_hours": 1, "metric": "test_loss"}, "give a table to plan by test_loss"),
        ({"budget_hours": 1, "models": ["deit_bass_patch16"]}, "unknown model 'deit_bass_patch16'"),
        ({"budget_hours": 1, "inputs": [30], "patches": [16]}, "no configuration to plan"),
        ({"budget_hours": 1, "patches": [0]}, "must be positive"),
        ({"budget_hours": 1, "table": "missing.csv"}, "no table at missing.csv"),
        ({"budget_hours": 1, "table": pd.DataFrame({"model": ["a"]})}, "the table lacks patch_size"),
        ({"budget_hours": 1, "table": own_table(patches=(16, 8))}, "no law can be fitted"),
        ({"budget_hours": 1, "table": own_table().iloc[:0]}, "the table has no rows; measure three patch sizes"),
        ({"budget_hours": 1, "table": own_table(), "target": math.inf}, "target inf is not a test loss"),
    ],
)
def test_bad_input_is_one_clear_line(arguments, message):
    with pytest.raises(InputError, match=message):
        plan(**({"device": "a100", "data_size": 1000} | arguments))


def test_every_device_plans_without_torch_scipy_or_pandas():
    code = (
        "import sys; from patchscale.cost import DEVICES, plan\n"
        "for d in DEVICES: plan(d, budget_hours=24, data_size=1281167)\n"
        "print([m for m in ('torch', 'scipy', 'pandas') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "[]\n"


def test_calibrated_device_is_used_as_it_is():
    slow = plan("cpu", budget_hours=100, **IMAGENET).configurations[0]
    device = device_of("cpu")
    fast = type(device)(**(device.to_dict() | {"name": "mine", "peak_flops": {"float32": 4e12}}))
    assert plan(fast, budget_hours=100, **IMAGENET).configurations[0].high < slow.high
    assert "mine" not in DEVICES
