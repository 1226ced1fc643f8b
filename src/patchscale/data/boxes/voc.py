"""Pascal VOC: Annotations/*.xml, JPEGImages/, ImageSets/Main/<split>.txt; boxes without masks.

Corners are pixel numbers from 1, both included, so x0 = xmin - 1 and x1 = xmax. Objects marked difficult are ignored
like crowds.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

from patchscale.data.boxes.coco import Annotations
from patchscale.data.boxes.record import Objects, Problems, checked_box
from patchscale.data.spec import Split
from patchscale.errors import InputError

LISTS: dict[Split, tuple[str, ...]] = {"train": ("train",), "test": ("val", "test")}


def is_voc(folder: Path) -> bool:
    """Whether a folder has the layout of Pascal VOC."""
    return (folder / "Annotations").is_dir() and (folder / "ImageSets" / "Main").is_dir()


def read_voc(folder: Path, split: Split, problems: Problems) -> Annotations:
    """Reads and checks a split; classes are the names found in all splits, sorted.

    Raises:
        InputError: no list of the split or an empty one, an unreadable XML file; under the policy "fail", one box that
            cannot be used.
    """
    main = folder / "ImageSets" / "Main"
    wanted = next((main / f"{name}.txt" for name in LISTS[split] if (main / f"{name}.txt").is_file()), None)
    if wanted is None:
        raise InputError(f"{main} has no list for the {split} split; expected {LISTS[split][0]}.txt")
    trees = {stem: _parse(folder, stem) for stem in _stems(main)}
    classes = sorted({name for tree in trees.values() for item in tree.iter("object") if (name := _text(item, "name"))})
    if not classes:
        raise InputError(f"{folder}/Annotations names no objects")
    listed = _stems(main, wanted.name)
    if not listed:
        raise InputError(f"{wanted} names no images; write the name of an annotation a line, without .xml")
    records = []
    for image_id, stem in enumerate(listed, start=1):
        tree, file = trees[stem], folder / "Annotations" / f"{stem}.xml"
        height, width = (_text(tree, f"size/{side}") for side in ("height", "width"))
        if not (height.isdecimal() and width.isdecimal()):
            raise InputError(f"{file}: <size> must hold <width> and <height> in pixels; correct it")
        objects = Objects()
        for number, item in enumerate(tree.iter("object"), start=1):
            try:
                _add(objects, item, (int(height), int(width)), classes)
            except InputError as error:
                problems.found(f"{file}, object {number}", str(error))
        image = _text(tree, "filename")
        name = image if Path(image).stem == stem else f"{stem}.jpg"
        records.append(objects.record(name, image_id, (int(height), int(width)), with_masks=False))
    return Annotations(tuple(classes), tuple(range(1, len(classes) + 1)), records, has_masks=False)


def _add(objects: Objects, item: ElementTree.Element, size: tuple[int, int], classes: list[str]) -> None:
    """Adds one checked object; raises InputError with what is wrong."""
    name = _text(item, "name")
    if not name:
        raise InputError("it has no <name>")
    try:
        x0, y0, x1, y1 = (float(_text(item, f"bndbox/{side}")) for side in ("xmin", "ymin", "xmax", "ymax"))
    except ValueError as error:
        raise InputError("its <bndbox> must hold the numbers <xmin>, <ymin>, <xmax> and <ymax>") from error
    if x1 <= x0 or y1 <= y0:
        raise InputError(f"box x {x0:g} to {x1:g}, y {y0:g} to {y1:g} has no area")
    box, wrong = checked_box((x0 - 1, y0 - 1, x1, y1), size)
    if box is None:
        raise InputError(wrong)
    objects.boxes.append(box)
    objects.labels.append(classes.index(name))
    objects.crowd.append(_text(item, "difficult") == "1")
    objects.areas.append((box[2] - box[0]) * (box[3] - box[1]))


def _stems(main: Path, name: str | None = None) -> list[str]:
    lists = [main / name] if name else [main / f"{n}.txt" for names in LISTS.values() for n in names]
    lines = [line.split() for file in lists if file.is_file() for line in file.read_text().splitlines()]
    return list(dict.fromkeys(line[0] for line in lines if line))


def _parse(folder: Path, stem: str) -> ElementTree.Element:
    file = folder / "Annotations" / f"{stem}.xml"
    try:
        return ElementTree.parse(file).getroot()
    except (OSError, ElementTree.ParseError) as error:
        raise InputError(f"cannot read {file}: {error}") from error


def _text(item: ElementTree.Element, path: str) -> str:
    """The text at a place, without space around it; empty if there is none."""
    return (item.findtext(path) or "").strip()
