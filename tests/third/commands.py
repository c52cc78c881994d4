"""The subcommand that the third task adds."""

from __future__ import annotations


def rooms(count: int = 3) -> None:
    """Name the rooms of made-up recordings.

    Args:
        count: How many.
    """
    print(" ".join(f"room{k}" for k in range(count)))
