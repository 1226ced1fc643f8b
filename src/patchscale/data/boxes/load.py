"""`load_boxes`: from a name, a directory or a COCO json to the annotated images of a split."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from patchscale.data._random import draw
from patchscale.data.boxes.box_set import BoxSet, FileBoxes, SceneBoxes
from patchscale.data.boxes.coco import Annotations, read_coco
from patchscale.data.boxes.record import Problems
from patchscale.data.boxes.voc import is_voc, read_voc
from patchscale.data.catalogue import KnownSet
from patchscale.data.decode import worker_threads
from patchscale.data.registry import find_folder
from patchscale.data.spec import SPLITS, DataSpec, Split
from patchscale.errors import InputError

log = logging.getLogger("patchscale.data")

BOX_SETS = {
    known.name: known
    for known in (
        KnownSet(
            name="scenes", about="textured shapes on textured ground, boxes and masks", kind="generated",
            classes=6, train=2048, test=256, size="any", licence="generated",
        ),
        KnownSet(
            name="coco", about="COCO 2017 instances", classes=80, train=118_287, test=5_000, size="640x480",
            licence="annotations CC BY 4.0, images per image", folders=("coco", "coco2017", "COCO"),
            how="put train2017/, val2017/ and annotations/instances_{train,val}2017.json there",
        ),
        KnownSet(
            name="coco-small", about="two hundred images of COCO 2017", classes=80, train=103, test=102,
            size="512x384", licence="annotations CC BY 4.0, images per image", folders=("coco-small",),
            how="put train2017/, val2017/ and annotations/ there",
        ),
        KnownSet(
            name="nuclei-dsb2018", about="cell nuclei under the microscope, masks", classes=1, train=532, test=132,
            size="256x256 to 512x512", licence="CC0 1.0", folders=("nuclei-dsb2018",),
            how="put train/, val/ and annotations/instances_{train,val}.json there",
        ),
        KnownSet(
            name="nuclei-gray", about="the gray images of nuclei-dsb2018 (fluorescence)", classes=1, train=450,
            test=107,            size="256x256 to 512x512", licence="CC0 1.0", folders=("nuclei-dsb2018",),
            how="put train/, val/ and annotations/instances_{train,val}.json there",
        ),
        KnownSet(
            name="bccd-voc", about="blood cells, boxes only", classes=3, train=205, test=87, size="640x480",
            licence="MIT", folders=("bccd-voc",), how="put Annotations/, ImageSets/ and JPEGImages/ there",
        ),
    )
}  # fmt: skip
_SIDES: dict[Split, tuple[str, ...]] = {"train": ("train",), "test": ("val", "valid", "validation", "test")}


def load_boxes(spec: DataSpec, split: Split = "train", input_size: tuple[int, int] = (256, 256)) -> BoxSet:
    """The annotated images of one split.

    Args:
        spec: `name` is one of `BOX_SETS`, a directory (COCO or Pascal VOC layout), or a COCO json whose images lie
            beside it; such a file is the set of both splits.
        split: "train" or "test".
        input_size: (H, W) at which generated scenes are drawn; files keep their own sizes.

    Raises:
        InputError: unknown name, missing files, a size asked of a set that has its own, or (policy "fail") an
            annotation or image that cannot be used.
    """
    if split not in SPLITS:
        raise InputError(f"unknown split {split!r}; use one of {', '.join(SPLITS)}")
    known = BOX_SETS.get(spec.name)
    if known is not None and known.kind == "generated":
        return SceneBoxes(split, spec.generated_size(split, getattr(known, split)), input_size, spec.data_seed)
    if known is None and not Path(spec.name).expanduser().exists():
        raise InputError(
            f"no annotated set {spec.name!r}: use one of {', '.join(BOX_SETS)}, a directory, or a COCO json file"
        )
    if split == "train":  # weights are also tested on other sets, with the sizes of their own
        spec.refuse_sizes()
    folder = find_folder(known, spec.root) if known else Path(spec.name).expanduser()
    problems = Problems(spec.bad_images)
    if folder.is_file():
        annotations, places = read_coco(folder, problems), _image_places(folder, split)
    elif is_voc(folder):
        annotations, places = read_voc(folder, split, problems), [folder / "JPEGImages"]
    else:
        file = _coco_file(folder, split)
        annotations, places = read_coco(file, problems), _image_places(file, split)
    return _limited(known.name if known else folder.stem, spec, split, annotations, places, problems)


def _limited(
    name: str, spec: DataSpec, split: Split, annotations: Annotations, places: list[Path], problems: Problems
) -> FileBoxes:
    """Finds the images, leaves out those that cannot be used, and keeps as many as the limit says."""
    records = annotations.records
    if name == "nuclei-gray":
        records = [record for record in records if record.name.endswith(".png")]
    number = {record.name: index for index, record in enumerate(records)}
    kept, files = [], []
    for record in records:
        file = next((place / record.name for place in places if (place / record.name).is_file()), None)
        if file is None:
            problems.found(record.name, f"no such image in {', '.join(map(str, dict.fromkeys(places)))}")
        else:
            kept.append(record)
            files.append(file)
    facts = {
        "name": name,
        "split": split,
        "classes": annotations.classes,
        "category_ids": annotations.category_ids,
        "has_masks": annotations.has_masks,
    }
    found = FileBoxes(files, kept, **facts)
    positions = _readable(found, problems) if spec.bad_images == "skip" else list(range(len(found)))
    limit = spec.limit(split)
    if limit is not None and limit < len(positions):
        keys = draw(spec.data_seed, np.asarray([number[kept[position].name] for position in positions]))
        positions = sorted(np.asarray(positions)[np.argsort(keys, kind="stable")[:limit]].tolist())
    if not positions:
        problem = problems.reasons[0] if problems.reasons else "nothing is listed; complete the annotations"
        raise InputError(f"{name}: no usable image in the {split} split; first problem: {problem}")
    if problems.reasons:
        log.warning("%s, %s: left out %d of its entries; %s", name, split, len(problems.reasons), problems.reasons[0])
    return FileBoxes(
        [files[position] for position in positions],
        [kept[position] for position in positions],
        **facts,
        skipped=tuple(problems.reasons),
    )


def _readable(found: FileBoxes, problems: Problems) -> list[int]:
    """Decodes everything once: what is left out must be known before training begins."""

    def check(index: int) -> str:
        try:
            found.image(index)
        except InputError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(worker_threads()) as pool:
        reasons = list(pool.map(check, range(len(found))))
    for reason in filter(None, reasons):
        problems.reasons.append(reason)
    return [index for index, reason in enumerate(reasons) if not reason]


def _coco_file(folder: Path, split: Split) -> Path:
    for side in _SIDES[split]:
        candidates = [
            *sorted((folder / "annotations").glob(f"instances_{side}*.json")),
            *sorted(folder.glob(f"instances_{side}*.json")),
            folder / side / "_annotations.coco.json",
            folder / f"{side}.json",
        ]
        found = [file for file in candidates if file.is_file()]
        if len(found) > 1:
            raise InputError(f"{folder} has {found[0].name} and {found[1].name}; give the file that is meant")
        if found:
            return found[0]
    raise InputError(
        f"{folder} holds no annotations for the {split} split: expected annotations/instances_{_SIDES[split][0]}*.json "
        "(COCO), or Annotations/, ImageSets/Main/ and JPEGImages/ (Pascal VOC)"
    )


def _image_places(file: Path, split: Split) -> list[Path]:
    """Folders in which a COCO file's images may lie, nearest first."""
    tail = file.stem.removeprefix("instances_")
    bases = (file.parent, file.parent.parent) if file.parent.name == "annotations" else (file.parent,)
    return [place for base in bases for place in (base, base / tail, base / "images", base / "images" / tail)]
