"""What readers leave out, by name."""

from __future__ import annotations

from typing import Any


def reasons(corpus: Any) -> dict[str, str]:
    """Return the reason of each exclusion of a corpus."""
    return {exclusion.what: exclusion.reason for exclusion in corpus.exclusions}
