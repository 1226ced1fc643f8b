"""The detector against torchvision's parts, its losses, and odd inputs."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork

from patchscale import models
from patchscale.data import DataSpec
from patchscale.tasks import ModelSpec, Regularisation
from patchscale.tasks.detection import Detection, Detector, Options
from patchscale.tasks.detection.heads import CascadeHeads
from patchscale.tasks.detection.proposals import ProposalNetwork
from patchscale.tasks.detection.pyramid import STRIDES, TokenPyramid
from patchscale.tasks.detection.sampling import image_generators

SMALL = Options(
    width=16, box_hidden=32, mask_layers=1, anchor_scale=4, anchors_sampled=32, proposals=60, rois_sampled=16
)
CANVAS = (64, 128)
CLASSES = 3
SEEDS = (5, 6)


def features(images: int = 2) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        str(s): torch.randn(images, SMALL.width, CANVAS[0] // s, CANVAS[1] // s, generator=generator) for s in STRIDES
    }


def truth() -> list[dict[str, torch.Tensor]]:
    boxes = torch.tensor([[4.0, 6, 40, 50], [60, 10, 110, 40], [20, 30, 36, 44]])
    masks = torch.zeros(3, *CANVAS, dtype=torch.uint8)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes.long().tolist(), strict=True):
        mask[y0:y1, x0 + 2 : x1] = 1
    labels = torch.tensor([1, 3, 2])
    return [
        {"boxes": boxes, "labels": labels, "masks": masks},
        {"boxes": boxes[:2] * 0.9, "labels": labels[:2], "masks": masks[:2]},
    ]


def proposals(images: int = 2) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    corner = torch.rand(images, 80, 2, generator=generator) * torch.tensor([90.0, 30.0])
    side = 6 + torch.rand(images, 80, 2, generator=generator) * 30
    shift = 4 * torch.randn(40, 4, generator=generator)  # overlaps of 0.3 to 0.95, so that every threshold divides
    near = [t["boxes"].repeat(8, 1) + shift[: 8 * len(t["boxes"])] for t in truth()]
    far = torch.cat([corner, corner + side], dim=2)
    return [torch.cat([one, other]) for one, other in zip(near, far, strict=True)]


class _PerClass(nn.Module):
    """Our class-agnostic predictor in the shape that torchvision wants: the same deltas for every class."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, x):
        return self.head.score(x), self.head.delta(x).repeat(1, CLASSES + 1)


def torchvision_heads(ours: CascadeHeads) -> RoIHeads:
    (stage,) = ours.stages
    return RoIHeads(
        ours.box_pool, stage.layers, _PerClass(stage), 0.5, 0.5, ours.options.rois_sampled, 0.25, None,
        ours.options.score_threshold, ours.options.overlap, ours.options.detections,
        ours.mask_pool, ours.mask_head[0], ours.mask_head[1],
    )  # fmt: skip


@pytest.fixture
def one_stage() -> CascadeHeads:
    torch.manual_seed(0)
    return CascadeHeads(CLASSES, SMALL.model_copy(update={"stages": 1}))


@pytest.mark.parametrize("image", [None, 0, 1])
def test_one_stage_has_the_losses_of_torchvision(one_stage, image):
    """Same weights, same draws; for one image, and for two with equally many samples and positives."""
    maps, found, true = features(), proposals(), truth()
    if image is not None:
        maps = {level: x[image : image + 1] for level, x in maps.items()}
        found, true = found[image : image + 1], true[image : image + 1]
    theirs = torchvision_heads(one_stage).train()
    draws = [torch.Generator().manual_seed(5)] * len(found)
    ours = one_stage.losses(maps, found, [CANVAS] * len(found), CANVAS, true, draws)
    torch.manual_seed(5)
    _, expected = theirs(maps, list(found), [CANVAS] * len(found), true)
    total = expected["loss_classifier"] + expected["loss_box_reg"]
    assert expected["loss_box_reg"] > 0
    torch.testing.assert_close(ours["box_loss"], total, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours["mask_loss"], expected["loss_mask"], rtol=1e-5, atol=1e-5)


