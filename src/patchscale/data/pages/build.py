"""From a folder of PDFs to one stitched image a paper, with a table of its pages and of their text lines."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from patchscale.errors import InputError
from patchscale.files import write_bytes, write_text

WIDTH, MAX_HEIGHT = 1200, 30_000
"""Pixels: those of PaperScope."""

TABLE = "pages.jsonl"


def build_pages(
    pdfs: Path | str,
    out: Path | str,
    *,
    width: int = WIDTH,
    max_height: int = MAX_HEIGHT,
    say: Callable[[str], None] = lambda line: None,
) -> list[dict[str, Any]]:
    """Renders every PDF below a folder to `<out>/<name>.png` and writes `<out>/pages.jsonl`.

    Pages are scaled to `width` and stacked from top to bottom; those that would go beyond `max_height` are left out and
    counted in the table's `left_out`. One paper is in memory at a time.

    Args:
        pdfs: folder that is searched for *.pdf, or one PDF.
        out: folder of the set; made if it does not exist.
        width, max_height: pixels.
        say: told a line a paper.

    Returns:
        The rows of the table, one a page: doc, page (from 1), image, top, height, width (pixels), words, lines (list of
        [top, bottom] of each text line in pixels of the stitched image), left_out (pages of the paper left out).

    Raises:
        InputError: pypdfium2 is not installed, no PDF, two of one name, or one that cannot be read.
    """
    pdfs, out = Path(pdfs), Path(out)
    files = [pdfs] if pdfs.is_file() else sorted(pdfs.rglob("*.pdf"))
    if not files:
        raise InputError(f"no PDF in {pdfs}; give a folder that holds .pdf files")
    twice = {file.stem for file in files if [one.stem for one in files].count(file.stem) > 1}
    if twice:
        raise InputError(f"several PDFs are called {sorted(twice)[0]}; the images of the set are named after them")
    out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for file in files:
        image, found = _stitch(file, width, max_height)
        content = io.BytesIO()
        image.save(content, "PNG")
        write_bytes(out / f"{file.stem}.png", content.getvalue())
        rows += found
        left = f", {found[0]['left_out']} pages left out" if found[0]["left_out"] else ""
        say(f"{file.stem}: {len(found)} pages, {image.width}x{image.height} pixels{left}")
    write_text(out / TABLE, "".join(json.dumps(row) + "\n" for row in rows))
    return rows


def _stitch(file: Path, width: int, max_height: int) -> tuple[Image.Image, list[dict[str, Any]]]:
    try:
        import pypdfium2
    except ImportError as error:
        raise InputError(
            "reading PDFs needs pypdfium2; install it with: pip install 'patchscale[documents]'"
        ) from error
    try:
        paper = pypdfium2.PdfDocument(file)
    except pypdfium2.PdfiumError as error:
        raise InputError(f"{file} cannot be read as a PDF ({error}); remove it from the folder") from error
    pictures: list[np.ndarray] = []
    rows: list[dict[str, Any]] = []
    top = 0
    try:
        for number in range(len(paper)):
            page = paper[number]
            scale = width / page.get_width()
            height = round(page.get_height() * scale)
            if top + height > max_height:
                break
            pixels = page.render(scale=scale, rev_byteorder=True).to_numpy()[..., :3]
            pictures.append(_fitted(pixels, height, width))
            words, lines = _text(page, scale, top)
            rows.append(
                {"doc": file.stem, "page": number + 1, "image": f"{file.stem}.png", "top": top, "height": height}
                | {"width": width, "words": words, "lines": lines}
            )
            top += height
        if not rows:
            raise InputError(f"{file}: not one page fits into {width}x{max_height} pixels; raise max_height")
        left_out = len(paper) - len(rows)
    finally:
        paper.close()
    return Image.fromarray(np.concatenate(pictures)), [row | {"left_out": left_out} for row in rows]


def _fitted(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Exactly height x width: the renderer rounds up, so at most a line is cut or added in white."""
    canvas = np.full((height, width, 3), 255, np.uint8)
    part = pixels[:height, :width]
    canvas[: part.shape[0], : part.shape[1]] = part
    return canvas


def _text(page: Any, scale: float, top: int) -> tuple[int, list[list[int]]]:
    """Words of a page, and the upper and lower end of each line of text, in pixels of the stitched image."""
    layer = page.get_textpage()
    words = len(layer.get_text_range().split())
    height = page.get_height()
    boxes = [layer.get_rect(i) for i in range(layer.count_rects())]
    spans = sorted((height - upper, height - lower) for _, lower, _, upper in boxes)
    lines: list[list[float]] = []
    for first, last in spans:
        if lines and (first + last) / 2 < lines[-1][1]:
            lines[-1][1] = max(lines[-1][1], last)
        else:
            lines.append([first, last])
    return words, [[top + round(first * scale), top + round(last * scale)] for first, last in lines]
