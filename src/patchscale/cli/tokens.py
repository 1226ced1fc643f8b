"""`patchscale tokens`: what an image's tokens are, which are kept, and how complex the image is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from patchscale.cli.app import app
from patchscale.cli.cost import parse_integers, parse_size

if TYPE_CHECKING:
    from torch import Tensor

    from patchscale.tokens.picture import Shown


@app.command(epilog="Example:  patchscale tokens photo.jpg --patches 16,8 --keep 64 --method qr,tome --out tokens.png")
def tokens(
    image: Annotated[Path, typer.Argument(help="An image file.")],
    patches: Annotated[str, typer.Option(help="Patch sizes, with commas.")] = "16",
    keep: Annotated[int, typer.Option(min=1, help="Tokens to keep at each patch size.")] = 64,
    method: Annotated[str, typer.Option(help="What keeps them, with commas: qr, tome, pool, kmeans, random.")] = "qr",
    size: Annotated[str, typer.Option(help="Pixels the image is brought to: 224, or 160x224.")] = "224",
    tolerance: Annotated[float, typer.Option(help="Share of energy that may be missing, for the complexity.")] = 0.05,
    weights: Annotated[Path | None, typer.Option(help="Choose by the tokens of this trained model.")] = None,
    layer: Annotated[int, typer.Option(min=0, help="With --weights: by the tokens that enter this block.")] = 0,
    out: Annotated[Path, typer.Option(help="The picture to write.")] = Path("tokens.png"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Draw kept tokens, their regions and a reconstruction; print the image's intrinsic complexity."""
    from patchscale.errors import InputError
    from patchscale.tokens import picture

    out = _picture_file(out)
    methods = [name.strip() for name in method.split(",") if name.strip()]
    if weights is None:
        lines, rows = _of_pixels(
            image, parse_size(size), parse_integers(patches, "--patches"), keep, methods, tolerance
        )
    else:
        lines, rows = _of_model(image, weights, layer, keep, methods, tolerance)
    if not lines:
        raise InputError(f"--method {method!r} names no method; use qr, tome, pool, kmeans or random")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        missing = picture.draw(lines, out)
    except OSError as error:
        reason = f"{error.filename or out.parent}: {error.strerror}"
        raise InputError(f"--out {out} cannot be written ({reason}); choose another") from error
    for row, residual in zip(rows, missing, strict=True):
        row["missing"] = residual
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    _print(rows)
    print(f"picture: {out}")


def _picture_file(out: Path) -> Path:
    """The file that the picture is written to: without an ending it is a PNG."""
    from matplotlib.backend_bases import FigureCanvasBase

    from patchscale.errors import InputError

    if out.is_dir():
        raise InputError(f"--out {out} is a folder; give a file, as in {out / 'tokens.png'}")
    out = out if out.suffix else out.with_suffix(".png")
    if out.suffix[1:].lower() not in FigureCanvasBase.filetypes:
        raise InputError(f"--out {out}: no picture can be written as {out.suffix}; use .png")
    return out


