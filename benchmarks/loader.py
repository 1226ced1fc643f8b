"""Our reading and augmentation against timm's loader on the same image files: outputs verified first, then ratios.

    python benchmarks/loader.py [--data DIR] [--workers 2] [--batches 12] [--batch 64] [--repeats 3] [--json]

DIR holds tiny-imagenet-100/ (JPEG of 64 pixels, read at 64) and coco-small/ (photographs of about 480x390, read at
224). Both loaders give normalised float32 batches on the CPU of random-resized crops (area 8% to 100%, bicubic),
mirrored half of the time, brightness, contrast and saturation changed by up to 0.3. timm works in `--workers`
processes, we in as many threads. At 64 pixels a third line shows what a trial really does there: pixels are decoded
once and held, crops are windows of the reflected image.

Rates are the best of interleaved repeats: images/s by the wall clock, and images per CPU second of all threads and
processes, which says more on a busy machine.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

STRENGTH = 0.3


def unpack_tiny(data: Path, root: Path, limit: int) -> None:
    """The first training images of tiny-imagenet-100 as files in class folders."""
    with tarfile.open(data / "tiny-imagenet-100" / "train-0.tar.gz") as tar:
        members = (member for member in tar if member.isfile())
        for member, _ in zip(members, range(limit), strict=False):
            folder, file = root / "train" / Path(member.name).parent.name, tar.extractfile(member)
            assert file is not None
            folder.mkdir(parents=True, exist_ok=True)
            (folder / Path(member.name).name).write_bytes(file.read())


def link_coco(data: Path, root: Path) -> None:
    """The photographs of coco-small in two folders that stand for classes."""
    for index, file in enumerate(sorted((data / "coco-small").rglob("*.jpg"))):
        folder = root / "train" / str(index % 2)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / file.name).symlink_to(file.resolve())


def ours(root: Path, size: int, batch: int, batches: int, *, held: bool) -> Callable[[], Iterator[Tensor]]:
    """Batches as the training loop gets them."""
    from patchscale.training import Processes, TrialConfig, make_task
    from patchscale.training.ahead import Ahead
    from patchscale.training.learner import Learner
    from patchscale.training.loop import BATCHES_AHEAD

    (root / "val").exists() or (root / "val").symlink_to(root / "train")
    augment = {"horizontal_flip": 0.5, "color_jitter": STRENGTH, "crop_padding": size // 16 if held else 0}
    model = {"name": "deit_pico_patch16", "patch_size": 16, "input_size": size, "options": {"depth": 1}}
    config = TrialConfig.model_validate(
        {
            "model": model,
            "data": {"name": str(root), "memory_gib": 4 if held else 0},
            "recipe": {"steps": batches, "batch_size": batch, "augment": augment, "precision": "float32"},
        }
    )
    task = make_task(config)
    assert task.decodes != held
    learner = Learner(config, task, torch.device("cpu"), Processes(), "ddp")

    def run() -> Iterator[Tensor]:
        with Ahead(learner.batch, last=batches, depth=BATCHES_AHEAD if task.decodes else 0) as ahead:
            for step in range(batches):
                yield ahead(step)[0].inputs

    return run


def timms(root: Path, size: int, batch: int, batches: int, workers: int) -> Callable[[], Iterator[Tensor]]:
    """Batches of `timm.data.create_loader`, as many."""
    from timm.data.dataset import ImageDataset
    from timm.data.loader import create_loader

    loader = create_loader(
        ImageDataset(str(root / "train")),
        input_size=(3, size, size),
        batch_size=batch,
        is_training=True,
        no_aug=False,
        scale=(0.08, 1.0),
        hflip=0.5,
        color_jitter=STRENGTH,
        auto_augment=None,
        re_prob=0.0,
        interpolation="bicubic",
        num_workers=workers,
        persistent_workers=False,
        pin_memory=False,
        device=torch.device("cpu"),
    )

    def run() -> Iterator[Tensor]:
        done = 0
        while done < batches:
            for images, _ in loader:
                yield images
                done += 1
                if done == batches:
                    break

    return run


def verify(name: str, batches: list[Tensor], shape: tuple[int, ...]) -> None:
    """Same shape and type, normalised, no two batches equal."""
    first = batches[0]
    assert (first.shape, first.dtype) == (shape, torch.float32), f"{name} gives {first.shape} {first.dtype}"
    values = torch.cat(batches)
    mean, spread = values.mean().item(), values.std().item()
    assert abs(mean) < 0.4, f"{name} gives a mean of {mean}"
    assert 0.7 < spread < 1.3, f"{name} gives a deviation of {spread}"
    assert not torch.equal(batches[0], batches[1]), f"{name} repeats itself"


def cpu_seconds() -> float:
    """Of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(part.ru_utime + part.ru_stime for part in used)


def measure(runs: dict[str, Callable[[], Iterator[Tensor]]], images: int, repeats: int) -> dict[str, dict[str, float]]:
    """Best images/s and images per CPU second of interleaved repeats."""
    best = {name: {"images/s": 0.0, "images/CPU s": 0.0} for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            started = time.perf_counter(), cpu_seconds()
            for _ in run():
                pass
            spent = time.perf_counter() - started[0], cpu_seconds() - started[1]
            for kind, seconds in zip(best[name], spent, strict=True):
                best[name][kind] = max(best[name][kind], round(images / seconds, 1))
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batches", type=int, default=12)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    os.environ["PATCHSCALE_THREADS"] = str(arguments.workers)
    torch.set_num_threads(1)
    batch, batches, found = arguments.batch, arguments.batches, {}
    with tempfile.TemporaryDirectory() as base:
        os.environ["PATCHSCALE_CACHE"] = f"{base}/cache"
        for size in (64, 224):
            root = Path(base, str(size))
            if size == 64:
                unpack_tiny(arguments.data, root, 2000)
            else:
                link_coco(arguments.data, root)
            runs = {
                "timm": timms(root, size, batch, batches, arguments.workers),
                "ours": ours(root, size, batch, batches, held=False),
            }
            if size == 64:
                runs["ours, held"] = ours(root, size, batch, batches, held=True)
            for name, run in runs.items():
                verify(name, list(run()), (batch, 3, size, size))
            found[size] = measure(runs, batch * batches, arguments.repeats)
    if arguments.json:
        print(json.dumps({"workers": arguments.workers, "batch": batch, "rates": found}))
        return
    print(f"{arguments.workers} workers, batches of {batch}, best of {arguments.repeats}; ratios to timm")
    for size, rates in found.items():
        for name, rate in rates.items():
            columns = [f"{value:9.1f} {kind} ({value / rates['timm'][kind]:5.2f}x)" for kind, value in rate.items()]
            print(f"{size:4d} pixels  {name:<10}", *columns)


if __name__ == "__main__":
    main()
