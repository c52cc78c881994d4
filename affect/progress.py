"""How far a long piece of work is: a bar on a terminal, and where there is none a line of the log a minute."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

from affect.tables import hours

_LOG = logging.getLogger("affect")
SAYS = 60.0
"""Seconds between two lines."""


@contextmanager
def progress(total: int, title: str, *, show: bool = True, delay: float = 2.0) -> Iterator[Callable[[int], None]]:
    """Give what is called with how many of `total` things are done now; of several processes one should `show` it."""
    with tqdm(total=total, desc=title, delay=delay, leave=False, disable=None if show else True) as bar:
        begun = told = time.monotonic()
        count = 0

        def done(number: int) -> None:
            nonlocal told, count
            count += number
            bar.update(number)
            now = time.monotonic()
            if show and bar.disable and now - told > SAYS:
                told = now
                left = hours((now - begun) / max(count, 1) * (total - count))
                _LOG.info("%s: %d of %d, %s left", title, count, total, left)

        yield done
