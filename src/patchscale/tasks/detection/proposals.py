"""The region proposal network: torchvision's, with a loss that is the mean over images, also in evaluation."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead, concat_box_prediction_layers

from patchscale.tasks.detection.losses import box_loss, objectness_loss, shares
from patchscale.tasks.detection.options import Options
from patchscale.tasks.detection.pyramid import STRIDES
from patchscale.tasks.detection.sampling import Generators, sampled

Targets = list[dict[str, Tensor]]


class ProposalNetwork(RegionProposalNetwork):
    """Anchors on every level of the pyramid; matched at IoU 0.7 and 0.3; suppression at 0.7."""

    def __init__(self, options: Options) -> None:
        sizes = tuple((round(options.anchor_scale * stride),) for stride in STRIDES)
        anchors = AnchorGenerator(sizes, (options.anchor_ratios,) * len(STRIDES))
        count = {"training": options.proposals, "testing": options.proposals}
        super().__init__(
            anchors,
            RPNHead(options.width, anchors.num_anchors_per_location()[0]),
            fg_iou_thresh=0.7,
            bg_iou_thresh=0.3,
            batch_size_per_image=options.anchors_sampled,
            positive_fraction=0.5,
            pre_nms_top_n=count,
            post_nms_top_n=count,
            nms_thresh=0.7,
        )

    def forward(
        self,
        images: ImageList,
        features: dict[str, Tensor],
        targets: Targets | None = None,
        generators: Generators = (),
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Proposals [n, 4] of each image, clipped to it; and, where there are targets, `rpn_loss`.

        The loss takes anchors that each image's own generator chooses.
        """
        maps = list(features.values())
        objectness, deltas = self.head(maps)
        anchors = self.anchor_generator(images, maps)
        per_level = [level[0].numel() for level in objectness]
        objectness, deltas = concat_box_prediction_layers(objectness, deltas)
        boxes = self.box_coder.decode(deltas.detach(), anchors).view(len(anchors), -1, 4)
        proposals, _ = self.filter_proposals(boxes, objectness, images.image_sizes, per_level)
        if targets is None:
            return proposals, {}
        labels, matched = self.assign_targets_to_anchors(anchors, targets)
        wanted = self.box_coder.encode(matched, anchors)
        return proposals, {"rpn_loss": self.loss(objectness, deltas, labels, wanted, generators)}

    def loss(
        self,
        objectness: Tensor,
        deltas: Tensor,
        labels: list[Tensor],
        wanted: tuple[Tensor, ...] | list[Tensor],
        generators: Generators,
    ) -> Tensor:
        """Objectness and box loss over the sampled anchors."""
        count, share = self.fg_bg_sampler.batch_size_per_image, self.fg_bg_sampler.positive_fraction
        chosen = [sampled(own, count, share, draws) for own, draws in zip(labels, generators, strict=True)]
        share = shares([len(indices) for indices in chosen], deltas.device)
        offsets = range(0, len(labels) * len(labels[0]), len(labels[0]))
        where = torch.cat([indices + offset for indices, offset in zip(chosen, offsets, strict=True)])
        truth = torch.cat(labels)[where]
        return objectness_loss(objectness.flatten()[where], truth, share) + box_loss(
            deltas[where], torch.cat(list(wanted))[where], truth > 0, share
        )
