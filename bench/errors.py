"""What a user can get wrong: one line that says what, where and what to do. The command line prints it and exits 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake of the user, or of the user's machine, in one line; never shown with a traceback."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(str(message).split()))


def nearest(name: str, known: Iterable[str], what: str) -> UserError:
    """The error for an unknown name: ``unknown data set 'minst'; did you mean 'mnist'?``"""
    known = sorted(known)
    close = difflib.get_close_matches(str(name), known, 1)
    hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
    return UserError(f"unknown {what} {name!r}; {hint}")
