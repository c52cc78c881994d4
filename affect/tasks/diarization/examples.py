"""Blocks of conversations as what models take and are taught.

Legend: B batch, S samples, T frames, K speakers of a conversation (of the batch: the most), N slots.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from affect import keyed
from affect.tasks.diarization.config import ACTIVITY, CANDIDATES, SAMPLING_RATE, SPEAKER, VOICES, Loss, Model
from affect.tasks.diarization.slots import Slots, assign

_NOBODY = -100
"""The target where there is none."""
_UNNAMED = 1 << 40
"""Numbers of voices from here on are of those whom the table does not have."""


@dataclass(frozen=True)
class Block:
    """A stretch of a recording and who speaks when in it."""

    waveform: NDArray[np.float32]
    """[S] at 16 kHz."""
    spoken: NDArray[Any]
    """[K, T]: 0 or 1, T frames of model.frame samples, the last of which need not be whole."""


@dataclass(frozen=True)
class Example:
    """A block, and another one of the same conversation, with the same speakers in the same order."""

    id: str
    block: Block
    reference: Block
    voices: NDArray[np.int64]
    """[K]: the row of the table of training speakers, -1 where one is not among them."""


@dataclass(frozen=True)
class _Row:
    """An example with as many speakers as the batch has, and its slots."""

    example: Example
    voices: NDArray[np.int64]
    spoken: NDArray[np.float32]
    heard: NDArray[np.float32]
    """Who speaks when in the reference."""
    enrollable: NDArray[np.bool_]
    slots: Slots


def collated(
    examples: Sequence[Example], model: Model, loss: Loss, randoms: Sequence[Generator | None], *, table: int = 0,
    most: int = 0,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:  # fmt: skip
    """Return inputs and targets [B, ...] of `examples`, whose slots their `randoms` decide (None: nobody is enrolled).

    `table` is the number of training speakers of before and improved, whose padding may be absent ones. There are as
    many speakers as the example with the most has, and `most` at least: a step may compare those of all its batches.
    """
    speakers = max(most, *(len(example.voices) for example in examples))
    pairs = zip(examples, randoms, strict=True)
    rows = [_row(example, random, speakers, model, loss, table) for example, random in pairs]
    inputs = _blocks("waveform", "samples", "spoken", [(row.example.block.waveform, row.spoken) for row in rows])
    inputs["slots"] = _stacked([row.slots.slots for row in rows])
    targets = {
        ACTIVITY: _labels([row.slots.activity for row in rows]),
        CANDIDATES: _labels([row.slots.candidates for row in rows]),
    }
    voices = _stacked([row.voices for row in rows])
    if model.name != "ours":
        owner = _stacked([row.slots.owner for row in rows])
        named = torch.where(owner >= 0, voices.take_along_dim(owner.clamp(min=0), 1), -1)
        inputs |= {"speaker": voices, "owner": owner}
        return inputs, targets | {SPEAKER: torch.where(named >= 0, named, _NOBODY)}
    others = [(row.example.reference.waveform, row.heard) for row in rows]
    inputs |= _blocks("reference", "reference_samples", "reference_spoken", others)
    speaks = _long_enough(inputs["spoken"], model, loss)
    unnamed = [[_UNNAMED + keyed.number(e.id, k) % _UNNAMED for k in range(speakers)] for e in examples]
    numbers = torch.where(voices >= 0, voices, torch.tensor(unnamed))
    both = speaks & _stacked([row.enrollable for row in rows])
    targets[SPEAKER] = torch.where(speaks & (voices >= 0), voices, _NOBODY)
    return inputs, targets | {VOICES: torch.where(both, numbers, _NOBODY)}


def _row(example: Example, random: Generator | None, speakers: int, model: Model, loss: Loss, table: int) -> _Row:
    spoken, heard = (
        _padded(block.spoken, (speakers, block.spoken.shape[1]), 0) for block in (example.block, example.reference)
    )
    voices = _padded(example.voices, (speakers,), -1)
    if model.name == "ours":
        enrollable = _long_enough(heard, model, loss)
    else:
        voices, spoken = _with_absent(voices, spoken, model, table, random)
        enrollable = voices >= 0
    slots = assign(spoken, enrollable, model, loss, random)
    return _Row(example, voices, spoken, heard, enrollable, slots)


def _long_enough(spoken: Any, model: Model, loss: Loss) -> Any:
    """Return who speaks [..., K] long enough for an embedding in `spoken` [..., K, T]."""
    return spoken.sum(-1) * model.frame >= loss.reference_seconds * SAMPLING_RATE


def _with_absent(
    voices: NDArray[np.int64], spoken: NDArray[np.float32], model: Model, table: int, random: Generator | None
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the speakers of a block and, after them, as many others of the table as slots, who never speak."""
    if model.padding != "non" or random is None:
        return voices, spoken
    others = np.setdiff1d(np.arange(table), voices)
    absent = np.full(model.slots, -1)
    chosen = random.permutation(others)[: model.slots]
    absent[: len(chosen)] = chosen
    silent = np.zeros((model.slots, spoken.shape[1]), spoken.dtype)
    return np.concatenate([voices, absent]), np.concatenate([spoken, silent])


def _blocks(
    waveform: str, samples: str, spoken: str, blocks: Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]]
) -> dict[str, Tensor]:
    """Return blocks' waveforms, padded, their samples and activity, by these names."""
    longest, frames = max(len(wave) for wave, _ in blocks), max(active.shape[1] for _, active in blocks)
    return {
        waveform: _stacked([_padded(wave, (longest,), 0) for wave, _ in blocks]),
        samples: torch.tensor([len(wave) for wave, _ in blocks]),
        spoken: _stacked([_padded(active, (len(active), frames), 0) for _, active in blocks]),
    }


def _labels(labels: Sequence[NDArray[np.float32]]) -> Tensor:
    """Return labels [B, ..., T] of examples' [..., T], missing where a block has no more frames."""
    frames = max(label.shape[1] for label in labels)
    return _stacked([_padded(label, (len(label), frames), np.nan) for label in labels])


def _padded(values: NDArray[Any], shape: Sequence[int], value: float) -> NDArray[Any]:
    """Return `values` with so much `value` behind them in each dimension that they have `shape`."""
    kind = np.int64 if values.dtype == np.int64 else np.float32
    whole = np.full(shape, value, kind)
    whole[tuple(slice(size) for size in values.shape)] = values
    return whole


def _stacked(arrays: Sequence[NDArray[Any]]) -> Tensor:
    return torch.from_numpy(np.stack(arrays))
