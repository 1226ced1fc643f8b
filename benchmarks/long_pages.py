"""Long pages on a CPU: a document of 60,000 and more tokens reduced and encoded by a Base model, and training steps on
40,000 and more tokens, with the memory that each takes above what is resident after the imports.

    PATCHSCALE_DATA=<folder of image sets> python benchmarks/long_pages.py encode --picture kept_tokens.png
    PATCHSCALE_DATA=<folder of image sets> python benchmarks/long_pages.py train --label density --steps 3

Labels need nobody: the density of text lines, which paper (`paper`), whether pages are in order (`order`).
Needs `doc-pages`; the density also pypdfium2. Run the two in separate processes: peak memory is that of the process.
"""

from __future__ import annotations

import argparse
import math
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from patchscale.data import Augment, DataSpec, EpochSampler, normalise
from patchscale.data.image_set import IMAGENET_MEAN, IMAGENET_STD
from patchscale.data.pages import Document, build_pages, line_density, load_documents
from patchscale.models import create
from patchscale.models.long import encode_long
from patchscale.tasks import ModelSpec, Regularisation, build_task
from patchscale.tokens.reducers import build_reducer

PATCH = 16


def resident() -> float:
    """Bytes of this process in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def peak() -> float:
    """The most bytes this process has had in memory."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def first_pages(document: Document, count: int) -> Document:
    """A document of the first `count` pages."""
    return Document(document.name, document.pages[:count])


def pixels_of(document: Document) -> Tensor:
    """uint8 [3, H, W] of the whole document, in whole patches."""
    return torch.cat(list(document.bands(4096, PATCH)), dim=1)


def encode(folder: Path, pages: int, keep: int, picture: Path | None) -> None:
    """Reduces and encodes a document, one band of 1,760 pixels at a time."""
    before = resident()
    document = first_pages(load_documents(folder)[0], pages)
    rows, cols = document.grid(PATCH)
    model = create("deit_base_patch16", input_size=(224, 224), patch_size=PATCH, num_classes=0, positions="sincos")
    reducer = build_reducer("qr", dim=3 * PATCH**2, slots=keep)
    start = time.perf_counter()
    found = encode_long(model.eval(), document.bands(1760, PATCH), reducer, keep, mean=IMAGENET_MEAN, std=IMAGENET_STD)
    seconds = time.perf_counter() - start
    print(f"{document.name}, {pages} pages at full resolution: {rows * cols} tokens of {PATCH} pixels")
    share = 100 * len(found.kept) / (rows * cols)
    print(f"kept {len(found.kept)} ({share:.1f} %), encoded by deit_base in {seconds:.0f} s")
    print(f"peak memory above the imports: {(peak() - before) / 2**30:.2f} GiB")
    if picture is not None:
        draw(document, found.kept, cols, picture)


def draw(document: Document, kept: Tensor, cols: int, target: Path) -> None:
    """The first page with every token that was dropped faded."""
    page = pixels_of(first_pages(document, 1)).float()
    high = page.shape[1] // PATCH
    stays = torch.zeros(high * cols, dtype=torch.bool)
    stays[kept[kept < high * cols]] = True
    mask = stays.view(1, high, cols).repeat_interleave(PATCH, 1).repeat_interleave(PATCH, 2)
    faded = torch.where(mask, page, 255 - 0.12 * (255 - page))
    Image.fromarray(faded.byte().permute(1, 2, 0).numpy()).reduce(2).save(target)
    print(f"picture: {target} ({int(stays.sum())} of {len(stays)} tokens of page 1)")


def train_density(folder: Path, pages: int, steps: int, model_name: str) -> None:
    """Steps on one document: how many text lines begin in each row of tokens, learned from its own text layer."""
    before = resident()
    with tempfile.TemporaryDirectory() as made:
        build_pages(sorted(folder.rglob("*.pdf"))[0], made)
        document = first_pages(load_documents(made)[0], pages)
        pixels, target = pixels_of(document), line_density(document, PATCH)
    rows, cols = document.grid(PATCH)
    torch.manual_seed(0)
    model = create(
        model_name, input_size=(rows * PATCH, cols * PATCH), patch_size=PATCH, num_classes=0, positions="sincos"
    )
    head = nn.Linear(model.embed_dim, 1)
    print(f"{model_name} on {document.name}, {pages} pages: {rows * cols} tokens in one sequence")
    inputs = normalise(pixels[None], IMAGENET_MEAN, IMAGENET_STD)

    def loss(step: int) -> Tensor:
        tokens = model.forward_features(inputs)[:, :-1]
        predicted = head(tokens.unflatten(1, (rows, cols)).mean(2))[0, :, 0]
        return F.mse_loss(predicted, target)

    take_steps(loss, [*model.parameters(), *head.parameters()], steps)
    print(f"variance of the target {target.var().item():.4f}; peak memory {(peak() - before) / 2**30:.2f} GiB")


def train_labels(folder: Path, label: str, pages: int, steps: int, model_name: str) -> None:
    """Steps on two stacks of pages each: which paper they are from, or whether their pages are in order."""
    before = resident()
    document = first_pages(load_documents(folder)[0], pages)
    rows, cols = document.grid(PATCH)
    spec = ModelSpec(name=model_name, patch_size=PATCH, input_size=(rows * PATCH, cols * PATCH), positions="sincos")
    data = DataSpec(
        name=str(folder), page_label=label, pages_per_image=pages, test_fraction=0.5, memory_gib=0
    )  # a stack of pages is decoded when it is read
    task = build_task("classification", spec, data, {}, Regularisation(augment=Augment(crop_scale=(1.0, 1.0))))
    torch.manual_seed(0)
    model = task.build_model()
    print(f"{model_name}, {label} of {pages} pages: {task.train_size} images of {rows * cols} tokens")
    order = EpochSampler(task.train_size, seed=0, batch_size=2)
    take_steps(
        lambda step: task.loss(model, task.batch(order.batch(step), step, slice(0, 2))), model.parameters(), steps
    )
    print(f"chance {math.log(len(task.classes)):.4f}; peak memory {(peak() - before) / 2**30:.2f} GiB")


def take_steps(loss_of: Callable[[int], Tensor], parameters: Iterable[nn.Parameter], steps: int) -> None:
    """Updates with AdamW, a line each."""
    optimizer = torch.optim.AdamW(parameters, lr=2e-4)
    for step in range(steps):
        start = time.perf_counter()
        loss = loss_of(step)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        print(f"step {step + 1}: loss {loss.item():.4f}, {time.perf_counter() - start:.1f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("encode", "train"), nargs="?", default="encode")
    parser.add_argument("--pages", type=int, help="8 to encode, 5 to train on")
    parser.add_argument("--keep", type=int, default=256, help="tokens of each band of 1,760 pixels, a page")
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--label", choices=("density", "paper", "order"), default="density", help="what is learned")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--model", default="adventurer_pico_patch16")
    arguments = parser.parse_args()
    folder = Path(os.environ.get("PATCHSCALE_DATA", "../shared/data")) / "doc-pages"
    if not folder.is_dir():
        parser.error(f"{folder} does not exist; set PATCHSCALE_DATA to the folder that holds doc-pages")
    torch.set_num_threads(1)
    if arguments.what == "encode":
        encode(folder, arguments.pages or 8, arguments.keep, arguments.picture)
    elif arguments.label == "density":
        train_density(folder, arguments.pages or 5, arguments.steps, arguments.model)
    else:
        train_labels(folder, arguments.label, arguments.pages or 5, arguments.steps, arguments.model)


if __name__ == "__main__":
    main()
