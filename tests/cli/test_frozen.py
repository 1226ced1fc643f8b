"""The command line is a contract: commands and options change only together with this table."""

from __future__ import annotations

import pytest
import typer

from patchscale.cli import app

COMMANDS = {
    "study list": "--json",
    "study show": "preset",
    "study run": (
        "preset_or_file --scale --data --out --set --launcher --workers --slurm --reuse --tracker --dry-run --json"
    ),
    "study status": "folder --json",
    "study watch": "folder --port --host --allow-remote",
    "study report": "folders --out --figures",
    "train": "config --recipe --model --data --init --out --set --dry-run --parallel --keep-every --tracker --json",
    "evaluate": "weights --data --json",
    "predict": "images --weights --out --top --json",
    "convert": "source target --ema --flip",
    "export": "weights target",
    "fit": "table --x --y --group --form --confidence --bound --bootstrap --compare --json",
    "published": "table --claims --laws --out --json",
    "cost": "--model --input --patches --device --reducer --keep --before --recompute --calibrate --json",
    "plan": (
        "--device --data-size --gpus --budget-hours --budget-money --budget-flops --price-per-hour --memory --target "
        "--table --top --json"
    ),
    "pages": "pdf_dir out --width --max-height --patch --json",
    "tokens": "image --patches --keep --method --size --tolerance --weights --layer --out --json",
    "doctor": "--json",
}


def commands() -> dict[str, object]:
    found = {}
    group = typer.main.get_command(app)
    for name, command in group.commands.items():
        nested = getattr(command, "commands", None)
        found |= {f"{name} {inner}": part for inner, part in nested.items()} if nested else {name: command}
    return found


def test_commands_and_options_are_the_frozen_ones() -> None:
    found = {
        name: {parameter.opts[0] for parameter in command.params if parameter.name != "help"}
        for name, command in commands().items()
    }
    assert found == {name: set(words.split()) for name, words in COMMANDS.items()}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_help_has_a_sentence_and_an_example(name: str) -> None:
    command = commands()[name]
    assert command.help
    assert command.epilog.startswith(f"Example:  patchscale {name}")
