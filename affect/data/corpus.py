"""What every corpus reader returns."""

from __future__ import annotations

from dataclasses import dataclass, field

from datasets import Dataset


@dataclass(frozen=True, kw_only=True)
class Exclusion:
    """Something of a corpus that is left out, and why (a file, an utterance or a line)."""

    what: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """A corpus as read from disk: its utterances, what was left out, its scale and its version.

    `scale` is the lowest and highest value of the raw valence/arousal/dominance scale. `mapped` says that
    the dimensional labels were derived from categories, not rated. `fingerprint` changes when any label or
    audio file changes.
    """

    name: str
    utterances: Dataset
    exclusions: list[Exclusion] = field(default_factory=list)
    scale: tuple[float, float] = (1.0, 5.0)
    mapped: bool = False
    fingerprint: str
