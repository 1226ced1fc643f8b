"""Before a study starts: the file of weights that every trial begins with, and what is in it."""

from __future__ import annotations

import math
from pathlib import Path

from patchscale.errors import InputError
from patchscale.studies.places import key_of
from patchscale.studies.run_directory import RunDirectory
from patchscale.studies.schema import Study
from patchscale.training import Init, TrialConfig


def settled(study: Study) -> Study:
    """With the weights of every trial that does not start from random ones, by file and content, as they are now.

    Raises:
        InputError: a file or a trial is missing, or a file is not what an earlier digest says.
    """
    starts: dict[str, Init] = {}
    for trial in study.model_copy(update={"starts": {}}).trials():
        init = trial.config.init
        if init is None:
            continue
        place = file = init.weights
        if Path(place).is_dir():
            place, file = key_of(place, trial.config), str(weights_in(RunDirectory(Path(place)), trial.config))
        if place not in starts:
            before = study.starts.get(place, init)
            starts[place] = init.model_copy(update={"weights": file, "sha256": before.sha256}).settled()
    return study.model_copy(update={"starts": starts})


def weights_in(run: RunDirectory, trial: TrialConfig) -> Path:
    """The weights of the finished trial in `run` that has the model and patch size which `trial` begins with.

    Of several, the same input size counts, else the largest, and the same random seed, else the first.

    Raises:
        InputError: there is none, or it is not finished, or several differ in something else.
    """
    source, _ = run.read_study()
    first = trial.plain()[0]
    wanted = f"{first.model.name} at patch size {first.model.patch_size}"
    same = [one for one in source.trials() if one.config.model.name == first.model.name]
    found = [one for one in same if one.config.model.patch_size == first.model.patch_size]
    if not found:
        sizes = sorted({one.config.model.patch_size for one in same}, reverse=True)
        has = f"it has patch size {', '.join(map(str, sizes))}" if sizes else "it has other models"
        raise InputError(f"init: {run.path} has no trial of {wanted}; {has}")
    sizes = [one.config.model.input_size for one in found]
    size = first.model.input_size if first.model.input_size in sizes else max(sizes, key=math.prod)
    found = [one for one in found if one.config.model.input_size == size]
    seeds = [one.config.random_seed for one in found]
    seed = trial.random_seed if trial.random_seed in seeds else seeds[0]
    found = [one for one in found if one.config.random_seed == seed]
    if len(found) > 1:
        axes = [name for name in found[0].axes if len({repr(one.axes[name]) for one in found}) > 1]
        raise InputError(
            f"init: {run.path} has {len(found)} trials of {wanted}, which differ in {', '.join(axes)}; name a file"
        )
    weights = run.trial_folder(found[0].id) / "weights.safetensors"
    if run.result(found[0].id) is None or not weights.is_file():
        raise InputError(f"init: the trial of {wanted} in {run.path} is not finished; run that study first")
    return weights
