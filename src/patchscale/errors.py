"""The one exception for bad input: its text is what the user reads."""

from __future__ import annotations


class InputError(ValueError):
    """Something the user gave is wrong: the message says what, the value, and what to do.

    The command line prints it as one line and exits with code 2.
    """


class Failure(RuntimeError):
    """Something that work needs is gone, through no fault of the input: one line, and exit code 1."""


class Terminated(BaseException):
    """Asked to stop by a signal of the system or a cluster; work is saved, exit code 75.

    Beside `KeyboardInterrupt`, not one: command-line libraries turn every one of those into the keyboard's exit code.
    """
