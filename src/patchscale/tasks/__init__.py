"""What a model is trained for: each task brings head, loss and an exact metric, and turns sample indices into batches.

A task is built from a `ModelSpec` and a `DataSpec` by `build_task`; training never looks inside it.
"""

from patchscale.tasks.classification import Classification
from patchscale.tasks.task import ModelSpec, Task, build_task

__all__ = ["Classification", "ModelSpec", "Task", "build_task"]
