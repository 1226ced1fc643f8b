"""What a model is trained for: each task brings head, loss and an exact metric, and turns sample indices into batches.

A task is built from a `ModelSpec` and a `DataSpec` by `build_task`; training never looks inside it.
"""

from patchscale.tasks.task import (
    TASKS,
    Batch,
    ModelSpec,
    Predicted,
    Regularisation,
    Task,
    Trained,
    build_network,
    build_task,
    evaluate,
    task_class,
)

__all__ = [
    "TASKS",
    "Batch",
    "ModelSpec",
    "Predicted",
    "Regularisation",
    "Task",
    "Trained",
    "build_network",
    "build_task",
    "evaluate",
    "task_class",
]
