"""The counted cost of a trial's model."""

from __future__ import annotations

import dataclasses

from patchscale.cost import Cost, ModelShape, estimate, shape_of
from patchscale.tasks import ModelSpec


def cost_of(spec: ModelSpec, num_classes: int) -> Cost:
    """Parameters and FLOPs of `spec`; options such as `depth` or `embed_dim` change the counted shape."""
    fields = {field.name for field in dataclasses.fields(ModelShape)}
    changes = {name: value for name, value in spec.options.items() if name in fields}
    shape = dataclasses.replace(shape_of(spec.name), **changes)
    return estimate(shape, input_size=spec.input_size, patch_size=spec.patch_size, num_classes=num_classes)
