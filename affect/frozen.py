"""What frozen parts of a model give, kept between the two forwards of a replayed micro-batch."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from torch import nn

T = TypeVar("T")
Kept = dict[tuple[nn.Module, int], Any]
"""Outputs of one micro-batch by frozen module and by which of its calls they are of."""
_kept: tuple[Kept, Counter[nn.Module]] | None = None
"""What is kept, and how often each module was called in this forward."""


@contextlib.contextmanager
def keeping(kept: Kept) -> Iterator[None]:
    """Let frozen parts that run inside take what is in `kept`, and put there what is not."""
    global _kept
    before, _kept = _kept, (kept, Counter())
    try:
        yield
    finally:
        _kept = before


def once(module: nn.Module, compute: Callable[[], T]) -> T:
    """Return `compute()`, the output of a frozen `module`, or what an earlier forward of this micro-batch kept of it.

    For parts whose output depends on the micro-batch alone: nothing that learns lies before them or in them.
    """
    if _kept is None:
        return compute()
    kept, calls = _kept
    call = (module, calls[module])
    calls[module] += 1
    if call not in kept:
        kept[call] = compute()
    output: T = kept[call]
    return output
