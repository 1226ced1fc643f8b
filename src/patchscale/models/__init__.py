"""Encoders built of tokens and mixers: DeiT and Adventurer at any patch size and input size.

Importing this room registers `deit_*_patch16`, `adventurer_*_patch16`, `adventurer_*_patch1` and `lct_vit_*` with timm.
`reduce_tokens` puts a reducer before any block of any of them.
Weights: `save_model`, `load_model`, `load_resized` (to another patch size), `convert` (published .pth), hub, ONNX.
"""

from patchscale.models.adventurer import Adventurer
from patchscale.models.checkpoints import load_model, load_resized, model_config, read_checkpoint, save_model
from patchscale.models.convert import Conversion, convert
from patchscale.models.deit import DeiT
from patchscale.models.export import export_onnx, export_program
from patchscale.models.hub import HubModel
from patchscale.models.lct_vit import LctViT, trainable_parameters
from patchscale.models.reduction import Reduction, reduce_tokens
from patchscale.models.registry import create
from patchscale.models.resizing import LoadReport, resize_state_dict

__all__ = [
    "Adventurer",
    "Conversion",
    "DeiT",
    "HubModel",
    "LctViT",
    "LoadReport",
    "Reduction",
    "convert",
    "create",
    "export_onnx",
    "export_program",
    "load_model",
    "load_resized",
    "model_config",
    "read_checkpoint",
    "reduce_tokens",
    "resize_state_dict",
    "save_model",
    "trainable_parameters",
]