def test_one_stage_finds_the_objects_of_torchvision(one_stage):
    theirs = torchvision_heads(one_stage).eval()
    with torch.no_grad():
        ours = one_stage.eval().detect(features(), proposals(), [CANVAS] * 2, CANVAS)
        expected, _ = theirs(features(), proposals(), [CANVAS] * 2)
    for found, wanted in zip(ours, expected, strict=True):
        assert len(found["boxes"]) > 10
        assert set(found) == set(wanted)
        for name, value in wanted.items():
            torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("image", [0, 1])
def test_proposals_and_their_loss_are_those_of_torchvision(image):
    torch.manual_seed(0)
    ours = ProposalNetwork(SMALL).train()
    theirs = RegionProposalNetwork(
        ours.anchor_generator, ours.head, 0.7, 0.3, SMALL.anchors_sampled, 0.5,
        *[{"training": SMALL.proposals, "testing": SMALL.proposals}] * 2, nms_thresh=0.7,
    ).train()  # fmt: skip
    maps = {level: x[image : image + 1] for level, x in features().items()}
    images = ImageList(torch.zeros(1, 3, *CANVAS), [CANVAS])
    boxes, losses = ours(images, maps, truth()[image : image + 1], image_generators([3]))
    torch.manual_seed(3)
    wanted, expected = theirs(images, maps, truth()[image : image + 1])
    torch.testing.assert_close(boxes, wanted)
    torch.testing.assert_close(losses["rpn_loss"], sum(expected.values()), rtol=1e-5, atol=1e-5)


def test_losses_of_parts_add_up_to_the_whole():
    """Two images cost the mean of each alone: an image's samples do not depend on its neighbours."""
    torch.manual_seed(0)
    network, heads = ProposalNetwork(SMALL).train(), CascadeHeads(CLASSES, SMALL).train()

    def losses(rows: slice) -> dict[str, torch.Tensor]:
        maps = {level: x[rows] for level, x in features().items()}
        true = truth()[rows]
        covered = ImageList(torch.zeros(len(true), 1, *CANVAS), [CANVAS] * len(true))
        draws = image_generators(SEEDS[rows])
        _, found = network(covered, maps, true, draws)
        return found | heads.losses(maps, proposals()[rows], [CANVAS] * len(true), CANVAS, true, draws)

    whole, parts = losses(slice(0, 2)), [losses(slice(0, 1)), losses(slice(1, 2))]
    for name, value in whole.items():
        torch.testing.assert_close(value, (parts[0][name] + parts[1][name]) / 2)


def test_cascade_stages_match_more_strictly_and_average_scores():
    torch.manual_seed(0)
    heads = CascadeHeads(CLASSES, SMALL).eval()
    assert len(heads.stages) == 3
    for stage in heads.stages[1:]:
        stage.load_state_dict(heads.stages[0].state_dict())
        nn.init.zeros_(stage.delta.weight)
        nn.init.zeros_(stage.delta.bias)
    with torch.no_grad():
        found = heads.detect(features(), proposals(), [CANVAS] * 2, CANVAS)
    assert all((f["scores"].diff() <= 0).all() for f in found)
    assert all((f["boxes"] >= 0).all() and (f["boxes"][:, 2] <= CANVAS[1]).all() for f in found)


