"""`load_captions`: from a name or a directory to images with what is said about them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from patchscale.data import cache
from patchscale.data._random import draw
from patchscale.data.captions.caption_set import CaptionSet
from patchscale.data.captions.exchange import Exchange
from patchscale.data.captions.glyphs import load_glyphs
from patchscale.data.catalogue import KnownSet
from patchscale.data.progress import counted
from patchscale.data.registry import find_folder
from patchscale.data.scenes.scene import scene
from patchscale.data.spec import SPLITS, DataSpec, Split
from patchscale.errors import InputError

CAPTION = "describe the image"
CAPTION_SETS = {
    known.name: known
    for known in (
        KnownSet(
            name="glyphs", about="grids of coloured glyphs of known entropy", kind="generated", classes=33, train=4096,
            test=256, size="any", licence="generated",
        ),
        KnownSet(
            name="scenes", about="textured shapes on textured ground; captions and questions", kind="generated",
            classes=78, train=4096, test=256, size="any", licence="generated",
        ),
        KnownSet(
            name="coco", about="COCO 2017, five captions an image", classes=32_000, train=118_287, test=5_000,
            size="640x480", licence="annotations CC BY 4.0, images per image", folders=("coco", "coco2017", "COCO"),
            how="put train2017/, val2017/ and annotations/captions_{train,val}2017.json there",
        ),
        KnownSet(
            name="coco-small", about="captioned images of COCO 2017", classes=315, train=50, test=50, size="512x384",
            licence="annotations CC BY 4.0, images per image", folders=("coco-small",),
            how="put train2017/, val2017/ and annotations/ there",
        ),
    )
}  # fmt: skip
_SIDES: dict[Split, tuple[str, ...]] = {"train": ("train",), "test": ("val", "test")}


def load_captions(spec: DataSpec, split: Split = "train", input_size: tuple[int, int] = (32, 32)) -> CaptionSet:
    """The images of one split with their exchanges.

    Args:
        spec: `name` is one of `CAPTION_SETS`, a directory with `annotations/captions_{train,val}*.json` (COCO), or
            one with `train.jsonl` and `val.jsonl`, whose lines are {"image": path, "question": text, "answer": text
            or list of texts, "kind": optional word}.
        split: "train" or "test".
        input_size: (H, W).

    Raises:
        InputError: unknown name, missing or malformed files, or something asked for that captions do not have.
    """
    if split not in SPLITS:
        raise InputError(f"unknown split {split!r}; use one of {', '.join(SPLITS)}")
    if spec.bad_images != "fail" or spec.test_crop != 1.0:
        raise InputError("bad_images and test_crop are not for captions; leave them out, every image is read")
    known = CAPTION_SETS.get(spec.name)
    if known is not None and known.kind == "generated":
        return _drawn(spec.model_dump_json(), split, spec.generated_size(split, getattr(known, split)), input_size)
    if known is None and not Path(spec.name).expanduser().is_dir():
        raise InputError(f"no captioned set {spec.name!r}: use one of {', '.join(CAPTION_SETS)}, or a directory")
    if split == "train":  # weights are also tested on other sets, with the sizes of their own
        spec.refuse_sizes()
    folder = find_folder(known, spec.root) if known else Path(spec.name).expanduser()
    found = _read_jsonl(folder, split) if any(folder.glob("*.jsonl")) else _read_coco(folder, split)
    found = _limited(found, spec, split)
    return CaptionSet(
        known.name if known else folder.name,
        list(found.values()),
        input_size,
        files=list(found),
        resample=spec.resample,
        least=2,
    )


@lru_cache(maxsize=4)
def _drawn(spec_json: str, split: Split, count: int, size: tuple[int, int]) -> CaptionSet:
    """A generated set; kept, because the trials of a study that is checked draw the same one."""
    spec = DataSpec.model_validate_json(spec_json)
    return (load_glyphs if spec.name == "glyphs" else _scenes)(spec, split, count, size)


def _scenes(spec: DataSpec, split: Split, count: int, size: tuple[int, int]) -> CaptionSet:
    """Scenes, drawn once and kept in the cache."""

    def make(folder: Path) -> dict[str, Any]:
        pixels = np.lib.format.open_memmap(folder / "pixels.npy", "w+", np.uint8, (count, 3, *size))
        said = []
        for index in counted(range(count), count, "drawing scenes"):
            drawn = scene(index, size, seed=spec.data_seed, split=split)
            pixels[index] = drawn.image.transpose(2, 0, 1)
            free = [("caption", CAPTION, drawn.caption), ("dense", "list all objects", drawn.dense_caption)]
            said.append([*free, *((asked.kind, asked.text, asked.answer) for asked in drawn.questions)])
        pixels.flush()
        return {"said": said}

    key = cache.key_of([], kind="scenes with captions", seed=spec.data_seed, split=split, count=count, size=size)
    entry, facts = cache.entry(key, make)
    exchanges = [
        tuple(Exchange(kind, question, (answer,)) for kind, question, answer in image) for image in facts["said"]
    ]
    pixels = np.load(entry / "pixels.npy", mmap_mode="r")
    return CaptionSet("scenes", exchanges, size, pixels, mean=(0.48, 0.46, 0.46), std=(0.21, 0.2, 0.215))


Found = dict[Path, tuple[Exchange, ...]]


def _read_coco(folder: Path, split: Split) -> Found:
    places = [folder / "annotations", folder]
    sides = _SIDES[split]
    files = [file for side in sides for place in places for file in sorted(place.glob(f"captions_{side}*.json"))]
    if not files:
        raise InputError(f"{folder} holds no annotations/captions_{sides[0]}*.json (COCO) and no {sides[0]}.jsonl")
    try:
        content = json.loads(files[0].read_text())
        names = {image["id"]: image["file_name"] for image in content["images"]}
        said: dict[str, list[str]] = {}
        for one in content["annotations"]:
            said.setdefault(names[one["image_id"]], []).append(one["caption"].strip())
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{files[0]} is not a COCO captions file ({type(error).__name__}: {error})") from error
    tail = files[0].stem.removeprefix("captions_")
    found: Found = {}
    for name, captions in said.items():
        file = next(
            (place / name for place in (folder / tail, folder / "images", folder) if (place / name).is_file()), None
        )
        if file is None:
            raise InputError(f"{files[0]} names {name}, which is not in {folder / tail}; put the image there")
        found[file] = (Exchange("caption", CAPTION, tuple(captions)),)
    return found


def _read_jsonl(folder: Path, split: Split) -> Found:
    file = next((folder / f"{side}.jsonl" for side in _SIDES[split] if (folder / f"{side}.jsonl").is_file()), None)
    if file is None:
        raise InputError(f"{folder} holds no {_SIDES[split][0]}.jsonl")
    found: Found = {}
    for image, exchange in read_exchanges(file):
        found[image] = (*found.get(image, ()), exchange)
    if not found:
        raise InputError(f"{file} has no lines")
    return found


def read_exchanges(file: Path) -> Iterator[tuple[Path, Exchange]]:
    """Image file and exchange of every line {"image", "question", "answer", "kind"} of a JSONL file.

    An image is named relative to the file's folder; the answer may be a list of texts; the kind may be left out.

    Raises:
        InputError: a file or a line that cannot be read, or an image that is missing.
    """
    try:
        lines = file.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise InputError(f"cannot read {file}: {reason}; give a JSONL file of questions") from error
    for number, line in enumerate(lines, 1):
        if line.strip():
            name, exchange = _read_line(line, f"{file} line {number}")
            if not (file.parent / name).is_file():
                raise InputError(f"{file} line {number}: no image at {file.parent / name}")
            yield file.parent / name, exchange


def _read_line(line: str, place: str) -> tuple[str, Exchange]:
    try:
        content = json.loads(line)
        answers = content["answer"] if isinstance(content["answer"], list) else [content["answer"]]
        asked, image, kind = content["question"], content["image"], content.get("kind", "answer")
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f'{place} is not {{"image": ..., "question": ..., "answer": ...}} ({type(error).__name__}: {error})'
        ) from error
    if not answers or not all(isinstance(text, str) for text in (asked, image, kind, *answers)):
        raise InputError(f"{place}: image, question, answer and kind must be texts; answer may be a list of texts")
    return image, Exchange(kind, asked, tuple(answers))


def _limited(found: Found, spec: DataSpec, split: Split) -> Found:
    limit = spec.limit(split)
    if limit is None or limit >= len(found):
        return found
    files = sorted(found)
    order = np.argsort(draw(spec.data_seed, np.arange(len(files))), kind="stable")[:limit]
    return {files[position]: found[files[position]] for position in sorted(order.tolist())}
