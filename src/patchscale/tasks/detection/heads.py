"""Cascade heads: boxes refined stage by stage, each stage trained at a stricter overlap; one mask head.

"Cascade R-CNN: High Quality Object Detection and Instance Segmentation", sections 4 and 5: boxes are class-agnostic,
scores are averaged over stages, masks are trained on the first stage's samples and predicted on the last one's boxes.
With one stage these are torchvision's `RoIHeads`.

Shape letters: n proposals or objects of one image, N of all images, K classes with the ground (0).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from timm.layers.norm import LayerNorm2d
from torch import Tensor, nn
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.faster_rcnn import TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import project_masks_on_boxes
from torchvision.ops import MultiScaleRoIAlign, batched_nms, box_iou, clip_boxes_to_image, remove_small_boxes

from patchscale.tasks.detection.losses import box_loss, class_loss, mask_loss, shares
from patchscale.tasks.detection.options import Options
from patchscale.tasks.detection.proposals import Targets
from patchscale.tasks.detection.sampling import Generators, sampled

OVERLAPS = (0.5, 0.6, 0.7)
CODES = ((10.0, 10.0, 5.0, 5.0), (20.0, 20.0, 10.0, 10.0), (30.0, 30.0, 15.0, 15.0))
"""Factors on the box deltas of each stage."""
STAGE_WEIGHTS = (1.0, 0.5, 0.25)
"""Weights of the stages' losses (section 6.1 of the paper's code)."""
POSITIVE_SHARE = 0.25
"""Largest share of positive ones among the proposals that count."""
ROI_LEVELS = ["4", "8", "16", "32"]
Sizes = list[tuple[int, int]]


class Matched(NamedTuple):
    """Proposals of one image and what each of them should become.

    Attributes:
        boxes: [n, 4].
        labels: int64 [n]; 0 is ground.
        objects: int64 [n], the object that overlaps most (0 where there is none).
        wanted: [n, 4], that object's box.
    """

    boxes: Tensor
    labels: Tensor
    objects: Tensor
    wanted: Tensor

    def at(self, where: Tensor) -> Matched:
        """These rows alone."""
        return Matched(*(part[where] for part in self))


class BoxHead(nn.Module):
    """RoI features [N, C, 7, 7] to class logits [N, K] and box deltas [N, 4]."""

    def __init__(self, width: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.layers = TwoMLPHead(width * 49, hidden)
        self.score = nn.Linear(hidden, classes)
        self.delta = nn.Linear(hidden, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.layers(x)
        return self.score(x), self.delta(x)


class CascadeHeads(nn.Module):
    """Proposals to losses and to objects.

    Args:
        classes: K - 1, the ground not counted.
        options: number of stages, widths and thresholds.
    """

    def __init__(self, classes: int, options: Options) -> None:
        super().__init__()
        self.options = options
        self.box_pool = MultiScaleRoIAlign(ROI_LEVELS, output_size=7, sampling_ratio=options.roi_samples)
        self.stages = nn.ModuleList(
            BoxHead(options.width, options.box_hidden, classes + 1) for _ in range(options.stages)
        )
        self.coders = [BoxCoder(codes) for codes in CODES[: options.stages]]
        self.mask_pool = MultiScaleRoIAlign(ROI_LEVELS, output_size=14, sampling_ratio=options.roi_samples)
        self.mask_head = (
            nn.Sequential(
                MaskRCNNHeads(options.width, (options.width,) * options.mask_layers, 1, norm_layer=LayerNorm2d),
                MaskRCNNPredictor(options.width, options.width, classes + 1),
            )
            if options.masks
            else None
        )

    def losses(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        sizes: Sizes,
        canvas: tuple[int, int],
        truth: Targets,
        generators: Generators,
    ) -> dict[str, Tensor]:
        """`box_loss` (classes and boxes of all stages) and, with a mask head, `mask_loss`; means over images.

        Args:
            features: maps by stride.
            proposals: [n, 4] of each image.
            sizes: (H, W) of each image on the canvas.
            canvas: (H, W) that the maps cover.
            truth: `boxes`, `labels` from 1, and `masks` of each image.
            generators: choose the proposals of each image that count.
        """
        proposals = [torch.cat([boxes, t["boxes"]]) for boxes, t in zip(proposals, truth, strict=True)]
        matched = [match(boxes, t, OVERLAPS[0]) for boxes, t in zip(proposals, truth, strict=True)]
        count = self.options.rois_sampled
        matched = [m.at(sampled(m.labels, count, POSITIVE_SHARE, g)) for m, g in zip(matched, generators, strict=True)]
        first, total = matched, torch.zeros((), device=proposals[0].device)
        for stage, (head, coder) in enumerate(zip(self.stages, self.coders, strict=True)):
            boxes = [m.boxes for m in matched]
            logits, deltas = head(self.box_pool(features, boxes, [canvas] * len(boxes)))
            labels = torch.cat([m.labels for m in matched])
            share = shares([len(m.labels) for m in matched], logits.device)
            wanted = torch.cat(list(coder.encode([m.wanted for m in matched], boxes)))
            loss = class_loss(logits, labels, share) + box_loss(deltas, wanted, labels > 0, share)
            total = total + STAGE_WEIGHTS[stage] * loss
            if stage + 1 < len(self.stages):
                boxes = refined(coder, deltas.detach(), boxes, sizes)
                matched = [match(b, t, OVERLAPS[stage + 1]) for b, t in zip(boxes, truth, strict=True)]
        losses = {"box_loss": total}
        if self.mask_head is not None:
            losses["mask_loss"] = self._mask_loss(features, first, canvas, truth)
        return losses

    def detect(
        self, features: dict[str, Tensor], proposals: list[Tensor], sizes: Sizes, canvas: tuple[int, int]
    ) -> list[dict[str, Tensor]]:
        """The objects of each image, best first.

        Returns:
            `boxes` [n, 4], `scores` [n], `labels` [n] from 1 and, with a mask head, `masks` [n, 1, 28, 28]:
            probabilities within the box.
        """
        scores, boxes = [], proposals
        for head, coder in zip(self.stages, self.coders, strict=True):
            logits, deltas = head(self.box_pool(features, boxes, [canvas] * len(boxes)))
            scores.append(logits.softmax(dim=1))
            boxes = refined(coder, deltas, boxes, sizes)
        parts = torch.stack(scores).mean(dim=0).split([len(b) for b in boxes])
        found = [self._best(b, s) for b, s in zip(boxes, parts, strict=True)]
        if self.mask_head is not None:
            logits = self.mask_head(self.mask_pool(features, [f["boxes"] for f in found], [canvas] * len(found)))
            labels = torch.cat([f["labels"] for f in found])
            chosen = logits[torch.arange(len(labels), device=labels.device), labels].sigmoid()[:, None]
            for one, masks in zip(found, chosen.split([len(f["labels"]) for f in found]), strict=True):
                one["masks"] = masks
        return found

    def _best(self, boxes: Tensor, scores: Tensor) -> dict[str, Tensor]:
        """Objects of one image: every class of every box above the threshold, suppressed class by class."""
        classes = scores.shape[1] - 1
        labels = torch.arange(1, classes + 1, device=boxes.device).repeat(len(boxes))
        boxes, scores = boxes.repeat_interleave(classes, dim=0), scores[:, 1:].reshape(-1)
        where = torch.where(scores > self.options.score_threshold)[0]
        where = where[remove_small_boxes(boxes[where], 1e-2)]
        boxes, scores, labels = boxes[where], scores[where], labels[where]
        where = batched_nms(boxes, scores, labels, self.options.overlap)[: self.options.detections]
        return {"boxes": boxes[where], "scores": scores[where], "labels": labels[where]}

    def _mask_loss(
        self, features: dict[str, Tensor], matched: list[Matched], canvas: tuple[int, int], truth: Targets
    ) -> Tensor:
        assert self.mask_head is not None
        positive = [m.at(m.labels > 0) for m in matched]
        boxes = [m.boxes for m in positive]
        logits = self.mask_head(self.mask_pool(features, boxes, [canvas] * len(boxes)))
        labels = torch.cat([m.labels for m in positive])
        wanted = [
            project_masks_on_boxes(t["masks"], m.boxes, m.objects, logits.shape[-1])
            for m, t in zip(positive, truth, strict=True)
            if len(m.labels)
        ]
        if not wanted:
            return logits.sum() * 0
        share = shares([len(m.labels) for m in positive], logits.device)
        chosen = logits[torch.arange(len(labels), device=labels.device), labels]
        return mask_loss(chosen, torch.cat(wanted), share)


def match(boxes: Tensor, truth: dict[str, Tensor], overlap: float) -> Matched:
    """Gives each box [n, 4] the object with which it overlaps most, or the ground if that is below `overlap`."""
    objects = boxes.new_zeros(len(boxes), dtype=torch.int64)
    if not len(truth["boxes"]):
        return Matched(boxes, objects, objects, boxes.new_zeros(boxes.shape))
    value, objects = box_iou(truth["boxes"], boxes).max(dim=0)
    labels = truth["labels"][objects].where(value >= overlap, 0)
    return Matched(boxes, labels, objects, truth["boxes"][objects])


@torch.no_grad()
def refined(coder: BoxCoder, deltas: Tensor, boxes: list[Tensor], sizes: Sizes) -> list[Tensor]:
    """The boxes [n, 4] of each image moved by the deltas [N, 4] and clipped to it."""
    moved = coder.decode(deltas, boxes).reshape(-1, 4).split([len(b) for b in boxes])
    return [clip_boxes_to_image(b, size) for b, size in zip(moved, sizes, strict=True)]
