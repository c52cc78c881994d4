"""What passes through a part of a model, for whoever wants the state that a prediction is made of."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn


@contextmanager
def watched(part: nn.Module) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Yield a list that gets what the part is given first and what it returns, at each of its calls."""
    seen: list[tuple[Tensor, Tensor]] = []
    handle = part.register_forward_hook(lambda module, given, returned: seen.append((given[0], returned)))
    try:
        yield seen
    finally:
        handle.remove()
