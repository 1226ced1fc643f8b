"""Recipes by name against the published tables, cell by cell, and against the published commands, flag by flag."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
import yaml

from patchscale.data import Augment
from patchscale.errors import InputError
from patchscale.models import create
from patchscale.training import Recipe, TrialConfig
from patchscale.training.optimizer import build_optimizer, build_schedule
from patchscale.training.recipes import load_table, plan_names, recipe_names, resolve
from patchscale.training.recipes.table import SIZES

# "Scaling Laws in Patchification", tables 8 to 10 as printed; the ticks of the last rows are lost in the text.
TABLES = {
    "adventurer_pretrain": """
        Config                        | tiny small base | large huge
        base learning rate            | 5e-4            | 2e-4
        weight decay                  | 0.05            | 0.3
        epochs                        | 300             | 200
        optimizer betas               | 0.9, 0.999      | 0.9, 0.95
        batch size                    | 1024            | 4096
        warmup epochs                 | 5               | 20
        stochastic depth (drop path)  | 0.1             | 0.2
        layer-wise lr decay           | none            | none
    """,
    "adventurer_finetune": """
        Config                        | small           | base       | large
        base learning rate            | 1e-5            | 1e-5       | 2e-5
        weight decay                  | 0.1             | 0.1        | 0.1
        epochs                        | 20              | 20         | 50
        optimizer betas               | 0.9, 0.999      | 0.9, 0.999 | 0.9, 0.95
        batch size                    | 512             | 512        | 512
        warmup epochs                 | 5               | 5          | 5
        stochastic depth (drop path)  | 0.4             | 0.6        | 0.6
        layer-wise lr decay           | 0.95            | 0.95       | 0.95
        label smoothing               | 0.1             | 0.1        | 0.1
        Rand Augmentation             | rand-m9-mstd0.5-inc1 | rand-m9-mstd0.5-inc1 | rand-m9-mstd0.5-inc1
    """,
    "adventurer_intermediate": """
        Config                        | small           | base       | large
        base learning rate            | 5e-4            | 5e-4       | 8e-4
        weight decay                  | 0.05            | 0.05       | 0.3
        epochs                        | 100             | 100        | 50
        optimizer betas               | 0.9, 0.999      | 0.9, 0.999 | 0.9, 0.95
        batch size                    | 1024            | 1024       | 4096
        warmup epochs                 | 5               | 5          | 20
        stochastic depth (drop path)  | 0.2             | 0.4        | 0.4
        layer-wise lr decay           | 0.9             | 0.9        | 0.9
    """,
}
KEYS = {
    "base learning rate": "base_learning_rate",
    "weight decay": "recipe.weight_decay",
    "epochs": "recipe.epochs",
    "optimizer betas": "recipe.betas",
    "batch size": "recipe.batch_size",
    "warmup epochs": "recipe.warmup_epochs",
    "stochastic depth (drop path)": "model.drop_path",
    "layer-wise lr decay": "recipe.layer_decay",
    "label smoothing": "recipe.label_smoothing",
    "Rand Augmentation": "recipe.augment.rand_augment",
}


def cells() -> list[tuple[str, str, str, str]]:
    """(recipe, size, row, printed value)."""
    found = []
    for recipe, text in TABLES.items():
        head, *rows = ([cell.strip() for cell in line.split("|")] for line in text.strip().splitlines())
        for name, *values in rows:
            for sizes, value in zip(head[1:], values, strict=True):
                found += [(recipe, size, name, value) for size in sizes.split()]
    return found


def choices(recipe: str, size: str, **kwargs: Any) -> dict[str, Any]:
    model = f"{load_table(recipe).families[0]}_{size}_patch16"
    return {choice.key: choice for choice in resolve(recipe, model, "imagenet-1k", **kwargs).choices}


@pytest.mark.parametrize(("recipe", "size", "row", "printed"), cells())
def test_tables_8_to_10_cell_by_cell(recipe: str, size: str, row: str, printed: str) -> None:
    choice = choices(recipe, size)[KEYS[row]]
    expected: Any = None if printed == "none" else printed
    if expected is not None and printed[0].isdigit():
        numbers = [float(part) for part in printed.split(",")]
        expected = numbers if len(numbers) > 1 else numbers[0]
    assert choice.value == expected
    assert choice.origin == "paper"


@pytest.mark.parametrize(
    ("recipe", "size", "rate"),
    [
        ("adventurer_pretrain", "base", 1e-3),
        ("adventurer_pretrain", "large", 1.6e-3),
        ("adventurer_intermediate", "base", 1e-3),
        ("adventurer_intermediate", "large", 6.4e-3),
        ("adventurer_finetune", "base", 1e-5),
        ("adventurer_finetune", "large", 2e-5),
        ("deit", "base", 1e-3),
        ("deit", "huge", 1.6e-3),
        ("visual_bases_finetune", "base", 4.8e-3),
        ("mae_pretrain", "large", 2.4e-3),
        ("mae_finetune", "base", 2e-3),
        ("segmentation", "base", 5e-5),
        ("detection", "base", 1e-4),
    ],
)
def test_the_learning_rate_as_used(recipe: str, size: str, rate: float) -> None:
    assert choices(recipe, size)["recipe.learning_rate"].value == rate


def test_the_rate_follows_the_batch_by_the_recipe_s_rule_unless_it_is_given() -> None:
    assert choices("deit", "base", changes={"recipe.batch_size": 256})["recipe.learning_rate"].value == 2.5e-4
    unscaled = choices("adventurer_finetune", "base", changes={"recipe.batch_size": 64})
    assert unscaled["recipe.learning_rate"].value == 1e-5
    given = choices("deit", "base", changes={"recipe.batch_size": 256, "recipe.learning_rate": 0.1})
    assert given["recipe.learning_rate"].value == 0.1
    assert given["recipe.learning_rate"].origin == "set"


FLAGS = {
    "--batch_size": None, "--batch": None, "--model": None, "--finetune": None, "--nproc_per_node": None,
    "--input-size": None, "--norm_pix_loss": None, "--unscale-lr": None,
    "--blr": "base_learning_rate", "--lr": "base_learning_rate", "--epochs": "recipe.epochs",
    "--layer_decay": "recipe.layer_decay", "--weight_decay": "recipe.weight_decay",
    "--weight-decay": "recipe.weight_decay", "--drop_path": "model.drop_path", "--drop-path": "model.drop_path",
    "--reprob": "recipe.augment.random_erasing", "--mixup": "recipe.mixing.mixup_alpha",
    "--cutmix": "recipe.mixing.cutmix_alpha", "--smoothing": "recipe.label_smoothing",
    "--aa": "recipe.augment.rand_augment", "--mask_ratio": "task_options.mask_ratio",
    "--warmup_epochs": "recipe.warmup_epochs", "--ThreeAugment": "recipe.augment.three_augment",
    "--repeated-aug": "recipe.augment_repeats", "--no-repeated-aug": "recipe.augment_repeats",
}  # fmt: skip
SWITCHES = {"--ThreeAugment": True, "--repeated-aug": 3, "--no-repeated-aug": 1}


@pytest.mark.parametrize("recipe", [name for name in recipe_names() if load_table(name).command])
def test_published_commands_flag_by_flag(recipe: str) -> None:
    command = load_table(recipe).command
    size = re.search(r"--model \w*?_(base|large)_patch16", command)[1]  # type: ignore[index]
    resolved = choices(recipe, size)
    held = 0
    for flag, value in re.findall(r"(--[\w-]+)(?:[ =](?!--|\()(\S+))?", command):
        key = FLAGS[flag]
        if key is None:
            continue
        expected = SWITCHES[flag] if flag in SWITCHES else yaml.safe_load(value)
        expected = float(expected) if isinstance(expected, str) and re.fullmatch(r"[\d.e-]+", expected) else expected
        assert resolved[key].value == expected, flag
        held += 1
    assert held >= 5
    shares = re.search(r"\((\d+) processes\)|--nproc_per_node=(\d+)", command)
    each = re.search(r"--batch(?:_size)? (\d+)", command)
    assert resolved["recipe.batch_size"].value == int(each[1]) * int(shares[1] or shares[2])  # type: ignore[index]


def test_the_published_visual_bases_command_is_printed() -> None:
    found = resolve("visual_bases_finetune", "lct_vit_base_patch16", "imagenet-1k")
    assert any("--blr 1.5e-4 --layer_decay 0.65 --finetune" in line for line in found.sources)


@pytest.mark.parametrize("recipe", recipe_names())
def test_every_recipe_makes_a_valid_trial_of_every_size(recipe: str) -> None:
    table = load_table(recipe)
    for size in SIZES:
        for family in table.families:
            found = resolve(recipe, f"{family}_{size}_patch16", "imagenet-1k")
            trial = TrialConfig.model_validate(found.content)
            assert trial.task == table.task
            assert {choice.origin for choice in found.choices} <= {"paper", "code", "ours", "set"}
            assert all(choice.source for choice in found.choices if choice.origin != "set")


def test_a_size_without_a_row_says_whose_it_took() -> None:
    tiny = choices("adventurer_finetune", "tiny")["recipe.epochs"]
    assert (tiny.value, tiny.origin) == (20, "ours")
    assert "no row for tiny; small's" in tiny.source
    huge = choices("adventurer_intermediate", "huge")["base_learning_rate"]
    assert (huge.value, huge.origin) == (8e-4, "ours")
    assert "200" not in choices("adventurer_pretrain", "base")["recipe.epochs"].source
    assert "text says 300" in choices("adventurer_pretrain", "huge")["recipe.epochs"].source


@pytest.mark.parametrize(
    ("plan", "stages"),
    [
        ("adventurer_64", [("adventurer_pretrain", 64)]),
        ("adventurer_128", [("adventurer_pretrain", 128), ("adventurer_finetune", 128)]),
        (
            "adventurer_224",
            [("adventurer_pretrain", 128), ("adventurer_intermediate", 224), ("adventurer_finetune", 224)],
        ),
    ],
)
def test_stage_plans_are_the_appendix_s(plan: str, stages: list[tuple[str, int]]) -> None:
    assert plan in plan_names()
    found = resolve(plan, "adventurer_base_patch16", "imagenet-1k", changes={"model.patch_size": 4})
    trial = TrialConfig.model_validate(found.content)
    alone = [
        TrialConfig.model_validate(
            resolve(
                recipe,
                "adventurer_base_patch16",
                "imagenet-1k",
                changes={"model.patch_size": 4, "model.input_size": size},
            ).content
        )
        for recipe, size in stages
    ]
    assert [stage.name for stage in trial.stages] == [recipe for recipe, _ in stages[:-1]]
    assert [part.model_copy(update={"evaluations": 6}) for part in trial.plain()] == alone


def test_wishes_reach_every_stage_or_the_one_they_name() -> None:
    changes = {"recipe.batch_size": 64, "stages.adventurer_pretrain.recipe.steps": 10, "random_seed": 3}
    found = resolve("adventurer_128", "adventurer_pico_patch16", "digits", changes=changes)
    first, last = TrialConfig.model_validate(found.content).plain()
    assert (first.recipe.batch_size, last.recipe.batch_size) == (64, 64)
    assert (first.recipe.steps, first.recipe.epochs, last.recipe.epochs) == (10, None, 20)
    assert (first.random_seed, last.random_seed) == (3, 3)
    with pytest.raises(InputError, match="no stage 'pretrain'; use one of adventurer_pretrain"):
        resolve("adventurer_128", "adventurer_pico_patch16", "x", changes={"stages.pretrain.recipe.steps": 1})


@pytest.mark.parametrize("key", ["data.test_crop", "random_seed", "init.weights", "model.name", "model", "evaluations"])
@pytest.mark.parametrize("stage", ["mae_pretrain", "mae_finetune"])
def test_what_no_stage_has_of_its_own_is_refused(stage: str, key: str) -> None:
    with pytest.raises(InputError, match=rf"stages\.{stage}\.{key}: a stage has its own .* without stages\.{stage}$"):
        resolve("mae", "deit_base_patch16", "imagenet-1k", changes={f"stages.{stage}.{key}": 0.5})
    for changes in ({f"stages.{stage}": 5}, {"stages": 5}):
        with pytest.raises(InputError, match="stage"):
            resolve("mae", "deit_base_patch16", "imagenet-1k", changes=changes)


def test_numbers_of_the_rate_s_rule_may_be_text_and_must_be_positive() -> None:
    """YAML reads 1e-3 as text."""
    wishes = {"base_learning_rate": "1e-3", "recipe.batch_size": "256"}
    assert choices("deit", "base", changes=wishes)["recipe.learning_rate"].value == 5e-4
    for key in ("base_learning_rate", "learning_rate_batch", "recipe.batch_size"):
        for value in ("abc", 0, -1, "nan", *([None] if key != "learning_rate_batch" else [])):
            with pytest.raises(InputError, match=f"{key}: {value!r} is not a positive number"):
                resolve("deit", "deit_base_patch16", "imagenet-1k", changes={key: value})


def test_unknown_names_are_one_line() -> None:
    with pytest.raises(InputError, match="did you mean adventurer_pretrain"):
        resolve("adventurer_pretrian", "adventurer_base_patch16", "x")
    with pytest.raises(InputError, match="does not tell family, size and patch size"):
        resolve("deit", "resnet50", "x")


@pytest.mark.parametrize("family", ["deit", "adventurer"])
@pytest.mark.parametrize("decay", [0.65, 0.95])
def test_layer_decay_of_each_block(family: str, decay: float) -> None:
    """decay^(depth + 1) for embeddings, decay^(depth - i) for block i, 1 for the head, as in BEiT, MAE and the released
    Adventurer; the last norm goes with the last block, as in timm."""
    model = create(f"{family}_pico_patch16", input_size=(32, 32), patch_size=16, num_classes=5)
    recipe = Recipe(steps=10, learning_rate=2.0, layer_decay=decay, final_learning_rate=0.0)
    optimizer = build_optimizer(model, recipe)
    build_schedule(optimizer, recipe, 10, 0).step_update(0)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    depth = 4
    for name, parameter in model.named_parameters():
        block = re.match(r"(?:blocks|layers)\.(\d+)\.", name)
        if block:
            power = depth - int(block[1])
        elif name.startswith("head"):
            power = 0
        else:
            power = 1 if name.startswith("norm") else depth + 1
        assert rates[id(parameter)] == pytest.approx(2.0 * decay**power), name


def test_warm_up_in_epochs_is_that_in_steps() -> None:
    recipe = Recipe(epochs=10, warmup_epochs=2, batch_size=32)
    assert (recipe.total_steps(320), recipe.total_warmup_steps(320)) == (100, 20)
    for wrong in ({"warmup_epochs": 10}, {"warmup_epochs": 1, "warmup_steps": 5}):
        with pytest.raises(ValueError, match="warmup"):
            Recipe.model_validate({"epochs": 10, **wrong})


def test_the_recipe_s_augmentation_runs() -> None:
    images = torch.randint(0, 256, (6, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    from patchscale.data import Draws

    for name in ("adventurer_pretrain", "adventurer_finetune", "deit"):
        family = load_table(name).families[0]
        augment = Augment(**resolve(name, f"{family}_base_patch16", "x").content["recipe"]["augment"])
        out = augment(images, Draws(torch.Generator().manual_seed(1), 6))
        assert out.shape == images.shape
        assert not torch.equal(out, images)
