"""What a model costs, from shapes alone: parameters, FLOPs, memory, time, and which configuration a budget allows.

Loads no torch. `estimate` counts one model.
"""

from __future__ import annotations

from patchscale.cost.estimate import Cost, estimate
from patchscale.cost.shapes import SHAPES, ModelShape, shape_of

__all__ = ["SHAPES", "Cost", "ModelShape", "estimate", "shape_of"]
