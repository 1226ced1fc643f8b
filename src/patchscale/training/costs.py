"""The counted cost of a trial's model."""

from __future__ import annotations

import dataclasses
import json
from functools import lru_cache
from typing import Any

from patchscale.cost import Cost, ModelShape, TokenReduction, estimate, shape_of
from patchscale.cost.estimate import TRAIN_OVER_FORWARD
from patchscale.tasks import ModelSpec, task_class
from patchscale.training.trial import TrialConfig


def cost_of_trial(config: TrialConfig, num_classes: int) -> Cost:
    """Parameters and FLOPs of a trial's model: the encoder and what the task puts on it.

    Trials whose models are alike are counted once: some decoders are counted by running them without data.
    """
    options = json.dumps(config.task_options, sort_keys=True)
    return _counted(config.task, config.model.model_dump_json(), options, num_classes)


@lru_cache(maxsize=4096)
def _counted(task: str, model: str, task_options: str, num_classes: int) -> Cost:
    kind, spec = task_class(task), ModelSpec.model_validate_json(model)
    options = kind.Options.model_validate_json(task_options)
    if hasattr(kind, "trained_specs"):
        costs = [cost_of(one, num_classes).flops_train for one in kind.trained_specs(spec, options)]
        return dataclasses.replace(cost_of(spec, num_classes), flops_train=round(sum(costs) / len(costs)))
    if not hasattr(kind, "head_cost"):
        return cost_of(spec, num_classes)
    params, flops = kind.head_cost(spec, num_classes, options)
    if hasattr(kind, "encoder_tokens"):
        spec = spec.model_copy(update={"reducer": "random", "kept_tokens": kind.encoder_tokens(spec, options)})
    encoder = cost_of(spec, 0)
    return dataclasses.replace(
        encoder,
        num_classes=num_classes,
        params=encoder.params + params,
        params_without_positions=encoder.params_without_positions + params,
        flops_forward=encoder.flops_forward + flops,
        flops_train=encoder.flops_train + TRAIN_OVER_FORWARD * flops,
    )


def cost_of(spec: ModelSpec, num_classes: int) -> Cost:
    """Parameters and FLOPs of `spec`, its options counted in."""
    return estimate(
        with_options(shape_of(spec.name), spec.options),
        input_size=spec.input_size,
        patch_size=spec.patch_size,
        num_classes=num_classes,
        reduction=_reduction(spec),
        sequence_extension=spec.sequence_extension,
    )


def _reduction(spec: ModelSpec) -> TokenReduction | None:
    """How the model reduces tokens, for counting; `lct_vit_*` routes its class token."""
    arguments = spec.reduction
    if not arguments:
        return None
    options = arguments.get("reducer_options", {})
    own: dict[str, Any] = {name: options[name] for name in ("before", "class_token", "window") if name in options}
    if spec.name.startswith("lct_vit_"):
        own["class_token"] = "routed"
    return TokenReduction(
        reducer=arguments.get("reducer", "filtering_released"),
        kept_tokens=arguments["kept_tokens"],
        own_experts=options.get("experts") == "own",
        **own,
    )


def with_options(shape: ModelShape, options: dict[str, Any]) -> ModelShape:
    """The shape that a model's constructor builds when `options` (such as `embed_dim` or `depth`) change it."""
    ratio = options.get("mlp_ratio", shape.mlp_hidden / shape.embed_dim)
    names = ("embed_dim", "depth", "num_heads", "headdim", "d_state", "d_conv", "expand")
    shape = dataclasses.replace(shape, **{name: options[name] for name in names if name in options})
    if shape.family == "deit":
        derived = {"headdim": shape.embed_dim // shape.num_heads}
    else:
        derived = {"num_heads": shape.expand * shape.embed_dim // shape.headdim}
    return dataclasses.replace(shape, mlp_hidden=int(ratio * shape.embed_dim), **derived)
