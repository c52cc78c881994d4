"""What is asked of a model against the lengths that it was trained on."""

from __future__ import annotations

import logging

_LOG = logging.getLogger("affect")

Span = tuple[float, float]
"""The shortest and the longest of training."""


_NEAR = 0.2
"""Share of a length by which it may go beyond all of training: what is that near is no other kind of thing."""


class Lengths:
    """Warns, once, of what is of another length than all that a model was trained on."""

    def __init__(self, span: Span | None, unit: str, *, more: float = 0.0) -> None:
        """Take the lengths of training in `unit`, None where they are not known; `more` may go beyond the longest."""
        self.span, self.unit, self.more = span, unit, more

    def see(self, length: float, name: str) -> None:
        """Take in what is predicted at once of something of that name."""
        if self.span is None:
            return
        low, high = self.span
        if not low * (1 - _NEAR) <= length <= high * (1 + _NEAR) + self.more:
            _LOG.warning(
                "%s: %.3g %s are predicted at once, the model was trained on %.3g to %.3g %s; what it says of other "
                "lengths is not known (told once)", name, length, self.unit, low, high, self.unit,
            )  # fmt: skip
            self.span = None


def common(spans: list[Span | None]) -> Span | None:
    """Return the lengths that all of several models were trained on, as far as they are known."""
    there = [span for span in spans if span is not None]
    return (max(low for low, _ in there), min(high for _, high in there)) if there else None
