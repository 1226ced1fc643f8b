"""Every random draw of a trial is a pure function of its random seed and of where it happens.

Nothing is drawn from a stream that lives on between steps, so a resumed trial has no generator state to restore.
"""

from __future__ import annotations

import hashlib


def derive(seed: int, *place: str | int) -> int:
    """A 63-bit seed for one place, such as `derive(seed, "batch", step)`; different places are independent."""
    text = "/".join(str(part) for part in (seed, *place))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1
