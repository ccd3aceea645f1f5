"""Random seeds by axis, derived from one number.

Every source of randomness has its own stream, so that changing one leaves the others as they were: all models see
the same ``data`` split, and each repetition another ``init``.
"""

from __future__ import annotations

import hashlib
import json

from bench.errors import nearest

AXES = ("data", "init", "batch order", "noise", "evaluation")


def derive(root: int, axis: str, *names: str | int) -> int:
    """A seed in [0, 2^63) for ``names`` (data set, row, repetition, ...) on ``axis``.

    The first 63 bits of the SHA-256 of the JSON list [root, axis, *names]: the same for ever, on every platform.
    Raises UserError on an unknown axis.
    """
    if axis not in AXES:
        raise nearest(axis, AXES, "seed axis")
    text = json.dumps([int(root), axis, *names], separators=(",", ":"))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
