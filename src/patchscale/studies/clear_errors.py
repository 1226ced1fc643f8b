"""pydantic's report of what does not fit, as one line that names the key, the value and what is wrong."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from patchscale.errors import InputError


@contextmanager
def clear_errors(where: str, known: tuple[str, ...] = ()) -> Iterator[None]:
    """Turns a `ValidationError` of the block into an `InputError`.

    Args:
        where: what was read, such as a file name.
        known: keys to suggest for a mistyped one.
    """
    try:
        yield
    except ValidationError as error:
        # A mistyped key is the cause of others, such as a missing one: it comes first.
        first = min(error.errors(), key=lambda found: found["type"] != "extra_forbidden")
        more = "" if error.error_count() == 1 else f" (1 of {error.error_count()} problems)"
        raise InputError(f"{where}: {_sentence(first, known)}{more}") from error


def _sentence(found: ErrorDetails, known: tuple[str, ...]) -> str:
    key = ".".join(str(part) for part in found["loc"])
    if found["type"] == "extra_forbidden":
        close = difflib.get_close_matches(str(found["loc"][-1]), known, n=1)
        return f"unknown key {key!r}; " + (f"did you mean {close[0]!r}?" if close else "check its spelling")
    if found["type"] == "missing":
        return f"key {key!r} is missing"
    message = found["msg"].removeprefix("Value error, ")
    value = "" if isinstance(found["input"], dict) else f" (value {found['input']!r:.80})"
    return f"{key}: {message}{value}" if key else message
