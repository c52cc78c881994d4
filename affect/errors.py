"""The one exception that reaches a user as a single line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_MOST = 5
"""Names that an error lists; of more their number is said."""


class AffectError(Exception):
    """An error of the user's input or surroundings; the command line prints its message and exits with 2."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the name of its kind where it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint naming what `name` may have meant, or what there is (the first few), to end an error message."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]!r}?"
    more = f", ... ({len(names)} in all)" if len(names) > _MOST else ""
    return "there are: " + ", ".join(names[:_MOST]) + more
