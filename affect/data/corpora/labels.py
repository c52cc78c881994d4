"""Numbers and names read from text: what a label may be."""

from __future__ import annotations


def number(text: object) -> float:
    """Return a label as a number, NaN where it is missing; raises ValueError where it is no finite number."""
    plain = "" if text is None else str(text).strip()
    if plain == "" or plain.lower() in ("nan", "na", "none", "null"):
        return float("nan")
    value = float(plain)
    if value in (float("inf"), float("-inf")):
        raise ValueError(plain)
    return value


def within(value: float, scale: tuple[float, float], tolerance: float = 1e-6) -> bool:
    """Say whether a label is missing (NaN) or lies on the scale, give or take `tolerance`."""
    return value != value or scale[0] - tolerance <= value <= scale[1] + tolerance


def gender_of(text: object) -> str:
    """Return "F", "M", or "" for anything else that a corpus may write for a gender."""
    letter = str(text or "").strip()[:1].upper()
    return {"F": "F", "W": "F", "M": "M"}.get(letter, "")
