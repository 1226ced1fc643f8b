"""The application: its commands, and the one place where errors become a line and an exit code."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from patchscale import __version__
from patchscale.errors import InputError

INTERRUPTED = 130

# typer carries its own copy of click or uses the installed one, by version; these are the classes it raises.
UsageError: type[Exception]
ClickException: type[Exception]
UsageError, ClickException = typer.BadParameter.__mro__[1:3]

app = typer.Typer(
    name="patchscale",
    help="Measure, fit and use the scaling laws of visual tokens.",
    epilog="Example:  patchscale study run quickstart",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


def main() -> None:
    """Entry point of the `patchscale` command."""
    try:
        code = app(standalone_mode=False)
    except InputError as error:
        code = _refuse(str(error))
    except ClickException as error:
        context = getattr(error, "ctx", None)
        hint = f" (see {context.command_path if context else 'patchscale'} --help)"
        code = _refuse(str(error) + (hint if isinstance(error, UsageError) else ""))
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
        code = 0
    if code == INTERRUPTED:
        typer.echo("stopped; the same command continues", err=True)
    sys.exit(code if isinstance(code, int) else 0)


def _refuse(message: str) -> int:
    line = " ".join(message.split())
    typer.echo(f"error: {line}", err=True)
    return 2


from patchscale.cli import cost, doctor, laws, model, study  # noqa: E402, F401 - registers the commands
