"""What an Adam on a CPU walks through in each step, side by side in large pages of memory."""

from __future__ import annotations

import mmap
from collections.abc import Sequence

import torch
from torch import Tensor, nn

_PAGE = 1 << 21
"""Bytes of a large page."""
_LINE = 16
"""Numbers of a line of the cache, with which each tensor begins: what begins elsewhere may be rounded otherwise."""
_KINDS = ("exp_avg", "exp_avg_sq")


def usable(optimizer: torch.optim.Optimizer) -> bool:
    """Tell whether all parameters of an optimiser have moments, and had a gradient in its last step."""
    return all(parameter.grad is not None and optimizer.state[parameter] for parameter in _parameters(optimizer))


def lay_out(optimizer: torch.optim.Optimizer) -> None:
    """Move the parameters, gradients and moments of a `usable` optimiser to such memory, each kind to its own."""
    own = _parameters(optimizer)
    for name in ("data", "grad"):
        for parameter, moved in zip(own, _moved([getattr(parameter, name) for parameter in own]), strict=True):
            setattr(parameter, name, moved)
    states = [optimizer.state[parameter] for parameter in own]
    for kind in _KINDS:
        for state, moved in zip(states, _moved([state[kind] for state in states]), strict=True):
            state[kind] = moved


def _parameters(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _moved(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return copies of float32 tensors side by side."""
    sizes = [-(-tensor.numel() // _LINE) * _LINE for tensor in tensors]
    # Of whole pages, for a shorter stretch may hold none.
    memory = mmap.mmap(-1, -(-4 * sum(sizes) // _PAGE) * _PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    flat = torch.frombuffer(memory, dtype=torch.float32)[: sum(sizes)]
    parts = zip(torch.split(flat, sizes), tensors, strict=True)
    return [part[: tensor.numel()].view(tensor.shape).copy_(tensor) for part, tensor in parts]
