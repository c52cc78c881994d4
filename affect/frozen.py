"""What frozen parts of a model give, kept between the two forwards of a replayed micro-batch."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from torch import nn

T = TypeVar("T")
Kept = dict[tuple[nn.Module, int], Any]
"""Outputs of one micro-batch by frozen module and by which of its calls they are of."""
_kept: Kept | None = None


@contextlib.contextmanager
def keeping(kept: Kept) -> Iterator[None]:
    """Let frozen parts that run inside take what is in `kept`, and put there what is not."""
    global _kept
    before, _kept = _kept, kept
    try:
        yield
    finally:
        _kept = before


def once(module: nn.Module, compute: Callable[[], T], *, call: int = 0) -> T:
    """Return `compute()`, the output of a frozen `module`, or what an earlier forward of this micro-batch kept of it.

    For parts whose output depends on the micro-batch alone: nothing that learns lies before them or in them.
    """
    if _kept is None:
        return compute()
    if (module, call) not in _kept:
        _kept[module, call] = compute()
    output: T = _kept[module, call]
    return output
