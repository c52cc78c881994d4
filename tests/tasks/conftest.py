"""Small finished runs of both tasks."""

from __future__ import annotations

from tests.trained import fused, fused_corpus, spoken, top

__all__ = ["fused", "fused_corpus", "spoken", "top"]
