"""Hugging Face habits: save_pretrained, push_to_hub and from_pretrained, by huggingface_hub's mixin."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from huggingface_hub import ModelHubMixin, hf_hub_download
from torch import Tensor, nn

from patchscale.files import write_json
from patchscale.models.checkpoints import load_model, model_config, save_model

WEIGHTS, CONFIG = "model.safetensors", "config.json"


class HubModel(
    nn.Module,
    ModelHubMixin,
    library_name="patchscale",
    tags=["image-classification", "visual-tokens"],
    license="apache-2.0",
):
    """A model with the hub's methods; `model` is the network itself.

    A folder or repository holds `model.safetensors`, whose metadata carry the configuration, and a readable copy of
    that in `config.json`.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)

    def _save_pretrained(self, save_directory: Path) -> None:
        save_model(self.model, Path(save_directory) / WEIGHTS)
        write_json(Path(save_directory) / CONFIG, model_config(self.model))

    @classmethod
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        revision: str | None = None,
        cache_dir: str | Path | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        token: str | bool | None = None,
        **changes: Any,
    ) -> HubModel:
        if Path(model_id).is_dir():
            path = Path(model_id) / WEIGHTS
        else:
            path = hf_hub_download(
                model_id,
                WEIGHTS,
                revision=revision,
                cache_dir=cache_dir,
                force_download=force_download,
                local_files_only=local_files_only,
                token=token,
            )
        changes.pop("model", None)  # the mixin hands back config.json's name; the weights' own metadata decide
        return cls(load_model(path, **changes)[0])
