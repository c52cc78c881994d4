"""Dropout whose mask follows the example, and is cheap to draw."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from affect.keyed import GOLDEN, draw_keys, scramble, wrap

STEPS = 1 << 16
_CHUNK = 1 << 15
"""Words of 32 bits that are made at once on a CPU: they stay in its cache."""
_MIX = ((16, 0x21F0AAAD), (15, 0xD35A2D97), (15, None))
"""Shifts and factors of a 32-bit hash of two rounds (Wellons 2018, "Prospecting for Hash Functions")."""
_AXIS = 0xA0761D6478BD642F
"""Odd: its powers tell the axes of a mask apart."""


def drop(x: Tensor, probability: float, module: nn.Module, *, shared: bool = False) -> Tensor:
    """Zero each value of `x` [B, ...] with `probability` and scale the rest to keep the mean, while `module` trains.

    The probability is rounded to 1 / 65536. `shared`: `x` is no example's but all of theirs (a table of positions).
    """
    if not module.training or probability == 0:
        return x
    keys = draw_keys(module, x.shape, x.device, shared=shared)
    kept, scale = factors(keys, (1, *x.shape) if shared else x.shape, probability)
    kept = kept.view(x.shape)
    if x.dtype == torch.float32:
        return x * kept.mul_(scale)
    # A scale that is rounded to 8 bits would move the mean.
    return x * kept.to(x.dtype) * scale


def factors(keys: Tensor, shape: Sequence[int], probability: float) -> tuple[Tensor, float]:
    """Return a mask of `shape` (float32: 1 where a value is kept, else 0), and what keeps the mean at 1.

    `shape` begins with that of `keys` (int64). The value at an index depends on its key and the rest of its index, not
    on the shape: of a longer or wider mask it is the same.
    """
    dropped = min(max(round(probability * STEPS), 1), STEPS - 1)
    rows = _rows(keys, shape)
    last = shape[-1] if len(shape) > keys.ndim else 1
    kept = torch.empty(len(rows), last, device=keys.device)
    if kept.numel():
        _fill(kept, rows, dropped - STEPS // 2)
    return kept.view(*shape), STEPS / (STEPS - dropped)


def _as_arrays(device: torch.device) -> bool:
    """Tell whether the work is NumPy's: on a CPU a call of it costs a third, and its integers are as fast."""
    return device.type == "cpu"


def _rows(keys: Tensor, shape: Sequence[int]) -> Tensor:
    """Return two halves of a key (int32) for each row of the last dimension [R, 2], of all the indices before it."""
    rows: Any = keys
    for k, size in enumerate(shape[keys.ndim : -1]):
        rows = rows[..., None] + torch.arange(size, device=keys.device) * wrap(_AXIS ** (k + 1))
    scrambled = torch.from_numpy(scramble(rows.numpy())) if _as_arrays(keys.device) else scramble(rows)
    return scrambled.reshape(-1, 1).view(torch.int32)


def _fill(kept: Tensor, rows: Tensor, least: int) -> None:
    """Set `kept` [R, N] to whether 16-bit numbers, two a word, of each row's key reach `least`."""
    count, last = kept.shape
    words, golden = (last + 1) // 2, _int32(GOLDEN >> 32)
    counter = torch.arange(words, dtype=torch.int32, device=kept.device) * golden
    step = count
    if arrays := _as_arrays(kept.device):
        step = max(1, min(count, _CHUNK // words))
    buffers = torch.empty(2, step, words, dtype=torch.int32, device=kept.device)
    here: Any = np if arrays else torch
    shifted: Any = np.right_shift if arrays else torch.bitwise_right_shift
    first, (word, spare), keys, masks = (t.numpy() if arrays else t for t in (counter, buffers, rows, kept))
    for start in range(0, count, step):
        key, part = keys[start : start + step], masks[start : start + step]
        x, t = word[: len(part)], spare[: len(part)]
        here.add(first, key[:, :1], out=x)
        for k, (bits, factor) in enumerate(_MIX):
            shifted(x, bits, out=t)
            t &= (1 << (32 - bits)) - 1
            x ^= t
            if factor is not None:
                x *= _int32(factor)
            if k == 0:
                # In the middle, so that no two keys have one sequence at different places.
                x ^= key[:, 1:]
        part[...] = x.view(here.int16)[:, :last] >= least


def _int32(number: int) -> int:
    """Return the int32 that has the last 32 bits of `number`."""
    return (number + (1 << 31)) % (1 << 32) - (1 << 31)


class Dropout(nn.Module):
    """`drop` as a module."""

    def __init__(self, probability: float, *, shared: bool = False) -> None:
        super().__init__()
        self.p = probability
        self.shared = shared

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` [B, ...], dropped out while training."""
        return drop(x, self.p, self, shared=self.shared)


_SHARED = ("pos_dropout",)
"""Names of dropouts on tables that all examples read (DeBERTa's relative positions)."""


def replace_dropout(module: nn.Module) -> None:
    """Put `Dropout` in the place of every `nn.Dropout` inside `module`."""
    for name, child in module.named_children():
        if type(child) is nn.Dropout:
            setattr(module, name, Dropout(child.p, shared=name in _SHARED))
        else:
            replace_dropout(child)
