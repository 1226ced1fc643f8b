"""What a model remembers of the images that its training repeats, beside what it remembers of images seen once.

Shape letters: B batch, M images looked at, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from patchscale.data import Augment, RepeatSampler
from patchscale.tasks import Regularisation, Task, build_task
from patchscale.tasks.task import Autocast
from patchscale.training.trial import TrialConfig

LOOKED_AT = 256
"""Images of each kind, at most."""
CHANGE = Augment(color_jitter=0.5)
"""Makes the changed copies: every pixel's value moves, what the image shows stays, whatever the task."""


class Memorisation:
    """Losses on training images as they are and on changed copies, and whether a copy is told to be of its original.

    The images are the first of the repeated subset and the first that were seen once, so that a trial asks about the
    same ones at every test point. Sets that are decoded as they are read show one random crop of each.

    Args:
        config: the trial.
        sampler: which of its images it repeats.
    """

    def __init__(self, config: TrialConfig, sampler: RepeatSampler) -> None:
        kinds = {"repeated": sampler.subset[:LOOKED_AT], "unique": sampler.unique[:LOOKED_AT]}
        self.images = {kind: images for kind, images in kinds.items() if len(images)}
        self.plain, self.changed = (
            build_task(config.task, config.model, config.data, config.task_options, Regularisation(augment))
            for augment in (Augment(), CHANGE)
        )
        self.rows = config.recipe.batch_size

    @torch.no_grad()
    def scores(self, model: nn.Module, device: torch.device, autocast: Autocast) -> dict[str, float]:
        """By kind (`repeated`, `unique`): `<kind>_loss`, `<kind>_changed_loss` and `<kind>_recall`.

        Recall is the fraction of changed copies whose nearest features, among those of all images looked at, are their
        original's. Tasks whose inputs are not one tensor of images have none.
        """
        was_training = model.training
        model.eval()
        found, originals, copies = {}, {}, {}
        for kind, images in self.images.items():
            found[f"{kind}_loss"], originals[kind] = self._look(self.plain, images, model, device, autocast)
            found[f"{kind}_changed_loss"], copies[kind] = self._look(self.changed, images, model, device, autocast)
        model.train(was_training)
        if any(features is None for features in originals.values()):
            return found
        gallery, first = torch.cat(list(originals.values())), 0
        for kind, features in copies.items():
            nearest = torch.cdist(features, gallery).argmin(dim=1)
            own = torch.arange(first, first + len(features), device=nearest.device)
            found[f"{kind}_recall"] = (nearest == own).double().mean().item()
            first += len(features)
        return found

    def _look(
        self, task: Task, images: Tensor, model: nn.Module, device: torch.device, autocast: Autocast
    ) -> tuple[float, Tensor | None]:
        """Mean loss of training images [M], and their mean features [M, D] if the inputs are a tensor."""
        total, features = 0.0, []
        for start in range(0, len(images), self.rows):
            batch = task.batch(images, 0, slice(start, min(start + self.rows, len(images)))).to(device)
            with autocast():
                total += task.loss(model, batch).item() * len(batch)
                if isinstance(batch.inputs, Tensor):
                    tokens = task.encoder(model).forward_features(batch.inputs)  # pyright: ignore[reportCallIssue]
                    features.append(tokens.float().flatten(1, -2).mean(dim=1))
        return total / len(images), torch.cat(features) if features else None
