"""The engine: the only room that knows Accelerate, DeepSpeed and FSDP."""

from __future__ import annotations

from affect.training.distributed.engine import Engine, inner, is_out_of_memory, seeds
from affect.training.distributed.launch_settings import agree, join

__all__ = ["Engine", "agree", "inner", "is_out_of_memory", "join", "seeds"]
