"""Numbers and names read from text: what a label may be, and the scale that labels are on."""

from __future__ import annotations

import math
from collections.abc import Iterable


class UnusableError(ValueError):
    """A row can't be used; the text is the reason of its exclusion."""


SCALES = (
    *((0.0, 1.0), (-1.0, 1.0), (1.0, 5.0), (0.0, 5.0), (1.0, 7.0), (-3.0, 3.0), (1.0, 9.0), (0.0, 10.0)),
    *((-5.0, 5.0), (0.0, 100.0)),
)
"""The usual scales of ratings, narrow ones first."""


def number(text: object) -> float:
    """Return a label as a number, NaN where it is missing; raises ValueError where it is no finite number."""
    plain = "" if text is None else str(text).strip()
    if plain.lower() in ("", "nan", "na", "n/a", "n_a", "none", "null"):
        return float("nan")
    value = float(plain)
    if value in (float("inf"), float("-inf")):
        raise ValueError(plain)
    return value


def within(value: float, scale: tuple[float, float], tolerance: float = 1e-6) -> bool:
    """Say whether a label is missing (NaN) or lies on the scale, give or take `tolerance`."""
    return value != value or scale[0] - tolerance <= value <= scale[1] + tolerance


def label(name: str, text: object, scale: tuple[float, float] | None) -> float:
    """Return a label as a number, NaN where it is missing; `scale` None takes any.

    Raises UnusableError where it is no number or not on the scale.
    """
    try:
        value = number(text)
    except ValueError:
        raise UnusableError(f"label is no number: {name} {str(text)[:40]!r}") from None
    if scale is not None and not within(value, scale):
        raise UnusableError(f"label out of range: {name} {str(text).strip()} on {scale[0]:g}..{scale[1]:g}")
    return value


def infer_scale(values: Iterable[float]) -> tuple[float, float]:
    """Return the narrowest usual scale that holds all labels, else whole numbers around them; NaN is missing.

    Without any label 0 to 1, which then says nothing.
    """
    given = [value for value in values if value == value]
    if not given:
        return SCALES[0]
    low, high = min(given), max(given)
    usual = next((scale for scale in SCALES if scale[0] <= low and high <= scale[1]), None)
    return usual or (float(math.floor(low)), float(max(math.ceil(high), math.floor(low) + 1)))


def gender_of(text: object) -> str:
    """Return "F", "M", or "" for anything else that a corpus may write for a gender."""
    letter = str(text or "").strip()[:1].upper()
    return {"F": "F", "W": "F", "M": "M"}.get(letter, "")
