"""A recipe's corpus: read from disk, its features added, what has no label left out."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray

from affect.data import corpora, embeddings, prosody
from affect.data.corpus import Corpus, Exclusion
from affect.errors import AffectError
from affect.tasks.emotion import classes
from affect.tasks.emotion.classes import Classes
from affect.tasks.emotion.config import EMOTION, Emotion

_LOG = logging.getLogger("affect")


def read_corpus(recipe: Emotion) -> tuple[Corpus, Classes | None]:
    """Return the corpus that a recipe names, and its classes where `emotion` is a target.

    The columns `length` (seconds; words of a corpus of texts), `prosody` and `speaker_embedding` are added where they
    are needed. Raises AffectError when it is not there, or holds no utterance with a label.
    """
    data = recipe.data
    options: dict[str, Any] = {}
    for name in data.layout.options:
        if getattr(data, name) is not None:
            options[name] = corpora.mapping(data.columns) if name == "columns" else getattr(data, name)
    corpus = corpora.read(data.corpus, data.root, name=data.name, **options)
    rows: Dataset = corpus.utterances
    chosen = classes.choose(data.classes, data.corpus, rows["emotion"]) if EMOTION in recipe.targets else None
    labelled = _labelled(rows, recipe, chosen)
    if not labelled.any():
        raise AffectError(f"no utterance of {data.root or data.corpus} has a label for {' or '.join(recipe.targets)}")
    unlabelled = _unlabelled(rows, labelled, recipe)
    rows = rows.select(np.flatnonzero(labelled))
    if data.layout.has_audio:
        rows = prosody.add(rows, data.prosody)
        length = np.asarray(rows["duration"], dtype=np.float64)
    else:
        # A sentence costs what its words do; one more for what stands around them.
        length = np.array([len(text.split()) + 1 for text in rows["transcript"]], dtype=np.float64)
    rows = rows.add_column("length", length)
    if recipe.model.speaker == "embedding":
        rows = embeddings.add(rows, data.embeddings or "")
    return replace(corpus, utterances=rows, exclusions=[*corpus.exclusions, *unlabelled]), chosen


def _labelled(rows: Dataset, recipe: Emotion, chosen: Classes | None) -> NDArray[np.bool_]:
    """Return which rows have a label of some target."""
    known = [np.isfinite(np.asarray(rows[name], dtype=np.float64)) for name in recipe.numbers]
    if chosen is not None:
        known.append(np.array([chosen.index(emotion) >= 0 for emotion in rows["emotion"]]))
    found: NDArray[np.bool_] = np.logical_or.reduce(known)
    return found


def _unlabelled(rows: Dataset, labelled: NDArray[np.bool_], recipe: Emotion) -> list[Exclusion]:
    targets = recipe.targets
    reason = f"no label: neither {' nor '.join(targets)}" if len(targets) > 1 else "no label"
    names = rows["id"]
    left = [Exclusion(what=names[int(k)], reason=reason) for k in np.flatnonzero(~labelled)]
    if left:
        _LOG.warning("%s: %d utterances have no label for %s", recipe.data.corpus, len(left), " or ".join(targets))
    return left
