"""Where a trial's weights start: at random, or from another trial's or model's weights, moved to this trial's grid."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict
from torch import nn

from patchscale.errors import InputError
from patchscale.models.checkpoints import load_resized
from patchscale.models.resizing import LoadReport


class Init(BaseModel):
    """Weights to start from, named by place and by content: other content is another trial."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    weights: str
    """A safetensors file, such as a finished trial's weights.safetensors or what `patchscale convert` wrote."""
    sha256: str | None = None
    """Of the file; settled when a trial or study is prepared."""
    part: Literal["encoder", "model"] = "encoder"
    """What is taken over: the encoder, or the whole model with all that the task puts on it."""

    def settled(self) -> Init:
        """With the digest of the file as it is now.

        Raises:
            InputError: no such file, or its content is not what `sha256` says.
        """
        path = Path(self.weights)
        if not path.is_file():
            raise InputError(f"init.weights: no file at {path}; give a .safetensors file")
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if self.sha256 not in (None, digest):
            raise InputError(f"init.weights: {path} has changed since this trial was described; remove init.sha256")
        return self.model_copy(update={"sha256": digest})


def apply_init(module: nn.Module, init: Init) -> LoadReport:
    """Fills `module`, the encoder or the whole model; an encoder's patches and positions move to its sizes."""
    return load_resized(module, init.settled().weights)
