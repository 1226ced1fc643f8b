"""What a model costs, from shapes alone: parameters, FLOPs, memory, time, and which configuration a budget allows.

Loads no torch. `estimate` counts one model; `training_memory` and `step_time` say what training it takes on a device;
`plan` ranks what a budget allows.
"""

from __future__ import annotations

from patchscale.cost.configuration import Configuration
from patchscale.cost.devices import DEVICES, Device, device_of
from patchscale.cost.estimate import Cost, estimate
from patchscale.cost.grid import plan_grid
from patchscale.cost.memory import Activations, Memory, activation_memory, largest_batch, training_memory
from patchscale.cost.overhead import overhead_table
from patchscale.cost.plan_result import Lesson, Plan
from patchscale.cost.planner import plan
from patchscale.cost.reduction import TokenReduction
from patchscale.cost.shapes import SHAPES, ModelShape, shape_of
from patchscale.cost.sizes import size_table
from patchscale.cost.time import StepTime, model_flops_hours, step_time

__all__ = [
    "DEVICES",
    "SHAPES",
    "Activations",
    "Configuration",
    "Cost",
    "Device",
    "Lesson",
    "Memory",
    "ModelShape",
    "Plan",
    "StepTime",
    "TokenReduction",
    "activation_memory",
    "device_of",
    "estimate",
    "largest_batch",
    "model_flops_hours",
    "overhead_table",
    "plan",
    "plan_grid",
    "shape_of",
    "size_table",
    "step_time",
    "training_memory",
]
