"""Test conditions of feature vectors: modalities taken away, made noisy or swapped between utterances.

Legend: N utterances, D features, M = 3 modalities in the order audio, text, video (letters A, T, V). `present` [N, M]
says what an utterance has. What happens to an utterance is a function of the condition, the seed and its id (a shuffle
also of the other ids), never of the order of rows or of the process; what is missing is missing under each condition.

| condition | what it does |
|---|---|
| `subset=AT` | of the modalities present, those named stay |
| `missing=0.3` | each modality present is dropped at this rate; the same ones are at any higher rate |
| `snr=10` | Gaussian noise on every stream, this many dB below its power; the same noise, scaled, at any ratio |
| `shuffle=V` | the modality's features are another utterance's |
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from affect.data.augment import generator, number
from affect.errors import AffectError, nearest

Mask = NDArray[np.bool_]
Values = NDArray[np.float32]
Kind = Literal["subset", "missing", "snr", "shuffle"]

MODALITIES = {"A": "audio", "T": "text", "V": "video"}
"""The modalities by letter, in the order of columns."""
SUBSETS = ("A", "T", "V", "AT", "AV", "TV", "ATV")
NAMES = (
    *(f"subset={letters}" for letters in SUBSETS),
    *(f"missing={tenths / 10}" for tenths in range(8)),
    *(f"snr={decibels}" for decibels in (20, 10, 5, 0)),
    *(f"shuffle={letter}" for letter in MODALITIES),
)
"""The conditions that a run is evaluated under, in the order of its results."""


_BLOCK = 256
"""Rows of a stream made float64 at once: few, as a stream may have 5,120 features."""


@dataclass(frozen=True)
class Condition:
    """A condition: its kind, and letters (`subset`, `shuffle`), a rate (`missing`) or a ratio in dB (`snr`)."""

    kind: Kind
    value: str | float


def names_of(letters: str) -> list[str]:
    """Return those of `NAMES` that say something of a model of these modalities (AT); `subset=AT` is the whole."""

    def tells(name: str) -> bool:
        kind, _, value = name.partition("=")
        if kind in ("subset", "shuffle"):
            return set(value) <= set(letters)
        # Of one modality none is ever dropped: the last one stays.
        return kind != "missing" or len(letters) > 1

    return [name for name in NAMES if tells(name)]


def parse(name: str) -> Condition:
    """Return the condition called `name`: one of `NAMES` or alike; raises AffectError for any other name."""
    kind, _, value = name.partition("=")
    if kind == "subset" and "".join(sorted(value)) in SUBSETS:
        return Condition("subset", "".join(sorted(value)))
    if kind == "shuffle" and value in MODALITIES:
        return Condition("shuffle", value)
    if kind == "missing" and re.fullmatch(r"[0-9]+(\.[0-9]+)?", value) and float(value) <= 1:
        return Condition("missing", float(value))
    # Three digits: beyond them the noise or the signal is lost to 32 bits.
    if kind == "snr" and re.fullmatch(r"-?[0-9]{1,3}(\.[0-9]+)?", value):
        return Condition("snr", float(value))
    raise AffectError(f"unknown test condition {name!r}: {nearest(name, NAMES)}")


def keep(condition: Condition, ids: Sequence[str], present: Mask, *, seed: int = 0) -> Mask:
    """Return what stays of `present` [N, M]; all of it under a condition that takes nothing away.

    A subset may leave an utterance nothing. `missing` never does: where all m modalities of an utterance would be
    dropped, one of them, each as likely as the others, is kept, so the rate that results is r - r^m / m: .586 for
    r = .7 of three, nothing of one.
    """
    stays = np.ones_like(present)
    if condition.kind == "subset":
        stays = np.array([letter in str(condition.value) for letter in MODALITIES])
    if condition.kind == "missing":
        drawn = np.array(
            [[number(seed, 0, id, name, what="missing") * 2.0**-63 for name in MODALITIES.values()] for id in ids]
        ).reshape(present.shape)
        # The greatest number of those present stays whatever the rate: a choice at random that no rate changes, or
        # what is missing at one rate might be back at a higher one.
        last = np.where(present, drawn, -1.0).argmax(1)[:, None] == np.arange(len(MODALITIES))
        stays = (drawn >= float(condition.value)) | last
    return np.asarray(present & stays)


def power(values: Values) -> float:
    """Return the mean square of a stream's deviations from its mean, over the rows [N, D] that are not all zero.

    To be taken of the training rows, and given to `noise`. Raises ValueError where every row is zero.
    """
    there = np.flatnonzero(values.any(1))
    if not there.size:
        raise ValueError("a stream without a row that is there has no power")
    blocks = [there[start : start + _BLOCK] for start in range(0, len(there), _BLOCK)]
    mean = sum(values[block].sum(0, dtype=np.float64) for block in blocks) / len(there)
    total = sum(float(np.square(values[block] - mean).sum()) for block in blocks)
    return total / (len(there) * int(values.shape[1]))


def noise(
    condition: Condition, ids: Sequence[str], stream: str, values: Values, reference: float, *, seed: int = 0
) -> Values:
    """Return `values` [N, D] of a stream (a modality's name, or `audio_2`) with noise; rows of zeros stay zeros.

    Each feature gets noise of the deviation sqrt(reference / 10^(dB / 10)), `reference` being the `power` of the
    training rows. The stream's name has its own noise.
    """
    noisy = np.array(values, dtype=np.float32)
    deviation = np.float32(np.sqrt(reference * 10.0 ** (-float(condition.value) / 10.0)))
    drawn = np.empty(values.shape[1], np.float32)
    for row in np.flatnonzero(values.any(1)).tolist():
        generator(seed, 0, ids[row], stream, what="feature noise").standard_normal(dtype=np.float32, out=drawn)
        drawn *= deviation
        noisy[row] += drawn
    return noisy


def shuffle(condition: Condition, ids: Sequence[str], present: Mask, *, seed: int = 0) -> NDArray[np.intp]:
    """Return the row [N] whose features of the condition's modality each row is to have.

    Of the rows that have the modality each gets another's, and every one's are used once: all of them form one circle
    in an order drawn at random. A single row has no other, and keeps its own, as do rows without the modality.
    """
    source = np.arange(len(ids))
    letter = str(condition.value)
    there: list[int] = np.flatnonzero(present[:, list(MODALITIES).index(letter)]).tolist()
    circle = sorted(there, key=lambda row: (number(seed, 0, ids[row], MODALITIES[letter], what="shuffle"), ids[row]))
    source[circle] = np.roll(circle, -1)
    return source
