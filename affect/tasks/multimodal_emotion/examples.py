"""Micro-batches of a feature corpus, as its utterances are or as they would be under a condition.

Legend: N utterances, B of a micro-batch, S streams, M = 3 modalities, D features of a stream.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from affect.data import conditions
from affect.data.feature_corpus import FeatureCorpus
from affect.task import Batch, Row
from affect.tasks.multimodal_emotion.noise import Noise

MODALITIES = tuple(conditions.MODALITIES.values())
Places = NDArray[np.intp]
Mask = NDArray[np.bool_]


class Examples:
    """The utterances of a corpus by their place in it; features stay where they are until a batch needs them."""

    def __init__(self, corpus: FeatureCorpus):
        self.corpus = corpus
        self.ids: list[str] = list(corpus.utterances["id"])
        self._features = [corpus.values(s) for s in range(len(corpus.streams))]
        self._modality = [MODALITIES.index(stream.modality) for stream in corpus.streams]
        emotions, valences = corpus.utterances["emotion"], corpus.utterances["valence"]
        self.labels = np.array([corpus.classes.index(name) if name else -100 for name in emotions], np.int64)
        self.valence = np.array(valences, np.float32)
        self.rows: list[Row] = [
            {"emotion": name or None, "valence": float(value)} for name, value in zip(emotions, valences, strict=True)
        ]
        self.present = corpus.present
        # What is computed for all utterances at once; of an instance, not of the class.
        self._kept = cache(self._keep)
        self._source = cache(self._shuffled)
        self._power = cache(self._measure)

    @property
    def modalities(self) -> Mask:
        """What each utterance has [N, M]: a modality is there where one of its streams is."""
        there = np.zeros((len(self.ids), len(MODALITIES)), np.bool_)
        for s, m in enumerate(self._modality):
            there[:, m] |= self.present[:, s]
        return there

    def masks(self, places: Places, condition: str) -> Mask:
        """Return what of the utterances at `places` [B] is there under a condition [B, M]."""
        found: Mask = self._kept(condition)[places]
        return found

    def batch(self, places: Places, condition: str | None = None, noise: Noise | None = None) -> Batch:
        """Return the utterances at `places` [B] as a micro-batch, under a condition or with noise."""
        there = self.present[places]
        inputs: dict[str, torch.Tensor] = {}
        if condition is None:
            # What is missing is all zeros as it stands.
            for s, key in enumerate(self.corpus.keys):
                values = np.asarray(self._features[s][places], np.float32)
                if noise is not None:
                    values = noise.add([self.ids[place] for place in places], key, values, self._power(s))
                inputs[key] = _tensor(values)
        else:
            there = there & self._kept(condition)[places][:, self._modality]
            for s, key in enumerate(self.corpus.keys):
                inputs[key] = _tensor(self._stream(s, key, places, condition) * there[:, s : s + 1])
        inputs["present"] = _tensor(there)
        by_modality = np.zeros((len(places), len(MODALITIES)), np.float32)
        for s, m in enumerate(self._modality):
            np.maximum(by_modality[:, m], there[:, s], out=by_modality[:, m])
        targets = {
            "emotion": torch.from_numpy(self.labels[places]),
            "valence": torch.from_numpy(self.valence[places]),
            "present": torch.from_numpy(by_modality),
        }
        return Batch(
            ids=tuple(self.ids[place] for place in places), inputs=inputs, targets=targets,
            rows=[self.rows[place] for place in places],
        )  # fmt: skip

    def _stream(self, s: int, key: str, places: Places, condition: str) -> NDArray[np.float32]:
        """Return a stream's features [B, D] under a condition, without regard to what is missing."""
        named, source = conditions.parse(condition), places
        modality = self.corpus.streams[s].modality
        if named.kind == "shuffle" and conditions.MODALITIES[str(named.value)] == modality:
            source = self._source(condition)[places]
        values = np.asarray(self._features[s][source], np.float32)
        if named.kind == "snr":
            values = conditions.noise(named, [self.ids[place] for place in places], key, values, self._power(s))
        return values

    def _keep(self, condition: str) -> Mask:
        return conditions.keep(conditions.parse(condition), self.ids, self.modalities)

    def _shuffled(self, condition: str) -> Places:
        """Return whose features each utterance has: another's of the same part."""
        source = np.arange(len(self.ids))
        there = self.modalities
        for part in dict.fromkeys(self.corpus.utterances["part"]):
            mine = self.corpus.indices(part)
            names = [self.ids[place] for place in mine]
            source[mine] = mine[conditions.shuffle(conditions.parse(condition), names, there[mine])]
        return source

    def _measure(self, s: int) -> float:
        train = self.corpus.indices("train")
        # A part is one stretch of the corpus: a slice is a view, where a list of its rows would be a copy.
        return conditions.power(self._features[s][train[0] : train[-1] + 1])


def _tensor(values: NDArray[Any]) -> torch.Tensor:
    return torch.from_numpy(np.asarray(values, np.float32))