def _of_pixels(
    image: Path, size: tuple[int, int], patches: list[int], keep: int, methods: list[str], tolerance: float
) -> tuple[list[Shown], list[dict[str, Any]]]:
    """Tokens are the patches themselves, around the image's mean colour."""
    from patchscale.tokens import patchify
    from patchscale.tokens.picture import Shown

    pixels = _read(image, size)
    mean = pixels.mean((1, 2))
    lines, rows = [], []
    for patch in patches:
        flat = patchify(pixels[None], patch)
        centre = mean.repeat_interleave(patch**2)
        grid = (size[0] // patch, size[1] // patch)
        for name, reduced in _reduced(flat - centre, grid, keep, methods, None):
            kept = reduced.tokens.shape[1]
            title = f"{name}, p = {patch}, {kept} of {flat.shape[1]}"
            lines.append(Shown(title, pixels, patch, reduced, reduced.tokens[0] + centre))
            rows.append({"method": name, "patch_size": patch, "tokens": flat.shape[1], "kept": kept})
            rows[-1] |= _complexity(flat - centre, tolerance)
    return lines, rows


def _of_model(
    image: Path, weights: Path, layer: int, keep: int, methods: list[str], tolerance: float
) -> tuple[list[Shown], list[dict[str, Any]]]:
    """Tokens are those that enter a block of a trained model; a row is drawn as the mean patch of its members."""
    from patchscale.data import normalise
    from patchscale.models.reduction import entering
    from patchscale.tokens import patchify
    from patchscale.tokens.picture import Shown, rows_as_patches
    from patchscale.training.weights import load_weights

    trained = load_weights(weights)
    spec = trained.config.model
    pixels = _read(image, spec.input_size)
    inputs = normalise((255 * pixels[None]).round().byte(), trained.mean, trained.std)
    found, scores = entering(trained.model, inputs, layer)
    patches = patchify(pixels[None], spec.patch_size)[0]
    grid = (spec.input_size[0] // spec.patch_size, spec.input_size[1] // spec.patch_size)
    lines, rows = [], []
    for name, reduced in _reduced(found, grid, keep, methods, scores):
        kept = reduced.tokens.shape[1]
        title = f"{name}, {spec.name} before block {layer}, {kept} of {found.shape[1]}"
        lines.append(Shown(title, pixels, spec.patch_size, reduced, rows_as_patches(patches, reduced)))
        rows.append({"method": name, "patch_size": spec.patch_size, "tokens": found.shape[1], "kept": kept})
        rows[-1] |= {"layer": layer, **_complexity(found, tolerance)}
    return lines, rows


def _reduced(tokens: Tensor, grid: tuple[int, int], keep: int, methods: list[str], scores: Tensor | None):
    """(method, its reduction) of tokens [1, N, D]; methods that must be trained are refused."""
    from patchscale.errors import InputError
    from patchscale.tokens.reducers import build_reducer
    from patchscale.tokens.reducers.build import FREE

    for name in methods:
        reducer = build_reducer(name, dim=tokens.shape[2], slots=keep).eval()
        if name not in FREE:
            raise InputError(
                f"method {name} must be trained and cannot be shown by itself; use one of {', '.join(FREE)}"
            )
        if reducer.needs_scores and scores is None:
            raise InputError(f"method {name} chooses by a model's attention; give --weights of a trained model")
        yield name, reducer(tokens, keep, grid=grid, scores=scores)


def _complexity(tokens: Tensor, tolerance: float) -> dict[str, Any]:
    from patchscale.tokens.complexity import complexity

    found = complexity(tokens, tolerance)
    return {
        "tolerance": tolerance,
        "spanning": int(found.spanning),
        "rank": int(found.rank),
        "effective_rank": round(float(found.effective_rank), 2),
        "code_rank": int(found.code_rank),
        "code_bits": round(float(found.code_bits), 4),
    }


def _read(image: Path, size: tuple[int, int]) -> Tensor:
    """float32 [3, H, W] from 0 to 1, centre-cropped to the aspect of `size`."""
    import torch

    from patchscale.data.decode import centre_view, open_image
    from patchscale.errors import InputError

    if not image.is_file():
        raise InputError(f"no image at {image}")
    return torch.from_numpy(centre_view(open_image(image.read_bytes(), str(image)), size, "bicubic")).float() / 255


def _print(rows: list[dict[str, Any]]) -> None:
    tolerance = f"{100 * rows[0]['tolerance']:g} %"
    head = ("method", "patch", "tokens", "kept", "missing", f"spanning at {tolerance}", "rank", "effective", "code")
    print("  ".join(head))
    for row in rows:
        cells = (row["method"], row["patch_size"], row["tokens"], row["kept"], f"{100 * row['missing']:.2g} %")
        cells += (row["spanning"], row["rank"], row["effective_rank"], row["code_rank"])
        print("  ".join(f"{cell!s:>{len(name)}}" for name, cell in zip(head, cells, strict=True)))
