"""Where things lie, and how a file is written: whole or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
RECIPES = ROOT / "recipes"
CONFIG = ROOT / "config"
PAPER_TABLES = ROOT / "paper_tables"


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def disk_of(folder: Path) -> Iterator[None]:
    """A write below ``folder`` that fails for want of space is the user's to mend: one line."""
    try:
        yield
    except OSError as error:
        # numpy reports a short write as a plain OSError without a number.
        if error.errno in FULL or (type(error) is OSError and error.errno is None):
            raise UserError(f"no space left on the disk of {folder}; free some and run again") from error
        raise


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A temporary path beside ``target`` that takes its place if the block succeeds, and vanishes if not."""
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    with disk_of(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield part
            os.replace(part, target)
        finally:
            part.unlink(missing_ok=True)


def write_text(target: Path, text: str) -> None:
    with replacing(target) as part:
        part.write_text(text, encoding="utf-8")
