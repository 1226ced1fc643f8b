"""Mixup and CutMix: targets are the shares of the pixels."""

from __future__ import annotations

import pytest
import torch

from patchscale.data import Mixing
from patchscale.data.mixing import cutmix


def batch(size: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    """Image k is the constant k, so that shares can be read off the pixels."""
    labels = torch.arange(size)
    return labels.float()[:, None, None, None].expand(size, 3, 12, 10).clone(), labels


@pytest.mark.parametrize(
    "mixing", [Mixing(mixup_alpha=0.8), Mixing(cutmix_alpha=1.0), Mixing(mixup_alpha=0.8, cutmix_alpha=1.0)]
)
def test_targets_are_the_shares_of_the_pixels(mixing):
    for seed in range(20):
        images, labels = batch()
        mixed, targets = mixing(images, labels, 8, torch.Generator().manual_seed(seed))
        torch.testing.assert_close(targets.sum(1), torch.ones(8))
        torch.testing.assert_close(mixed.mean(dim=(1, 2, 3)), targets @ torch.arange(8.0), atol=1e-4, rtol=1e-4)
        assert torch.equal(images, batch()[0])


def test_seeds_decide_and_off_means_off():
    images, labels = batch()
    mixing = Mixing(mixup_alpha=0.8, cutmix_alpha=1.0)
    first, second = (mixing(images, labels, 8, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    untouched, targets = Mixing()(images, labels, 8, torch.Generator())
    assert torch.equal(untouched, images)
    assert torch.equal(targets.argmax(1), labels)
    assert not Mixing().active


def test_both_kinds_occur_and_the_probability_holds():
    images, labels = batch()
    mixing = Mixing(mixup_alpha=1.0, cutmix_alpha=1.0, probability=0.6)
    kinds = {"none": 0, "mixup": 0, "cutmix": 0}
    for seed in range(300):
        mixed, _ = mixing(images, labels, 8, torch.Generator().manual_seed(seed))
        if torch.equal(mixed, images):
            kinds["none"] += 1
        else:
            kinds["cutmix" if torch.equal(mixed, mixed.round()) else "mixup"] += 1
    assert 90 < kinds["none"] < 160
    assert min(kinds["mixup"], kinds["cutmix"]) > 50


def test_cutmix_reports_the_area_after_clipping():
    images, _ = batch(2)
    mixed, keep = cutmix(images, 0.5, 0.0, 0.0)
    assert (mixed[0] == 1).float().mean().item() == pytest.approx(1 - keep)
    assert keep > 0.8
