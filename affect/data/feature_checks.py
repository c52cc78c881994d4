"""What of a corpus of features misleads although it can be read (`signs`).

Legend: N utterances, D numbers of a stream.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affect.data import copies, signs
from affect.data.feature_corpus import FeatureCorpus
from affect.data.spread import FEWEST, Spread

REPEATED = "repeated features"

_BLOCK = 256
"""Rows of a stream that are looked at at once: few, as it may have 5,120 numbers."""

Floats = NDArray[np.float64]


def of_classes(corpus: FeatureCorpus) -> list[dict[str, str]]:
    """Return signs of the classes: those spelt in several ways, and those that only other parts than training have."""
    emotions, parts = (np.asarray(corpus.utterances[name][:]).tolist() for name in ("emotion", "part"))
    named: dict[str, list[str]] = {"train": []}
    for emotion, part in zip(emotions, parts, strict=True):
        named.setdefault(part, []).append(emotion)
    # What is trained on is known, and may be fewer.
    named["train"] = [*corpus.classes]
    return [*signs.classes_alike(emotions), *signs.classes_untrained(named)]


def of_streams(corpus: FeatureCorpus) -> list[dict[str, str]]:
    """Return signs of each stream's vectors in the training part."""
    return [signs.sign(kind, f"{where}: {evidence}") for kind, where, evidence in _streams(corpus)]


def _streams(corpus: FeatureCorpus) -> Iterator[tuple[str, str, str]]:
    train = corpus.indices("train")
    for s, (key, stream) in enumerate(zip(corpus.keys, corpus.streams, strict=True)):
        rows = train[corpus.present[train, s]]
        if len(rows) < FEWEST:
            continue
        where, array = f"{key} ({stream.name})", corpus.arrays[s]
        deviations = _deviations(array, rows)
        spread = Spread.of(deviations, len(rows))
        yield from ((kind, where, words) for kind, words in spread.odd("vectors"))
        if spread.same < len(deviations):
            same = max(Counter(hashlib.sha256(array[row].tobytes()).digest() for row in rows).values())
            if copies.many(same, len(rows)):
                words = f"{same:,} of {len(rows):,} training vectors are one and the same; what is missing is all zero"
                yield REPEATED, where, words


def _deviations(array: NDArray[np.floating[Any]], rows: NDArray[np.int64]) -> Floats:
    """Return the deviation [D] of each number over rows [N]; exactly 0 where it never changes."""
    blocks = [rows[start : start + _BLOCK] for start in range(0, len(rows), _BLOCK)]
    first = array[rows[0]].astype(np.float64)
    # About the first row, which is exact where nothing changes.
    mean = first + sum((array[block] - first).sum(0) for block in blocks) / len(rows)
    squares = sum(np.square(array[block] - mean).sum(0) for block in blocks)
    deviations: Floats = np.sqrt(squares / len(rows))
    return deviations
