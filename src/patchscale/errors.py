"""The one exception for bad input: its text is what the user reads."""

from __future__ import annotations


class InputError(ValueError):
    """Something the user gave is wrong: the message says what, the value, and what to do.

    The command line prints it as one line and exits with code 2.
    """
