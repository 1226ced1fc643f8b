"""Studies: a grid of trials over axes from a YAML preset, run resumably in a run directory, ended by fitted laws.

`load_study` resolves a preset or file, `run` carries it out, `RunDirectory` tells where it stands.
"""

from patchscale.studies.analysis import analyse, results
from patchscale.studies.presets import SCALES, load_study, preset_names, preset_text
from patchscale.studies.run import Outcome, check, run
from patchscale.studies.run_directory import RunDirectory
from patchscale.studies.schema import Study, Trial
from patchscale.studies.settle import settled

__all__ = [
    "SCALES",
    "Outcome",
    "RunDirectory",
    "Study",
    "Trial",
    "analyse",
    "check",
    "load_study",
    "preset_names",
    "preset_text",
    "results",
    "run",
    "settled",
]
