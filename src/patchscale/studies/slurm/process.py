"""A job's trial, alone or under torchrun: `python -m patchscale.studies.slurm.process RUN_DIRECTORY TRIAL_ID`.

The trial is read from its config.json, which the launcher wrote: study.yaml may have changed since.
"""

from __future__ import annotations

import sys
from pathlib import Path

from patchscale.studies.run_directory import RunDirectory
from patchscale.studies.schema import Trial
from patchscale.studies.worker import run_trial
from patchscale.training import TrialConfig


def main() -> None:
    run, trial_id = RunDirectory(Path(sys.argv[1])), sys.argv[2]
    config = TrialConfig.model_validate_json((run.trial_folder(trial_id) / "config.json").read_text())
    assert config.trial_id == trial_id, f"config.json is that of {config.trial_id}"
    sys.exit(run_trial(run, Trial(config=config, axes={})))


if __name__ == "__main__":
    main()
