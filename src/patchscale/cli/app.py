"""The application: its commands, and the one place where errors become a line and an exit code."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from patchscale import __version__
from patchscale.errors import Failure, InputError, Terminated

INTERRUPTED = 130
TERMINATED = 75
"""Exit code after SIGTERM: saved, try again, as clusters know it."""

# typer carries its own copy of click or uses the installed one, by version; these are the classes it raises.
UsageError: Any
ClickException: Any
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

Trackers = Annotated[
    list[str] | None,
    typer.Option("--tracker", metavar="NAME", help="Copy metrics to tensorboard, wandb, mlflow or trackio."),
]


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
        code = _refuse(error.format_message() + (hint if isinstance(error, UsageError) else ""))
    except Failure as failure:
        typer.echo(f"error: {failure}", err=True)
        code = 1
    except Terminated:
        code = TERMINATED
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
        code = 0
    if code in (INTERRUPTED, TERMINATED):
        typer.echo("stopped; the same command continues", err=True)
    sys.exit(code if isinstance(code, int) else 0)


@contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """Lets SIGTERM end the block as Ctrl-C does, with everything saved that Ctrl-C saves."""

    def end(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # one is enough: saving must not be cut short
        raise Terminated

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _refuse(message: str) -> int:
    line = " ".join(message.split())
    typer.echo(f"error: {line}", err=True)
    return 2


from patchscale.cli import cost, doctor, laws, model, pages, study, tokens  # noqa: E402, F401 - registers the commands
