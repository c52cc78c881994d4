"""A recipe's corpus, and which of its clips train, validate and are tested."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path

from datasets import DatasetDict, concatenate_datasets

from affect.data import corpora, score_corpus
from affect.data.score_corpus import ScoreCorpus, Way
from affect.data.score_samples import UNLABELLED, columns_in
from affect.errors import AffectError
from affect.tasks.talking_face.config import SOUND, Continual, Data, Feature
from affect.tasks.talking_face.continual import arrived, batches_of
from affect.tasks.talking_face.media import FRAMES_A_SECOND

_LOG = logging.getLogger("affect")


def read_corpus(data: Data, *, seen: bool = False, unlabelled: bool = False) -> ScoreCorpus:
    """Return the corpus of a recipe, made first where it is a generated one.

    `seen`: the model takes the clips themselves; `unlabelled`: they need no score. Raises AffectError for a
    corpus that can't be read, for features of other widths than the recipe says, and for clips without videos where
    these are seen.
    """
    widths = {name: width for name, width in data.widths.items() if width is not None}
    own = {
        "features": tuple(data.widths), "scale": data.scales or None, "widths": widths, "unlabelled": unlabelled,
        "columns": corpora.mapping(data.columns),
    }  # fmt: skip
    options = {name: own[name] if name in own else getattr(data, name) for name in corpora.layout(data.corpus).options}
    corpus = corpora.read(corpora.SCORES, data.corpus, Path(data.root), name=data.name, **options)
    scales = [f"{name} {low:g} to {high:g}" for name, (low, high) in corpus.scores.items() if name in corpus.guessed]
    if scales and not unlabelled:
        words = "scales inferred from the labels to train on (--data.scale says others)"
        _LOG.info("%s: %s: %s", corpus.name, words, ", ".join(scales))
    if seen and "path" not in corpus.utterances.column_names:
        raise AffectError(
            f"{data.root}: no row names a video, which model.media takes: data.videos says where they are"
        )
    return corpus


def way_of(corpus: ScoreCorpus, data: Data) -> Way:
    """Return how a recipe splits its corpus. Raises AffectError where the corpus can't be split so."""
    return score_corpus.way(corpus, None if data.split == "auto" else data.split, data.folds)


def parts_of(
    corpus: ScoreCorpus, data: Data, stage: Continual | None = None, *, unlabelled: bool = False
) -> DatasetDict:
    """Return the parts of a recipe's fold, of a `stage` of continual learning what has arrived.

    Raises AffectError where a part would be empty, or, unless clips may be `unlabelled`, where no clip to train or
    validate on has a score, and for copies between parts unless the recipe allows them.
    """
    parts = score_corpus.split(corpus, way_of(corpus, data), data.fold or 1, allow_shared=data.allow_shared)
    if stage is not None and stage.by is not None:
        arrived(parts, batches_of(corpus, stage), stage)
    for name in ("train", "valid"):
        # A missing one is NaN.
        rated = [score for score in data.scores if any(value == value for value in parts[name][score])]
        lacking = [] if unlabelled else [score for score in data.scores if score not in rated]
        if lacking and not rated:
            words = f"no clip of the {name} part has a label of any score ({', '.join(lacking)})"
            raise AffectError(f"{data.root}: {words}: {UNLABELLED}")
        if lacking:
            words = f"no clip of the {name} part has a label {lacking[0]}: leave it out (--data.scores"
            raise AffectError(f"{data.root}: {words} {' '.join(rated)})")
    if data.train_all:
        parts["train"] = concatenate_datasets([parts["train"], parts["valid"]])
    return parts


def columns_of(corpus: ScoreCorpus, features: Sequence[Feature]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return what the numbers of features are called, of those whose source said it."""
    columns = columns_in(corpus.schema)
    return tuple((name, columns[name]) for name, _ in features if name in columns)


def made_of(corpus: ScoreCorpus, features: Sequence[Feature]) -> tuple[tuple[str, str], ...]:
    """Return the manifest, as JSON, of each of the features that `recipes/extract_features.py` made."""
    manifests = corpus.schema.get("made_by", {})
    return tuple((name, json.dumps(manifests[name], sort_keys=True)) for name, _ in features if name in manifests)


def sound_rate(corpus: ScoreCorpus, features: Sequence[Feature]) -> float | None:
    """Return how many frames a second features of sound have; None where nobody says what made them."""
    manifests = corpus.schema.get("made_by", {})
    made = [manifests.get(name, {}).get("modality") == "audio" for name, _ in features if SOUND in name]
    return FRAMES_A_SECOND if made and all(made) else None
