"""Copies in a corpus: rows with the very same content under two names, which between parts are a leak."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence

from affect.errors import AffectError

_LOG = logging.getLogger("affect")
_SHOWN = 5

Named = tuple[str, str]
"""A part and the id of one of its rows."""
Pair = tuple[Named, Named]


def pairs(parts: Mapping[str, Iterable[tuple[str, str]]]) -> tuple[list[Pair], list[Pair]]:
    """Return each row whose content an earlier one has, after that one: those of two parts, and those of one.

    `parts` have rows as (id, content); a content that is "" is not known.
    """
    across: list[Pair] = []
    inside: list[Pair] = []
    first: dict[str, dict[str, str]] = {}
    for part, rows in parts.items():
        for name, content in rows:
            if not content:
                continue
            own = first.setdefault(content, {})
            for other, its in own.items():
                (inside if other == part else across).append(((other, its), (part, name)))
            own.setdefault(part, name)
    return across, inside


def told(listed: Sequence[Pair]) -> str:
    """Return the first pairs in words, and how many more there are."""
    shown = ", ".join(f"{_named(*one)} = {_named(*another)}" for one, another in listed[:_SHOWN])
    return shown + (f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else "")


def say(where: str, parts: Mapping[str, Iterable[tuple[str, str]]], what: str) -> None:
    """Log content that a part has under two names; `where` and `what` say whose rows, and what these are."""
    _, inside = pairs(parts)
    if inside:
        _LOG.warning("%s: %d %s are there under two names: %s", where, len(inside), what, told(inside))


def check(where: str, parts: Mapping[str, Iterable[tuple[str, str]]], what: str, *, refuse: str | None) -> None:
    """Raise AffectError, ended by what `refuse` says, for content that two parts share; None logs it.

    `where` and `what` say whose rows, and what these are.
    """
    across, _ = pairs(parts)
    if across:
        words = f"{where} leaks: {len(across)} {what} are in two parts under two names: {told(across)}"
        if refuse is not None:
            raise AffectError(f"{words} ({refuse})")
        _LOG.warning("%s", words)


def _named(part: str, name: str) -> str:
    return f"{name} ({part})" if part else name
