"""A study run for real: trained, fitted, continued after SIGKILL, shared by two processes, honest about failures."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from patchscale.errors import InputError
from patchscale.files import write_json
from patchscale.studies import RunDirectory, analyse, load_study, results, run
from patchscale.studies.counting import planned
from patchscale.studies.reuse import take_over
from patchscale.training.metrics import MetricsFile
from tests.studies.small import SMALL, TIMES

SETTINGS = [*SMALL, "recipe.steps=30", "recipe.warmup_steps=3"]


def study(*settings: str):
    return load_study("quickstart", settings=[*SETTINGS, *settings])


def command(out: Path) -> list[str]:
    words = [word for setting in SETTINGS for word in ("--set", setting)]
    return [sys.executable, "-m", "patchscale", "study", "run", "quickstart", "--out", str(out), *words]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "finished"
    outcome = run(study(), out)
    assert not outcome.failed
    return out


def test_a_run_leaves_table_laws_and_trials(finished: Path) -> None:
    table = results(finished)
    assert len(table) == 4
    assert set(table["patch_size"]) == {16, 8}
    assert set(table["tokens"]) == {1, 4}
    assert table["trial"].is_unique
    curves = pd.read_csv(finished / "learning_curves.csv")
    assert set(curves["trial"]) == set(table["trial"])
    assert curves.groupby("trial")["test_loss"].last().to_dict() == table.set_index("trial")["test_loss"].to_dict()
    laws = json.loads((finished / "laws.json").read_text())
    assert laws["differences"][0]["pairs"] == 2
    assert laws["notes"], "two patch sizes are too few for a law, which must be said"
    for trial in study().trials():
        folder = finished / "trials" / trial.id
        assert json.loads((folder / "config.json").read_text()) == trial.config.model_dump(mode="json")
        assert (folder / "weights.safetensors").exists()
        assert not (folder / "checkpoints" / "last.safetensors").exists()


def test_finished_trials_are_not_run_again(finished: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.glob("trials/*/result.json")}
    said = []
    run(study(), finished, say=said.append)
    assert any("4 of 4 trials are finished" in line for line in said)
    assert before == {path: path.stat().st_mtime_ns for path in finished.glob("trials/*/result.json")}


def test_sigkill_and_the_same_command_give_the_same_table(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    process = subprocess.Popen(command(out), stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(out.glob("trials/*/result.json")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done_before = {path: path.stat().st_mtime_ns for path in out.glob("trials/*/result.json")}
    assert 0 < len(done_before) < 4
    subprocess.run(command(out), check=True, stdout=subprocess.DEVNULL)
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in done_before.items())
    pd.testing.assert_frame_equal(results(out).drop(columns=TIMES), results(finished).drop(columns=TIMES))


def test_two_processes_share_a_study(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "shared"
    both = [subprocess.Popen(command(out), stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    pd.testing.assert_frame_equal(results(out).drop(columns=TIMES), results(finished).drop(columns=TIMES))


def test_a_failing_trial_is_named_and_the_others_finish(tmp_path: Path) -> None:
    outcome = run(study("axes.recipe.learning_rate=[0.003,1.0e30]", "recipe.clip_norm=null"), tmp_path / "run")
    assert len(outcome.failed) == 4
    assert all("at step" in reason and "lower the learning rate" in reason for reason in outcome.failed.values())
    assert len(results(tmp_path / "run")) == 4
    states = {trial.id: outcome.run.state(trial) for trial in outcome.study.trials()}
    assert sorted(states.values()) == ["done"] * 4 + ["failed"] * 4


def test_a_recipe_axis_gets_laws_of_its_own(tmp_path: Path) -> None:
    outcome = run(study("axes.recipe.learning_rate=[0.001,0.003]", "axes.random_seed=[0]"), tmp_path / "run")
    assert outcome.laws is not None
    rates = [found["group"]["recipe.learning_rate"] for found in outcome.laws["differences"]]
    assert rates == [0.001, 0.003]
    assert set(results(tmp_path / "run")["recipe.learning_rate"]) == {0.001, 0.003}


@pytest.mark.parametrize(
    ("axis", "values"),
    [
        ("recipe.augment", ["{horizontal_flip: 0.5}", "{crop_padding: 2}"]),
        ("model.options", ["{depth: 2}", "{depth: 4}"]),
        ("recipe.clip_norm", ["null", "1.0"]),
    ],
)
def test_any_field_is_an_axis_from_the_plan_to_the_table_on_disk(tmp_path: Path, axis: str, values: list[str]) -> None:
    settings = [f"axes.{axis}=[{', '.join(values)}]", "axes.random_seed=[0]", "axes.patch_size=[16,8,4]"]
    planned_study, directory = study(*settings), RunDirectory(tmp_path)
    json.dumps(planned(planned_study)[0], allow_nan=False)
    directory.create()
    directory.write_study(planned_study, {"sharing": {}, "provenance": {}})
    for trial in planned_study.trials():
        row = {"trial": trial.id, "tokens": trial.config.model.tokens, "test_loss": 1 / trial.config.model.tokens}
        with directory.hold(trial.id) as folder:
            write_json(folder / "result.json", row)
            MetricsFile(folder / "metrics.jsonl").append(kind="test", step=1, train_flops=1, test_loss=row["test_loss"])
    laws = analyse(directory)
    found = [str(law["group"][axis]) for law in laws["laws"] if law["form"] == "power"]
    assert len(found) == len(laws["differences"]) / 2 == 2
    assert list(results(tmp_path)[axis].drop_duplicates()) == found


def test_other_data_in_the_same_folder_is_refused(finished: Path) -> None:
    before = (finished / "study.yaml").read_text()
    with pytest.raises(InputError, match="with other data; choose another --out"):
        run(study("data.data_seed=1"), finished)
    assert (finished / "study.yaml").read_text() == before


def test_bad_input_starts_nothing(tmp_path: Path) -> None:
    for setting, message in [
        ("axes.patch_size=[5]", "patch_size 5 does not divide image height 16; use one of 1, 2, 4, 8, 16"),
        ("axes.model=[deit_picco_patch16]", "unknown model 'deit_picco_patch16'"),
        ("data.name=no/such/folder", "no/such/folder"),
        ("recipe.augment.crop_padding=16", "crop_padding 16 must be smaller than the image"),
        ("axes.model=[vit_tiny_patch16_224]", "vit_tiny_patch16_224"),
    ]:
        with pytest.raises(InputError, match=message):
            run(study(setting), tmp_path / "run")
        assert not (tmp_path / "run").exists()


def test_a_folder_that_is_no_run_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is not a run directory: it has no study\.yaml"):
        RunDirectory(tmp_path).read_study()
    (tmp_path / "file").write_text("")
    (tmp_path / "study.yaml").write_text("name: mine\n")
    with pytest.raises(InputError, match="was not written by a run"):
        run(study(), tmp_path)
    with pytest.raises(InputError, match="cannot write to"):
        run(study(), tmp_path / "file")


def test_what_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    """Folders in the place of files are refused to everyone, also to root."""
    counted = load_study("overhead")
    directory = run(counted, tmp_path / "run").run
    for name, call in [
        ("results.csv", lambda: analyse(directory)),
        ("lock", lambda: run(counted, directory.path)),
        ("study.yaml", lambda: directory.write_study(counted, {})),
        ("trials/abc/failed.json", lambda: directory.write_failure("abc", "no reason")),
        ("trials/abc/lock", lambda: directory.hold("abc").__enter__()),
    ]:
        (directory.path / name).unlink(missing_ok=True)
        (directory.path / name).mkdir(parents=True)
        with pytest.raises(InputError, match=r"cannot write to .*run.*: Is a directory; what was written"):
            call()


def test_trials_that_another_run_finished_are_taken_over(finished: Path, tmp_path: Path) -> None:
    """Two of four are there: they are copied whole, the other two are trained, and nothing is added to the source."""
    source_before = sorted(finished.rglob("*"))
    said = []
    wider = study("axes.random_seed=[0]", "axes.patch_size=[16,8,4]")
    outcome = run(wider, tmp_path / "wider", reuse=[finished.parent], say=said.append)
    assert f"2 trials taken from {finished}" in said
    table, own = results(tmp_path / "wider"), results(finished).set_index("trial")
    assert not outcome.failed
    assert len(table) == 3
    shared = table.loc[table["trial"].isin(own.index)].set_index("trial")
    assert list(shared["patch_size"]) == [16, 8]
    pd.testing.assert_frame_equal(shared, own.loc[shared.index, shared.columns])
    for trial in shared.index:
        old, new = (folder / "trials" / trial for folder in (finished, tmp_path / "wider"))
        assert (new / "weights.safetensors").read_bytes() == (old / "weights.safetensors").read_bytes()
        assert not (new / "checkpoints").exists()
    assert sorted(finished.rglob("*")) == source_before


def test_a_trial_that_has_begun_here_is_not_replaced(finished: Path, tmp_path: Path) -> None:
    trial = study().trials()[0]
    begun = tmp_path / "begun" / "trials" / trial.id
    begun.mkdir(parents=True)
    (begun / "metrics.jsonl").write_text("")
    run_directory = RunDirectory(tmp_path / "begun")
    assert set(take_over(run_directory, study().trials(), [RunDirectory(finished)])) == {
        one.id for one in study().trials()[1:]
    }
    assert run_directory.result(trial.id) is None


@pytest.mark.parametrize(("place", "message"), [("nowhere", "no such folder"), ("full", "neither is nor holds")])
def test_a_place_without_run_directories_is_refused(tmp_path: Path, place: str, message: str) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("nothing")
    with pytest.raises(InputError, match=message):
        run(study(), tmp_path / "out", reuse=[tmp_path / place])
    assert not (tmp_path / "out").exists()
