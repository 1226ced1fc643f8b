"""Training of one trial: the typed recipe, the loop, checkpoints that resume exactly, weights that say what they are.

All randomness is a pure function of the random seed and the step, so a resumed trial gives the same digits.
"""

from patchscale.training.init import Init
from patchscale.training.loop import Keep, Progress, make_task
from patchscale.training.machine import default_device, describe_device
from patchscale.training.metrics import read_metrics
from patchscale.training.outcome import SaidElsewhere, Stopped, TrainingFailed
from patchscale.training.placement import Parallel
from patchscale.training.processes import Processes, join
from patchscale.training.recipe import Recipe
from patchscale.training.stages import train
from patchscale.training.trial import Stage, TrialConfig
from patchscale.training.weights import TrainedModel, load_weights, save_weights

__all__ = [
    "Init",
    "Keep",
    "Parallel",
    "Processes",
    "Progress",
    "Recipe",
    "SaidElsewhere",
    "Stage",
    "Stopped",
    "TrainedModel",
    "TrainingFailed",
    "TrialConfig",
    "default_device",
    "describe_device",
    "join",
    "load_weights",
    "make_task",
    "read_metrics",
    "save_weights",
    "train",
]
