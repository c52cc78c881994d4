"""A recipe's corpus: read from disk, its classes chosen, its features added, its dialogues cut into segments."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from operator import itemgetter
from typing import Any

import numpy as np
from datasets import Dataset

from affect.data import corpora, embeddings, prosody
from affect.data.corpus import Corpus, Exclusion
from affect.errors import AffectError, nearest
from affect.tasks.emotion.config import EMOTION, Emotion

_LOG = logging.getLogger("affect")


class Classes:
    """Names of the classes in order, and the class of each emotion."""

    def __init__(self, spelt: Sequence[str]):
        """Take classes as a recipe spells them: `ang`, or `hap+exc`, which is called `hap`."""
        members = [text.split("+") for text in spelt]
        self.names = tuple(group[0] for group in members)
        self.of = {emotion: k for k, group in enumerate(members) for emotion in group}
        named = [emotion for group in members for emotion in group]
        if len(set(named)) < len(named) or "" in named:
            raise AffectError(f"data.classes must name each emotion once, not {' '.join(spelt)}")

    def index(self, emotion: str) -> int:
        """Return the number of an emotion's class, -1 where it has none."""
        return self.of.get(emotion, -1)

    def name(self, emotion: str) -> str | None:
        """Return the class of an emotion, None where it has none."""
        k = self.index(emotion)
        return self.names[k] if k >= 0 else None


def choose(spelt: Sequence[str], corpus: str, emotions: Iterable[str]) -> Classes:
    """Return the classes that a recipe asks for, those usual for the corpus, or all of its emotions.

    Raises AffectError where an emotion asked for does not occur, or fewer than two classes are left.
    """
    counts = Counter(emotion for emotion in emotions if emotion)
    if not counts:
        raise AffectError("the target emotion needs emotion labels, and this corpus has none")
    if spelt:
        chosen = Classes(spelt)
        unknown = sorted(chosen.of.keys() - counts.keys())
        if unknown:
            raise AffectError(f"data.classes: no utterance is {unknown[0]!r}; {nearest(unknown[0], counts)}")
    else:
        chosen = Classes(corpora.layout(corpus).classes or sorted(counts))
        sizes = Counter(chosen.name(emotion) for emotion in counts.elements())
        told = ", ".join(f"{name} {sizes[name]}" for name in chosen.names)
        _LOG.info("classes: %s; %d utterances of other emotions", told, sizes[None])
    if len(chosen.names) < 2:
        raise AffectError(f"the target emotion needs at least two classes, not {' '.join(chosen.names)}")
    return chosen


def read_corpus(recipe: Emotion) -> tuple[Corpus, Classes | None]:
    """Return the corpus that a recipe names, without what has no label, and its classes where `emotion` is a target.

    The columns `length` (seconds; words of a corpus of texts), `prosody` and `speaker_embedding` are added where they
    are needed. Raises AffectError when it is not there, or holds no utterance with a label.
    """
    data, targets = recipe.data, recipe.targets
    options = {name: getattr(data, name) for name in data.layout.options if getattr(data, name) is not None}
    if "columns" in options:
        options["columns"] = corpora.mapping(data.columns)
    corpus = corpora.read(corpora.UTTERANCES, data.corpus, data.root, name=data.name, **options)
    rows: Dataset = corpus.utterances
    classes = choose(data.classes, data.corpus, rows["emotion"]) if EMOTION in targets else None
    labels = [np.isfinite(np.asarray(rows[name], dtype=np.float64)) for name in recipe.numbers]
    if classes is not None:
        labels.append(np.array([classes.index(emotion) >= 0 for emotion in rows["emotion"]]))
    labelled = np.logical_or.reduce(labels)
    if not labelled.any():
        raise AffectError(f"no utterance of {data.root or data.corpus} has a label for {' or '.join(targets)}")
    reason = f"no label: neither {' nor '.join(targets)}" if len(targets) > 1 else "no label"
    names = rows["id"]
    unlabelled = [Exclusion(what=names[k], reason=reason) for k in np.flatnonzero(~labelled).tolist()]
    if unlabelled:
        _LOG.warning("%s: %d utterances have no label for %s", data.corpus, len(unlabelled), " or ".join(targets))
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
    return replace(corpus, utterances=rows, exclusions=[*corpus.exclusions, *unlabelled]), classes


def segments(part: Dataset, places: Mapping[str, int], size: int | None) -> Dataset:
    """Return the dialogues of a part, cut into segments of `size` consecutive utterances (None: whole dialogues).

    A segment is a row of its own: `members` are the ids of its utterances in the order they were said, `rows` where
    they stand in the corpus by `places`, `length` the sum of theirs. Utterances are ordered by `start` (seconds), by id
    where a dialogue has no such times. A last segment may be shorter. Raises AffectError where there are no dialogues.
    """
    dialogues: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in part.select_columns(["id", "session", "dialogue", "speaker", "length", "start"]):
        dialogues[str(row["session"]), str(row["dialogue"])].append(row)
    if len(dialogues) == len(part):
        raise AffectError("model.dialogue needs dialogues: here each utterance is one of its own")
    untimed = {key for key, rows in dialogues.items() if np.isnan([row["start"] for row in rows]).any()}
    if untimed:
        _LOG.warning("%d of %d dialogues have no start times: their utterances go by id", len(untimed), len(dialogues))
    rows = []
    for key in sorted(dialogues):
        ordered = sorted(dialogues[key], key=itemgetter("id") if key in untimed else itemgetter("start", "id"))
        step = size or len(ordered)
        for first in range(0, len(ordered), step):
            members = ordered[first : first + step]
            names = [str(row["id"]) for row in members]
            rows.append({
                "id": f"{names[0]}+{len(names) - 1}",
                "members": names,
                "rows": [places[name] for name in names],
                "length": float(np.sum([row["length"] for row in members])),
            })  # fmt: skip
    return Dataset.from_list(rows)
