"""`patchscale cost` and `patchscale plan`: what a model costs, and what a budget allows; no torch here."""

from __future__ import annotations

import json
from pathlib import Path
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


@app.command(epilog="Example:  patchscale plan --device h100 --gpus 8 --budget-hours 48 --data-size 1281167")
def plan(
    device: Annotated[str, typer.Option(help="A device, such as a100, h100, rtx4090 or cpu.")],
    data_size: Annotated[int, typer.Option(help="Training images.")],
    gpus: Annotated[int, typer.Option(help="Number of devices.")] = 1,
    budget_hours: Annotated[float | None, typer.Option(help="Hours on all devices together.")] = None,
    budget_money: Annotated[float | None, typer.Option(help="Money, with --price-per-hour of one device.")] = None,
    budget_flops: Annotated[float | None, typer.Option(help="Training FLOPs of the model.")] = None,
    price_per_hour: Annotated[float | None, typer.Option(help="Price of one device for an hour.")] = None,
    memory: Annotated[float | None, typer.Option(help="GiB of one device, if not the data sheet's.")] = None,
    target: Annotated[float | None, typer.Option(help="Top-1 accuracy (0 to 1), or a test loss with a table.")] = None,
    table: Annotated[Path | None, typer.Option(help="results.csv of a study of one's own.")] = None,
    top: Annotated[int, typer.Option(help="Lines to print.")] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Which patch size and model to train for a budget, with predicted quality, hours and memory."""
    from patchscale import cost as room

    found = room.plan(
        device,
        data_size=data_size,
        gpus=gpus,
        budget_hours=budget_hours,
        budget_money=budget_money,
        budget_flops=budget_flops,
        price_per_hour=price_per_hour,
        memory=memory,
        target=target,
        table=table,
        top=top,
    )
    print(json.dumps(found.to_dict(), indent=2) if as_json else found.text)


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
