"""The Hugging Face Hub: runs and metric modules pushed there, models loaded from there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from affect.hub.load import from_pretrained

__all__ = ["from_pretrained"]


def __getattr__(name: str) -> Any:
    """Import `from_pretrained` when it is asked for: pushing needs no tensor library."""
    if name == "from_pretrained":
        from affect.hub.load import from_pretrained

        return from_pretrained
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
