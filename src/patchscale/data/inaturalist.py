"""iNaturalist 2018 and 2019: COCO-like json files that name the images of each split."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from patchscale.data.encoded import Encoded, read_encoded
from patchscale.data.expectation import Expectation
from patchscale.data.image_set import ImageSet
from patchscale.data.sources import FolderSource
from patchscale.data.spec import DataSpec, Split
from patchscale.errors import InputError


def load_inaturalist(
    folder: Path, spec: DataSpec, split: Split, input_size: tuple[int, int], expected: Expectation
) -> ImageSet:
    """Reads a split: `train<year>.json` / `val<year>.json` beside the folder of images they name.

    Raises:
        InputError: a json file or images are missing, or the counts are not the published ones.
    """
    year = f"20{expected.name[-2:]}"
    source = read_annotations(folder, year, split)
    expected.check(split, len(source), len(source.classes), folder)
    files = [_table(folder, year, split), *source.names]
    found = Encoded(expected.name, split, files, lambda: source, source=str(folder), count=len(source))
    return read_encoded(found, spec, input_size)


def read_annotations(folder: Path, year: str, split: Split) -> FolderSource:
    """The images and labels that a json file lists; the label is the category id (0 .. classes - 1).

    Raises:
        InputError: the json file is missing or damaged, or the first image it names is missing.
    """
    table = _table(folder, year, split)
    if not table.is_file():
        raise InputError(f"{table} does not exist; unpack the annotations of iNaturalist {year} there")
    try:
        content = json.loads(table.read_text())
        categories = sorted(content["categories"], key=lambda category: category["id"])
        label_of = {category["id"]: label for label, category in enumerate(categories)}
        category_of = {note["image_id"]: label_of[note["category_id"]] for note in content["annotations"]}
        images = sorted(content["images"], key=lambda image: image["id"])
        paths = [str(folder / image["file_name"]) for image in images]
        labels = np.asarray([category_of[image["id"]] for image in images], dtype=np.int64)
        classes = tuple(str(category["name"]) for category in categories)
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise InputError(f"{table} is not an iNaturalist annotation file: {error!r}") from error
    if not paths or not Path(paths[0]).is_file():
        raise InputError(
            f"{table} names {paths[0] if paths else 'no images'}, which does not exist; unpack the images there"
        )
    return FolderSource(paths, labels, classes)


def _table(folder: Path, year: str, split: Split) -> Path:
    """The json file of a split."""
    return folder / f"{'train' if split == 'train' else 'val'}{year}.json"
