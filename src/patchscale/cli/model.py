"""`patchscale train`, `evaluate` and `predict`: one trial, and what to do with its weights."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Annotated

import typer

from patchscale.cli.app import Trackers, app
from patchscale.errors import InputError

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Weights = Annotated[Path, typer.Option(help="A weights.safetensors file of a finished trial.")]


@app.command(
    epilog="Example:  patchscale train --recipe deit --model deit_tiny_patch16 --data path/to/images --dry-run   "
    "(what it prints is a trial file: patchscale train trial.yaml)"
)
def train(
    config: Annotated[
        Path | None, typer.Argument(help="YAML or JSON file of one trial, such as a trial's config.json.")
    ] = None,
    recipe: Annotated[str | None, typer.Option(help="Instead of a file: a published recipe or plan in stages.")] = None,
    model: Annotated[str | None, typer.Option(help="With --recipe: a model, such as adventurer_base_patch16.")] = None,
    data: Annotated[str | None, typer.Option(help="With --recipe: name or folder of a data set.")] = None,
    init: Annotated[str | None, typer.Option(help="With --recipe: weights to start from, .safetensors.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of the trial.")] = Path("runs/trial"),
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one key.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the resolved trial, train nothing.")] = False,
    parallel: Annotated[str, typer.Option(help="Under torchrun: ddp, or fsdp (weights are sliced).")] = "ddp",
    keep_every: Annotated[int, typer.Option(min=0, help="Also keep the checkpoint of every so many steps.")] = 0,
    trackers: Trackers = None,
    as_json: Json = False,
) -> None:
    """Train one trial, also under torchrun; the same command continues one that was interrupted."""
    if parallel not in ("ddp", "fsdp"):
        raise InputError(f"unknown --parallel {parallel!r}; use ddp or fsdp")
    from patchscale.studies.by_recipe import as_json_text, as_yaml, trial_by_recipe
    from patchscale.studies.single import load_trial, train_single

    if recipe is not None:
        if config is not None or model is None or data is None:
            raise InputError("--recipe takes the place of a trial file and needs --model and --data")
        trial, found = trial_by_recipe(recipe, model, data, init, settings or [])
        description = as_json_text(trial, found) if as_json else as_yaml(found)
    else:
        if config is None or model or data or init:
            raise InputError("give a trial file, or --recipe with --model and --data")
        trial = load_trial(config, settings or [])
        description = trial.model_dump_json(indent=2)
    if dry_run:
        print(description)
        return
    row = train_single(
        trial,
        out,
        parallel=parallel,
        keep_every=keep_every,
        trackers=trackers or [],
        say=(lambda line: None) if as_json else print,
    )
    if row is not None:
        print(json.dumps(row, indent=2) if as_json else f"test loss {row['test_loss']:.4f}; results in {out}")


@app.command(epilog="Example:  patchscale evaluate runs/mine/weights.safetensors --data path/to/images")
def evaluate(
    weights: Annotated[Path, typer.Argument(help="A weights.safetensors file of a finished trial.")],
    data: Annotated[
        str | None, typer.Option(help="Name or folder of a data set, or a COCO json; the trained set by default.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Test loss and scores of trained weights, every test sample once."""
    from patchscale.training.use import evaluate_weights

    scores = evaluate_weights(weights, data)
    print(json.dumps(scores, indent=2) if as_json else "\n".join(f"{k} {v:.6g}" for k, v in scores.items()))


@app.command(epilog="Example:  patchscale predict photo.jpg --weights runs/mine/weights.safetensors --out predictions")
def predict(
    images: Annotated[
        list[Path],
        typer.Argument(help="Image files or folders; a COCO json (detection); a JSONL file of questions (captioning)."),
    ],
    weights: Weights,
    out: Annotated[Path, typer.Option(help="Folder for predictions.csv and, for dense tasks, pictures.")] = Path(
        "predictions"
    ),
    top: Annotated[int, typer.Option(min=1, help="Classes per image.")] = 5,
    as_json: Json = False,
) -> None:
    """What a model sees: classes of each image, objects with boxes and masks, drawn and as COCO json, or answers."""
    from patchscale.errors import InputError
    from patchscale.files import write_text
    from patchscale.training.use import predict_images

    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file; give the folder that predictions are written to")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write to {out} ({error.strerror}); choose another --out") from error
    found = predict_images(images, weights, out, top=top)
    write_text(out / "predictions.csv", _csv(found.columns, found.rows))
    if as_json:
        print(json.dumps(found.rows, indent=2))
        return
    print("\n".join([*found.lines, f"table: {out / 'predictions.csv'}"]))


@app.command(epilog="Example:  patchscale convert adventurer_base.pth adventurer_base.safetensors")
def convert(
    source: Annotated[Path, typer.Argument(help="A released .pth file of Adventurer, DeiT, MAE or a timm ViT.")],
    target: Annotated[Path, typer.Argument(help="The .safetensors file to write.")],
    ema: Annotated[bool, typer.Option("--ema", help="Take the averaged weights.")] = False,
    flip: Annotated[str, typer.Option(help="Adventurer's flip rule: released or paper.")] = "released",
) -> None:
    """Turn released weights into safetensors that carry their configuration; code in them is refused."""
    from patchscale.models import convert as convert_weights

    done = convert_weights(source, target, ema=ema, flip=flip)
    print(f"{done.path}: {json.dumps(done.config)}")
    print("\n".join(done.report.lines()))


@app.command(epilog="Example:  patchscale export runs/mine/weights.safetensors model.onnx")
def export(
    weights: Annotated[Path, typer.Argument(help="A .safetensors file with a configuration.")],
    target: Annotated[Path, typer.Argument(help="The .onnx file to write.")],
) -> None:
    """Write a classification, or an encoder alone, as ONNX and compare its outputs with torch's."""
    from patchscale.models import export_onnx, load_model

    model, report = load_model(weights)
    if unfit := report.left_over or report.missing:
        wrong = "holds more than an encoder with its head" if report.left_over else "is not whole, without"
        raise InputError(f"{weights} {wrong}: {', '.join(unfit[:3])}; give the weights of a classification")
    difference = export_onnx(model, target)
    print(f"{target}: outputs differ from torch's by {difference:.1e} of the largest")


def _csv(columns: tuple[str, ...], rows: list[dict]) -> str:
    import io

    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
