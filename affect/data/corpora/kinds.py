"""What the rows of a corpus are: a task reads corpora of one kind, a kind says what `affect inspect` prints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from affect.data.corpus import Corpus
    from affect.data.feature_corpus import FeatureCorpus
    from affect.data.recordings import RecordingCorpus
    from affect.data.score_corpus import ScoreCorpus

C = TypeVar("C")
LISTED = 10
"""Exclusions that a description names unless all are asked for."""


@dataclass(frozen=True, kw_only=True)
class Kind(Generic[C]):
    """A kind of corpus, whose readers return a `C`."""

    rows: str
    """What its rows are, in words, as in: of recordings or texts."""
    describe: str
    """What says what a corpus holds, "module:function": of the layout's name, the root, the reader's options by name,
    and how many exclusions are listed (None: all)."""


UTTERANCES: Kind[Corpus] = Kind(rows="recordings or texts", describe="affect.data.inspect:utterances")
FEATURES: Kind[FeatureCorpus] = Kind(rows="features of utterances", describe="affect.data.inspect_features:features")
SCORES: Kind[ScoreCorpus] = Kind(rows="clips with scores", describe="affect.data.inspect_scores:scores")
RECORDINGS: Kind[RecordingCorpus] = Kind(
    rows="recordings with turns", describe="affect.data.inspect_recordings:recordings"
)
