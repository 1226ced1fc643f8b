"""A model as an ONNX file, through torch.export; outputs compared under onnxruntime before the file counts."""

from __future__ import annotations

import importlib.util
import io
import warnings
from contextlib import redirect_stdout
from pathlib import Path

import torch
from torch import nn

from patchscale.errors import InputError
from patchscale.files import write_bytes

NEEDED = ("onnx", "onnxscript", "onnxruntime")


def export_program(model: nn.Module, batch: int = 1) -> torch.export.ExportedProgram:
    """The model in inference mode as a torch.export program for its own image size; the SSD runs its `torch` form."""
    parameter = next(model.parameters())
    height, width = model.patch_embed.img_size  # type: ignore[union-attr,misc]
    images = torch.zeros(batch, int(model.in_chans), height, width, dtype=parameter.dtype)  # type: ignore[arg-type]
    return torch.export.export(model.eval(), (images,))


def export_onnx(model: nn.Module, path: Path | str, *, tolerance: float = 1e-3) -> float:
    """Writes the model as ONNX and checks it.

    Args:
        model: on the CPU, in float32.
        path: .onnx file to write.
        tolerance: largest difference allowed between torch and onnxruntime, relative to the largest output.

    Returns:
        The relative difference found on random images.

    Raises:
        InputError: a package is missing, or the outputs differ; nothing is written then.
    """
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f"export needs {', '.join(missing)}; install them with `pip install patchscale[onnx]`")
    import onnxruntime  # type: ignore[import-not-found]

    program = export_program(model)
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # the exporter warns about its own internals
        exported = torch.onnx.export(program, (), dynamo=True, verbose=False)
    content = exported.model_proto.SerializeToString()  # type: ignore[union-attr]
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    entry = session.get_inputs()[0]
    images = torch.randn([int(size) for size in entry.shape], generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        want = model.eval()(images)
    got = torch.from_numpy(session.run(None, {entry.name: images.numpy()})[0])
    error = ((got - want).abs().max() / want.abs().max()).item()
    if not error <= tolerance:
        raise InputError(f"onnxruntime differs from torch by {error:.2e} (allowed {tolerance:.0e}); nothing written")
    write_bytes(path, content)
    return error
