"""Dropout whose mask follows the example, and is cheap to draw."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from affect.keyed import GOLDEN, advance, draw_keys, scramble

STEPS = 1 << 16
_CHUNK = 1 << 15
"""Words of 32 bits that are made at once on a CPU: they stay in its cache."""
_AXES = tuple(0xA0761D6478BD642F**k % (1 << 64) for k in range(1, 8))
"""What tells the axes of a mask apart: powers of an odd number."""


def _int32(number: int) -> int:
    """Return the int32 that has the last 32 bits of `number`."""
    return (number + (1 << 31)) % (1 << 32) - (1 << 31)


_STEP = _int32(GOLDEN >> 32)
_MIX = ((16, 0xFFFF, _int32(0x21F0AAAD)), (15, 0x1FFFF, _int32(0xD35A2D97)), (15, 0x1FFFF, None))
"""Shifts, the bits that they leave, and factors of a 32-bit hash (Wellons 2018, "Prospecting for Hash Functions")."""


def drop(x: Tensor, probability: float, module: nn.Module, *, shared: bool = False) -> Tensor:
    """Zero each value of `x` [B, ...] with `probability` and scale the rest to keep the mean, while `module` trains.

    The probability is rounded to 1 / 65536. `shared`: `x` is no example's but all of theirs (a table of positions).
    """
    if not module.training or probability == 0:
        return x
    keys = draw_keys(module, x.shape, x.device, shared=shared)
    shape = (1, *x.shape) if shared else x.shape
    if x.dtype == torch.float32:
        return x * factors(keys, shape, probability).view(x.shape)
    # A scale that is rounded to 8 bits would move the mean.
    kept = factors(keys, shape, probability, scaled=False).view(x.shape)
    return x * kept.to(x.dtype) * _scale(probability)[1]


def factors(keys: Tensor, shape: Sequence[int], probability: float, *, scaled: bool = True) -> Tensor:
    """Return a mask of `shape` (float32): 0 for a dropped value, else what keeps the mean at 1 (1 if not `scaled`).

    `shape` begins with that of `keys` (int64). The value at an index depends on its key and the rest of its index, not
    on the shape: of a longer or wider mask it is the same.
    """
    least, scale = _scale(probability)
    scale, last = scale if scaled else 1.0, shape[-1] if len(shape) > keys.ndim else 1
    if torch.compiler.is_compiling():
        return (_traced(keys, shape, last) >= least).float().view(*shape) * scale
    rows = _rows(keys, shape)
    mask = torch.empty(len(rows), last, device=keys.device)
    if mask.numel():
        _fill(mask, rows, least, scale)
    return mask.view(*shape)


def _scale(probability: float) -> tuple[int, float]:
    """Return the least 16-bit number (from -32768) that is kept, and what keeps the mean at 1."""
    dropped = min(max(round(probability * STEPS), 1), STEPS - 1)
    return dropped - STEPS // 2, STEPS / (STEPS - dropped)


def _as_arrays(device: torch.device) -> bool:
    """Tell whether the work is NumPy's: on a CPU a call of it costs a third, and its integers are as fast."""
    return device.type == "cpu"


def _indexed(keys: Tensor, shape: Sequence[int]) -> Tensor:
    """Return the keys (int64) of the rows of the last dimension: of all the indices before it."""
    for k, size in enumerate(shape[keys.ndim : -1]):
        keys = advance(keys, size, _AXES[k])
    return keys


def _rows(keys: Tensor, shape: Sequence[int]) -> Tensor:
    """Return two halves of a key (int32) for each row of the last dimension [R, 2]."""
    rows = _indexed(keys, shape)
    scrambled = torch.from_numpy(scramble(rows.numpy())) if _as_arrays(keys.device) else scramble(rows)
    return scrambled.reshape(-1, 1).view(torch.int32)


def _traced(keys: Tensor, shape: Sequence[int], last: int) -> Tensor:
    """Return the 16-bit numbers [..., `last`] (int32) that `_fill` makes, as one expression.

    A compiler makes one loop of it with what reads the mask, and keeps the keys alone for the backward.
    """
    scrambled: Tensor = scramble(_indexed(keys, shape))[..., None]
    low, high = scrambled.int(), (scrambled >> 32).int()
    place = torch.arange(last, dtype=torch.int32, device=keys.device)
    # As in `advance`: no multiple of `arange` alone.
    x = (low * _int32(pow(_STEP, -1, 1 << 32)) + (place >> 1)) * _STEP
    for k, (bits, left, factor) in enumerate(_MIX):
        x = x ^ ((x >> bits) & left)
        x = x if factor is None else x * factor
        x = x ^ high if k == 0 else x
    return torch.where(place & 1 == 0, x << 16, x) >> 16


@lru_cache(maxsize=64)
def _counter(words: int, device: torch.device) -> Tensor:
    """Return the numbers [words] (int32) that a row's words begin with, before its key."""
    return torch.arange(words, dtype=torch.int32, device=device) * _STEP


def _fill(mask: Tensor, rows: Tensor, least: int, scale: float) -> None:
    """Set `mask` [R, N] to `scale` where the 16-bit numbers, two a word, of each row's key reach `least`, else to 0."""
    count, last = mask.shape
    words, step = (last + 1) // 2, count
    here: Any = torch
    shifted: Any = torch.bitwise_right_shift
    if arrays := _as_arrays(mask.device):
        here, shifted, step = np, np.right_shift, max(1, min(count, _CHUNK // words))
    buffers = torch.empty(2, step, words, dtype=torch.int32, device=mask.device)
    tensors = (_counter(words, mask.device), buffers, rows, mask)
    counter, (word, spare), keys, masks = (t.numpy() if arrays else t for t in tensors)
    for start in range(0, count, step):
        key, part = keys[start : start + step], masks[start : start + step]
        x, t = word[: len(part)], spare[: len(part)]
        here.add(counter, key[:, :1], out=x)
        for k, (bits, left, factor) in enumerate(_MIX):
            shifted(x, bits, out=t)
            t &= left
            x ^= t
            if factor is not None:
                x *= factor
            if k == 0:
                # In the middle, so that no two keys have one sequence at different places.
                x ^= key[:, 1:]
        part[...] = x.view(here.int16)[:, :last] >= least
        if scale != 1.0:
            part *= scale


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
