"""The Hugging Face Hub: runs and metric modules pushed there, models loaded from there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from affect.hub.load import from_pretrained, tokenizer

__all__ = ["from_pretrained", "tokenizer"]


def __getattr__(name: str) -> Any:
    """Import what loads when it is asked for: pushing needs no tensor library."""
    if name in __all__:
        from affect.hub import load

        return getattr(load, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
