"""`patchscale cost` and `patchscale plan`: what a model costs, and what a budget allows; no torch here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from patchscale.cli.app import app

if TYPE_CHECKING:
    from patchscale.cost import Cost, Device, TokenReduction

BATCH = 64
"""Images of the update whose time is predicted."""


@app.command(
    epilog="Example:  patchscale cost --model adventurer_base_patch16 --input 224 --patches 16,8,4,2,1 --device a100"
)
def cost(
    model: Annotated[str | None, typer.Option(help="A model of the registry.")] = None,
    input_size: Annotated[str, typer.Option("--input", help="Pixels: 224, or 160x224 (height x width).")] = "224",
    patches: Annotated[str, typer.Option(help="Patch sizes, with commas.")] = "16,8,4,2,1",
    device: Annotated[
        str | None, typer.Option(help="Also training time there: a100, h100, cpu, or a JSON file.")
    ] = None,
    reducer: Annotated[str | None, typer.Option(help="Keep fewer tokens, by qr, tome, pool, ...; with --keep.")] = None,
    keep: Annotated[int | None, typer.Option(min=1, help="Tokens kept, the class token not counted.")] = None,
    before: Annotated[int, typer.Option(min=0, help="The first block that sees fewer tokens.")] = 0,
    recompute: Annotated[bool, typer.Option("--recompute", help="Count memory with recomputed blocks.")] = False,
    calibrate: Annotated[Path | None, typer.Option(help="Measure this machine (a minute) into this JSON file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Tokens, parameters, FLOPs, memory and training time at each patch size; the published sizes without --model."""
    from patchscale.cost import estimate

    if calibrate is not None:
        _calibrate(calibrate, as_json)
        return
    if model is None:
        _print_sizes(as_json)
        return
    reduction = _reduction(reducer, keep, before)
    size = parse_size(input_size)
    where = read_device(device) if device else None
    sizes = parse_integers(patches, "--patches")
    costs = [estimate(model, input_size=size, patch_size=patch, reduction=reduction) for patch in sizes]
    rows = [_cost_row(each, where, recompute) for each in costs]
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    fewer = f", {keep} tokens kept by {reducer} from block {before} on" if reduction else ""
    print(f"{model} at {size[0]}x{size[1]}{fewer}; a multiply-add is 2 FLOPs; activations of one training image")
    times = f" {'images/s':>9}" if where else ""
    print(
        f"{'patch':>6} {'tokens':>8} {'params M':>9} {'without positions':>18} {'GFLOPs':>10} {'memory MB':>10}{times}"
    )
    for row in rows:
        line = f"{row['patch_size']:>6} {row['tokens']:>8} {row['params'] / 1e6:>9.2f}"
        line += f" {row['params_without_positions'] / 1e6:>18.2f} {row['flops_forward'] / 1e9:>10.2f}"
        line += f" {row['activation_bytes'] / 1e6:>10.0f}"
        print(line + (f" {row['images_per_second']:>9.3g}" if where else ""))
    if where:
        print(f"{where.title}: predicted, {where.precision}; {where.source}")


def _print_sizes(as_json: bool) -> None:
    """Parameters of the papers' ten models, counted here, beside the rounded millions of table 7."""
    from patchscale.cost import size_table

    rows = size_table()
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    print("parameters at 224x224, patch 16, 1,000 classes, in millions; one model at other sizes: --model NAME")
    print(f"{'model':<26} {'counted':>8} {'without positions':>18} {'published (table 7)':>20}")
    for row in rows:
        counted, without, paper = (row[key] / 1e6 for key in ("params", "params_without_positions", "published"))
        print(f"{row['model']:<26} {counted:>8.2f} {without:>18.2f} {paper:>20.0f}")


def _reduction(reducer: str | None, keep: int | None, before: int) -> TokenReduction | None:
    from patchscale.cost import TokenReduction
    from patchscale.errors import InputError

    if reducer is None and keep is None:
        return None
    if reducer is None or keep is None:
        raise InputError("give --reducer and --keep together, as in --reducer tome --keep 64")
    return TokenReduction(reducer, keep, before)


def _cost_row(each: Cost, where: Device | None, recompute: bool) -> dict[str, Any]:
    """Counts of one patch size, and the predicted training rate on a device."""
    from patchscale.cost import activation_memory, step_time

    cpu = where is not None and where.is_cpu
    kept = activation_memory(each, precision=where.precision if where else "bfloat16", recompute=recompute, cpu=cpu)
    row = {**each.to_dict(), "activation_bytes": kept.kept}
    if where is not None:
        row["images_per_second"] = BATCH / step_time(each, where, batch_size=BATCH, recompute=recompute).step
    return row


def read_device(name: str) -> Device:
    """A known device by name, or one that `--calibrate` wrote.

    Raises:
        InputError: neither.
    """
    from patchscale.cost import Device, device_of
    from patchscale.errors import InputError

    if not name.endswith(".json"):
        return device_of(name)
    try:
        return Device(**json.loads(Path(name).read_text()))
    except (OSError, TypeError, ValueError) as error:
        raise InputError(f"{name} is not a device that `patchscale cost --calibrate` wrote ({error})") from error


def _calibrate(target: Path, as_json: bool) -> None:
    from patchscale.errors import InputError
    from patchscale.files import write_json
    from patchscale.studies.calibrate import calibrate

    if target.is_dir() or not target.parent.is_dir():
        raise InputError(f"--calibrate {target} cannot be written; give a JSON file in a folder that exists")
    device = calibrate().to_dict()
    write_json(target, device)
    if as_json:
        print(json.dumps(device, indent=2))
        return
    rates = ", ".join(f"{rate / 1e12:.2f} TFLOP/s {name}" for name, rate in device["peak_flops"].items())
    print(f"{device['title']}: {rates}, {device['bandwidth'] / 1e9:.1f} GB/s; use it as --device {target}")


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
        read_device(device),
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
    from patchscale.errors import InputError

    parts = text.lower().split("x")
    if len(parts) > 2 or not all(map(_is_positive, parts)):
        raise InputError(f"input size {text!r} is not a number of pixels; give 224, or 160x224 (height x width)")
    return int(parts[0]), int(parts[-1])


def parse_integers(text: str, option: str) -> list[int]:
    """Positive integers separated by commas."""
    from patchscale.errors import InputError

    parts = text.split(",")
    if not all(map(_is_positive, parts)):
        raise InputError(f"{option} {text!r} is not a list of positive integers, as in 16,8,4")
    return [int(part) for part in parts]


def _is_positive(text: str) -> bool:
    return text.strip().isdecimal() and int(text) > 0
