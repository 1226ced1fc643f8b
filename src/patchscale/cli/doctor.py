"""`patchscale doctor`: what this machine has, which backends will be used, what is missing and how to get it."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
from typing import Annotated, Any

import typer

from patchscale.cli.app import app

EXTRAS = {
    "vlm": ("transformers",),
    "slurm": ("submitit",),
    "onnx": ("onnx", "onnxruntime", "onnxscript"),
    "trackers": ("tensorboard", "wandb", "mlflow", "trackio"),
    "hub-data": ("datasets", "pyarrow", "webdataset"),
    "documents": ("pypdfium2",),
}


@app.command(epilog="Example:  patchscale doctor")
def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False) -> None:
    """Show what this machine has and what patchscale will use."""
    found = examine()
    if as_json:
        print(json.dumps(found, indent=2))
        return
    print(f"python     {found['python']}, torch {found['torch']} on {found['device']} ({found['cores']} cores)")
    mixer = found["ssd"]
    print(f"ssd        {mixer['auto']}: {mixer['why']}; faster: {mixer['faster'] or 'nothing'}")
    for backend in mixer["backends"]:
        state = "yes" if backend["available"] else "no "
        hint = f" ({backend['hint']})" if backend["hint"] else ""
        print(f"           {state} {backend['name']}: {backend['reason']}{hint}")
    for name, place in found["data"].items():
        print(f"data       {name}: {place or 'not on this machine'}")
    for extra, missing in found["extras"].items():
        state = f"missing {', '.join(missing)}; pip install 'patchscale[{extra}]'" if missing else "installed"
        print(f"extra      {extra}: {state}")


def examine() -> dict[str, Any]:
    """Everything that `doctor` prints, JSON-able; nothing is downloaded."""
    import torch

    from patchscale.data import known_sets
    from patchscale.data.registry import local_folder
    from patchscale.mixers import backend_report
    from patchscale.training import default_device, describe_device

    places = {known.name: "embedded" if known.kind == "generated" else local_folder(known) for known in known_sets()}
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": describe_device(default_device()),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "ssd": backend_report(),
        "data": {name: str(place) if place else None for name, place in places.items()},
        "extras": {
            extra: [name for name in names if importlib.util.find_spec(name) is None] for extra, names in EXTRAS.items()
        },
    }