@pytest.mark.parametrize("patch_size", [1, 2, 3, 4, 8, 12, 16, 32, 64])
def test_the_pyramid_has_every_stride_at_any_patch_size(patch_size):
    pyramid = TokenPyramid(8, patch_size, 16)
    rows, columns = max(1, 40 // patch_size), max(2, 100 // patch_size)
    tokens = torch.randn(1, 8, rows, columns, requires_grad=True)
    maps = pyramid(tokens)
    canvas = pyramid.canvas((rows * patch_size, columns * patch_size))
    assert [tuple(maps[str(s)].shape) for s in STRIDES] == [(1, 16, canvas[0] // s, canvas[1] // s) for s in STRIDES]
    sum(x.square().mean() for x in maps.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in pyramid.parameters())
    assert tokens.grad.abs().sum() > 0


def test_the_pyramid_keeps_places():
    """A token lights up the cells of every level that lie over it."""
    pyramid = TokenPyramid(4, 8, 16)
    dark = torch.zeros(1, 4, 16, 16)
    lit = dark.clone()
    lit[0, :, 10, 3] = 1.0
    for stride, after, before in zip(STRIDES, pyramid(lit).values(), pyramid(dark).values(), strict=True):
        row, column = torch.nonzero((after - before).abs().sum(1)[0] > 1e-5).float().mean(dim=0).tolist()
        assert abs((row + 0.5) * stride - 84) <= 1.5 * max(stride, 8)
        assert abs((column + 0.5) * stride - 28) <= 1.5 * max(stride, 8)


@pytest.mark.parametrize(
    ("name", "patch_size", "size"),
    [
        ("deit_pico_patch16", 2, (20, 30)),
        ("adventurer_pico_patch16", 16, (48, 80)),
        ("deit_pico_patch16", 64, (64, 64)),
    ],
)
def test_empty_and_odd_images_train_and_are_searched(name, patch_size, size):
    torch.manual_seed(0)
    encoder = models.create(name, input_size=size, patch_size=patch_size, num_classes=0)
    model = Detector(encoder, patch_size, CLASSES, SMALL)
    box = torch.tensor([[2.0, 3, 12, 15]])
    mask = torch.zeros(1, *size, dtype=torch.uint8)
    mask[0, 3:15, 2:12] = 1
    some = {"boxes": box, "labels": torch.tensor([2]), "masks": mask}
    none = {"boxes": box[:0], "labels": torch.zeros(0, dtype=torch.int64), "masks": mask[:0]}
    images = torch.randn(2, 3, *size)
    for objects in ([some, none], [none, none]):
        model.zero_grad()
        losses = model(images, [size, (17, 19)], objects, SEEDS).losses
        total = sum(losses.values())
        total.backward()
        assert total.isfinite()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters()), (
            "several processes need all"
        )
        assert losses["mask_loss"] > 0 if objects[0] is some else losses["mask_loss"] == 0
    model.eval()
    with torch.no_grad():
        found = model(images, [size, (17, 19)], [some, none], SEEDS)
    assert set(found.losses) == {"rpn_loss", "box_loss", "mask_loss"}
    assert (found.detected[1]["boxes"][:, 2] <= 19).all()


def test_parameters_reach_the_optimizer_with_the_right_decay():
    model = Detection.network(ModelSpec(name="deit_pico_patch16", patch_size=8, input_size=64), 2, SMALL)
    exempt = model.no_weight_decay()
    names = dict(model.named_parameters())
    assert "encoder.pos_embed" in exempt
    assert "heads.stages.0.score.weight" not in exempt
    params, flops = Detection.head_cost(ModelSpec(name="deit_pico_patch16", patch_size=8, input_size=64), 2, SMALL)
    assert params == sum(p.numel() for name, p in names.items() if not name.startswith("encoder."))
    assert flops > 2 * params


def test_recipes_that_move_pixels_without_boxes_are_refused():
    from patchscale.data import Augment, Mixing
    from patchscale.errors import InputError

    spec, data = ModelSpec(name="deit_pico_patch16", patch_size=8, input_size=64), DataSpec(name="scenes")
    for unfit, name in (
        (Regularisation(augment=Augment(crop_padding=4)), "recipe.augment.crop_padding"),
        (Regularisation(mixing=Mixing(mixup_alpha=0.8)), "recipe.mixing"),
        (Regularisation(label_smoothing=0.1), "recipe.label_smoothing"),
    ):
        with pytest.raises(InputError, match=name):
            Detection(spec, data, SMALL, unfit)
