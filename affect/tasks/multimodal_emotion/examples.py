"""Micro-batches of a feature corpus: as its utterances are, as they would be under a condition, or with noise.

Legend: N utterances, B of a micro-batch, S streams, M = 3 modalities, D features of a stream.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache, cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from affect.data import conditions, feature_checks
from affect.data.augment import generator
from affect.data.feature_corpus import MODALITIES, FeatureCorpus
from affect.task import Batch, Key, Row

Places = NDArray[np.intp]
Mask = NDArray[np.bool_]
Features = NDArray[np.float32]


class Examples:
    """The utterances of a corpus by their place in it; features stay where they are until a batch needs them."""

    def __init__(self, corpus: FeatureCorpus):
        self.corpus = corpus
        self.ids: list[str] = list(corpus.utterances["id"])
        self._modality = [MODALITIES.index(stream.modality) for stream in corpus.streams]
        emotions, valences = corpus.utterances["emotion"], corpus.utterances["valence"]
        # A test may have classes that training has not.
        number = {name: k for k, name in enumerate(corpus.classes)}
        self.labels = np.array([number.get(name, -100) for name in emotions], np.int64)
        self.valence = np.array(valences, np.float32)
        self.rows: list[Row] = [
            # None as files have it: NaN would make each row's line twice.
            {"emotion": name or None, "valence": None if math.isnan(value) else float(value)}
            for name, value in zip(emotions, valences, strict=True)
        ]
        for group in corpus.groups:
            for row, name in zip(self.rows, corpus.utterances[group], strict=True):
                row[group] = name
        self.present = corpus.present
        # What is computed for all utterances at once; of an instance, not of the class.
        whole = self.modalities(self.present)
        self._kept = cache(lambda condition: conditions.keep(conditions.parse(condition), self.ids, whole))
        self._source = cache(self._shuffled)
        self._power = cache(self._measure)

    @cached_property
    def signs(self) -> list[dict[str, str]]:
        """What of the corpus's streams misleads; looked at once for all seeds and folds."""
        return feature_checks.of_streams(self.corpus)

    def modalities(self, present: NDArray[np.bool_]) -> Mask:
        """Return what of each modality is there [N, M], of each stream [N, S]: a modality with one of its streams."""
        return np.stack([present[:, np.equal(self._modality, m)].any(1) for m in range(len(MODALITIES))], 1)

    def batch(
        self, places: Places, condition: str | None = None, noise: tuple[Key, tuple[float, float]] | None = None
    ) -> Batch:
        """Return the utterances at `places` [B] as a micro-batch, under a condition or with noise (see `add_noise`)."""
        ids = [self.ids[place] for place in places]
        there = self.present[places]
        if condition is not None:
            there = there & self._kept(condition)[places][:, self._modality]
        inputs: dict[str, torch.Tensor] = {}
        for s, key in enumerate(self.corpus.keys):
            if condition is not None:
                values = self._changed(s, key, places, condition) * there[:, s : s + 1]
            else:
                # What is missing is all zeros as it stands.
                values = np.asarray(self.corpus.arrays[s][places], np.float32)
                if noise is not None:
                    values = add_noise(values, ids, key, self._power(s), *noise)
            inputs[key] = _tensor(values)
        inputs["present"] = _tensor(there)
        targets = {
            "emotion": torch.from_numpy(self.labels[places]),
            "valence": torch.from_numpy(self.valence[places]),
            "present": _tensor(self.modalities(there)),
        }
        rows = [self.rows[place] for place in places]
        return Batch(ids=tuple(ids), inputs=inputs, targets=targets, rows=rows)

    def _changed(self, s: int, key: str, places: Places, condition: str) -> Features:
        """Return a stream's features [B, D] under a condition, without regard to what is missing."""
        named, source = conditions.parse(condition), places
        if named.kind == "shuffle" and conditions.MODALITIES[str(named.value)] == self.corpus.streams[s].modality:
            source = self._source(condition)[places]
        values = np.asarray(self.corpus.arrays[s][source], np.float32)
        if named.kind == "snr":
            values = conditions.noise(named, [self.ids[place] for place in places], key, values, self._power(s))
        return values

    def _shuffled(self, condition: str) -> Places:
        """Return whose features each utterance has: another's of the same part."""
        source = np.arange(len(self.ids))
        there = self.modalities(self.present)
        for part in dict.fromkeys(self.corpus.utterances["part"]):
            own = self.corpus.indices(part)
            names = [self.ids[place] for place in own]
            source[own] = own[conditions.shuffle(conditions.parse(condition), names, there[own])]
        return source

    def _measure(self, s: int) -> float:
        train = self.corpus.indices("train")
        # A part is one stretch of the corpus: a slice is a view, where a list of its rows would be a copy.
        return conditions.power(self.corpus.arrays[s][train[0] : train[-1] + 1])


def add_noise(
    values: Features, ids: Sequence[str], stream: str, power: float, key: Key, ratios: tuple[float, float]
) -> Features:
    """Return a stream's features [B, D] with Gaussian noise at a ratio (low, high) in dB against the stream's `power`.

    It is a function of the key and an utterance's id. Rows of zeros, which are missing, stay.
    """
    noisy = np.array(values, np.float32)
    for k in np.flatnonzero(values.any(1)).tolist():
        # One ratio for all of an utterance's streams: a noisy recording is noisy as a whole.
        ratio = generator(key.seed, key.epoch, ids[k], what="noise level").uniform(*ratios)
        drawn = generator(key.seed, key.epoch, ids[k], stream, what="training noise")
        deviation = np.float32(np.sqrt(power * 10.0 ** (-ratio / 10.0)))
        noisy[k] += deviation * drawn.standard_normal(values.shape[1], dtype=np.float32)
    return noisy


def _tensor(values: NDArray[Any]) -> torch.Tensor:
    return torch.from_numpy(np.asarray(values, np.float32))
