"""What is odd in a corpus of features: `affect inspect` says it, and reports flag it.

Legend: N utterances, D numbers of a stream.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affect.data.feature_corpus import FeatureCorpus
from affect.tables import counted

ALIKE = "class names differ in case"
UNTRAINED = "class without training rows"
CONSTANT = "constant features"
SCALED = "wildly scaled features"
REPEATED = "repeated features"

_STILL = 0.5
"""Share of a stream's numbers that never change from which on it is called constant."""
_LOW, _HIGH, _MOST = 1e-3, 100.0, 1000.0
"""Medians of deviations from which a layer as it is initialised learns, and the largest, itself or in medians."""
_SAME, _FEWEST = 0.05, 3
"""Share of a stream's vectors that may be one and the same, and how few of them are never told."""
_BLOCK = 256
"""Rows of a stream that are looked at at once: few, as it may have 5,120 numbers."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Oddity:
    """Something odd: its kind in a few words, where it shows, and the numbers that show it."""

    kind: str
    where: str
    evidence: str

    @property
    def of_classes(self) -> bool:
        """Whether it is of the classes, which regression does not learn."""
        return self.kind in (ALIKE, UNTRAINED)


def oddities(corpus: FeatureCorpus) -> list[Oddity]:
    """Return what is odd in a corpus: of its classes, and of each stream's vectors in the training part."""
    return [*_classes(corpus), *_streams(corpus)]


def _classes(corpus: FeatureCorpus) -> Iterator[Oddity]:
    emotions, parts = (np.asarray(corpus.utterances[name][:]) for name in ("emotion", "part"))
    spelt: dict[str, set[str]] = defaultdict(set)
    for name in set(emotions.tolist()) - {""}:
        spelt[name.casefold()].add(name)
    for names in spelt.values():
        if len(names) > 1:
            yield Oddity(ALIKE, "labels", f"{' and '.join(sorted(names))} are different classes")
    for name in sorted(set(emotions.tolist()) - {"", *corpus.classes}):
        counts = Counter(parts[emotions == name].tolist())
        told = ", ".join(f"{counted(count, 'utterance')} of {part}" for part, count in counts.items())
        yield Oddity(UNTRAINED, "labels", f"{name}: {told}, which no prediction can get right")


def _streams(corpus: FeatureCorpus) -> Iterator[Oddity]:
    train = corpus.indices("train")
    for s, (key, stream) in enumerate(zip(corpus.keys, corpus.streams, strict=True)):
        rows = train[corpus.present[train, s]]
        if len(rows) < _FEWEST:
            continue
        where, array = f"{key} ({stream.name})", corpus.arrays[s]
        deviations = _deviations(array, rows)
        still = int((deviations == 0).sum())
        if still >= _STILL * len(deviations):
            words = f"{still:,} of its {len(deviations):,} numbers are the same in all {len(rows):,} training vectors"
            yield Oddity(CONSTANT, where, words)
        if still < len(deviations):
            middle, most = float(np.median(deviations[deviations > 0])), float(deviations.max())
            if not _LOW <= middle <= _HIGH or most > _MOST * min(1.0, middle):
                words = f"deviations of its numbers over training: median {middle:.3g}, largest {most:.3g}"
                yield Oddity(SCALED, where, words)
            same = max(Counter(hashlib.sha256(array[row].tobytes()).digest() for row in rows).values())
            if same > max(_FEWEST, _SAME * len(rows)):
                words = f"{same:,} of {len(rows):,} training vectors are one and the same; what is missing is all zero"
                yield Oddity(REPEATED, where, words)


def _deviations(array: NDArray[np.floating[Any]], rows: NDArray[np.int64]) -> Floats:
    """Return the deviation [D] of each number over rows [N]; exactly 0 where it never changes."""
    blocks = [rows[start : start + _BLOCK] for start in range(0, len(rows), _BLOCK)]
    first = array[rows[0]].astype(np.float64)
    # About the first row, which is exact where nothing changes.
    mean = first + sum((array[block] - first).sum(0) for block in blocks) / len(rows)
    squares = sum(np.square(array[block] - mean).sum(0) for block in blocks)
    deviations: Floats = np.sqrt(squares / len(rows))
    return deviations
