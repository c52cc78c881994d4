"""Copies in a corpus: rows with the very same content under two names, which between parts are a leak."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from affect.data.sharing import LEARNED
from affect.errors import AffectError, first_few

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LOG = logging.getLogger("affect")
ACCEPTED = "allow_shared accepts it"
"""What `check` ends with where an option lets copies pass."""
_SHOWN = 5
_SAME, _FEWEST = 0.05, 3
"""Share of all samples that may be one and the same, and how few of them are never many."""
_NUMBERS, _LEADING = 8, 4096
"""Different numbers by which a sample may be known, and how many of its numbers are looked at first."""

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


def many(same: int, count: int) -> bool:
    """Tell whether so many samples of all are one and the same that it stands for what is missing: a silence."""
    return same > max(_FEWEST, _SAME * count)


def digest(arrays: Mapping[str, NDArray[Any] | None]) -> str:
    """Return a hash of all arrays of a sample by their names, None where it lacks one.

    It is "" for a sample of a few different numbers (none, constants, counts), which others have without being copies.
    """
    import numpy as np  # only here: a layout's file is read before anything heavy is

    there = {name: array for name, array in arrays.items() if array is not None}
    leading = {name: array.reshape(-1)[:_LEADING] for name, array in there.items()}
    if all(sum(len(np.unique(a)) for a in looked.values()) < _NUMBERS for looked in (leading, there)):
        return ""
    whole = hashlib.sha256()
    for name, array in sorted(there.items()):
        whole.update(repr((name, array.dtype.str, array.shape)).encode())
        whole.update(np.ascontiguousarray(array).data)
    return whole.hexdigest()[:16]


def telling(digests: Sequence[str]) -> list[str]:
    """Return the digests of samples, "" where so many have the same that it stands for what is missing."""
    counts = Counter(digests)
    return ["" if many(counts[each], len(digests)) else each for each in digests]


def told(listed: Sequence[Pair]) -> str:
    """Return the first pairs in words, and how many more there are."""
    return first_few([f"{_named(*one)} = {_named(*another)}" for one, another in listed], _SHOWN)


def say(where: str, parts: Mapping[str, Iterable[tuple[str, str]]], what: str) -> None:
    """Log content that a part has under two names; `where` and `what` say whose rows, and what these are."""
    if words := repeated(parts, what):
        _LOG.warning("%s: %s", where, words)


def check(where: str, parts: Mapping[str, Iterable[tuple[str, str]]], what: str, *, refuse: str | None) -> None:
    """Raise AffectError, ended by what `refuse` says, for content that two parts share; None logs it.

    `where` and `what` say whose rows, and what these are. Two tests may share what they like.
    """
    if words := leaking(parts, what):
        words = f"{where} leaks: {words}"
        if refuse is not None:
            raise AffectError(f"{words} ({refuse})")
        _LOG.warning("%s", words)


def leaking(parts: Mapping[str, Iterable[tuple[str, str]]], what: str) -> str:
    """Return in words the content that training or validation shares with another part, "" for none."""
    across = [pair for pair in pairs(parts)[0] if any(part in LEARNED for part, _ in pair)]
    return f"{len(across)} {what} are in two parts under two names: {told(across)}" if across else ""


def repeated(parts: Mapping[str, Iterable[tuple[str, str]]], what: str) -> str:
    """Return in words the content that a part has under two names, "" for none."""
    inside = pairs(parts)[1]
    return f"{len(inside)} {what} are there under two names: {told(inside)}" if inside else ""


def lines(parts: Mapping[str, Iterable[tuple[str, str]]], what: str) -> list[str]:
    """Return what `affect inspect` says of copies."""
    return [f"copies: {words}" for words in (leaking(parts, what), repeated(parts, what)) if words]


def by_part(rows: Mapping[str, Sequence[str]], column: str = "digest") -> dict[str, list[tuple[str, str]]]:
    """Return ids and contents by part of a corpus's columns `id`, `part` and that of contents."""
    contents: dict[str, list[tuple[str, str]]] = {}
    for part, name, content in zip(rows["part"], rows["id"], rows[column], strict=True):
        contents.setdefault(part, []).append((name, content))
    return contents


def _named(part: str, name: str) -> str:
    return f"{name} ({part})" if part else name
