"""`patchscale cost`: what a model costs at each patch size; no torch here."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from patchscale.cli.app import app


@app.command(epilog="Example:  patchscale cost --model adventurer_base_patch16 --input 224 --patches 16,8,4,2,1")
def cost(
    model: Annotated[str, typer.Option(help="A model of the registry.")],
    input_size: Annotated[str, typer.Option("--input", help="Pixels: 224, or 160x224 (height x width).")] = "224",
    patches: Annotated[str, typer.Option(help="Patch sizes, with commas.")] = "16,8,4,2,1",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Tokens, parameters and FLOPs per image at each patch size."""
    from patchscale.cost import estimate

    size = parse_size(input_size)
    rows = []
    for patch in parse_integers(patches, "--patches"):
        each = estimate(model, input_size=size, patch_size=patch)
        rows.append({"patch_size": patch, **each.to_dict()})
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    print(f"{model} at {size[0]}x{size[1]}, a multiply-add counted as 2 FLOPs")
    print(f"{'patch':>6} {'tokens':>8} {'params (M)':>11} {'no positions':>13} {'GFLOPs/image':>13}")
    for row in rows:
        params, bare = row["params"] / 1e6, row["params_without_positions"] / 1e6
        flops = row["flops_forward"] / 1e9
        print(f"{row['patch_size']:>6} {row['tokens']:>8} {params:>11.2f} {bare:>13.2f} {flops:>13.2f}")


def parse_size(text: str) -> tuple[int, int]:
    """`224` or `160x224`, as (height, width)."""
    parts = parse_integers(text.replace("x", ","), "--input")
    return (parts[0], parts[0]) if len(parts) == 1 else (parts[0], parts[1])


def parse_integers(text: str, option: str) -> list[int]:
    """Positive integers separated by commas."""
    from patchscale.errors import InputError

    parts = text.split(",")
    if not all(part.strip().isdigit() and int(part) > 0 for part in parts):
        raise InputError(f"{option} {text!r} is not a list of positive integers, as in 16,8,4")
    return [int(part) for part in parts]
