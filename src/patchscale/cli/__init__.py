"""The command line: parses, calls the rooms, prints. Heavy imports happen inside the commands that need them.

Bad input gives one line on standard error and exit code 2.
"""

from patchscale.cli.app import app, main

__all__ = ["app", "main"]
