"""The engine: the only room that knows Accelerate, DeepSpeed and FSDP."""

from __future__ import annotations

from affect.training.distributed.engine import Engine, is_out_of_memory, seeds

__all__ = ["Engine", "is_out_of_memory", "seeds"]
