"""What a corpus of recordings or texts holds, in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from affect.data import corpora, signs, splits
from affect.data.corpora.columns import proposed, read_as_proposed, told
from affect.data.corpora.kinds import LISTED
from affect.data.corpus import LABELS, Corpus, Exclusion, kind
from affect.data.files import leaving
from affect.data.inspect_scores import numbers
from affect.errors import AffectError, first_few
from affect.tables import counted


def utterances(name: str, root: Path, options: Mapping[str, Any], listed: int | None) -> str:
    """Return what `affect inspect` prints of the corpus `name`; `options` are its reader's. Raises as that does."""
    corpus, taken = read_as_proposed(lambda own: corpora.read(corpora.UTTERANCES, name, root, **own), options)
    own = corpora.layout(name)
    if "columns" in own.options and (pairs := proposed((*corpus.labels, *corpus.groups), _empty(corpus, own.columns))):
        taken.append(f"columns that may be ours: {told(pairs)}")
    return "\n".join([describe(corpus, listed=listed), *taken, *leaving(root, corpus.utterances["path"])])


def _empty(corpus: Corpus, columns: Sequence[str]) -> list[str]:
    """Return those of our columns in which no row says anything."""
    rows = corpus.utterances
    there = [name for name in columns if name in rows.column_names]
    # Where nothing says them, sessions and dialogues are the speaker.
    as_speaker = {name: rows["speaker"][:] == rows[name][:] for name in there if name in ("session", "dialogue")}
    return [
        name
        for name in there
        if as_speaker.get(name) or all(value in ("", None) or value != value for value in rows[name])
    ]


def describe(corpus: Corpus, *, listed: int | None = LISTED) -> str:
    """Return what `affect inspect` prints; of the exclusions the first `listed` (None: all) are named."""
    shown = ("session", "speaker", "dialogue", "emotion", "gender", "duration", "transcript")
    columns = {name: list(corpus.utterances[name]) for name in (*shown, *LABELS, *corpus.labels, *corpus.groups)}
    lines = [
        f"{corpus.name}: {counted(len(corpus.utterances), 'utterance')}, fingerprint {corpus.fingerprint}",
        _scale(corpus, columns), _durations(columns["duration"]), _groups(columns), *_counts(columns, corpus.groups),
        *([f"labels: {corpus.ratings}"] if corpus.ratings is not None else []), *_misleading(corpus, columns),
        *(numbers(name, np.asarray(columns[name], np.float64)) for name in (*LABELS, *corpus.labels)),
        *_folds(corpus), *exclusions(corpus.exclusions, listed),
    ]  # fmt: skip
    return "\n".join(line for line in lines if line)


def _misleading(corpus: Corpus, columns: Mapping[str, list[Any]]) -> list[str]:
    """Say what misleads, whatever the split."""
    silent = signs.still(corpus.still, len(corpus.utterances))
    unknown = splits.unnamed(corpus.utterances, range(len(corpus.utterances)))
    return signs.words_of([*silent, *signs.classes_alike(columns["emotion"]), *signs.unnamed(unknown)])


def _scale(corpus: Corpus, columns: Mapping[str, list[Any]]) -> str:
    scale = f"scale: {corpus.scale[0]:g} to {corpus.scale[1]:g}"
    if not corpus.inferred:
        return f"{scale}, mapped from the emotion, not rated" if corpus.mapped else scale
    if not np.isfinite(np.asarray([columns[name] for name in (*LABELS, *corpus.labels)], np.float64)).any():
        return "scale: none, there are no labels of numbers"
    return f"{scale}, inferred: the narrowest usual one that holds the labels (--scale says another)"


def _durations(durations: list[float]) -> str:
    values = np.asarray(durations, np.float64)
    if not np.isfinite(values).any():
        return "durations: none, there is no audio"
    return f"durations: mean {values.mean():.2f} s, longest {values.max():.2f} s, total {values.sum() / 3600:.2f} h"


def _groups(columns: dict[str, list[Any]]) -> str:
    groups = ", ".join(counted(len(set(columns[name]) - {""}), name) for name in ("session", "dialogue", "speaker"))
    words = sum(map(bool, columns["transcript"]))
    return f"groups: {groups}; {words} utterances with a transcript"


def _counts(columns: dict[str, list[Any]], further: Sequence[str]) -> list[str]:
    lines = []
    for name in ("session", "speaker", "gender", "emotion", *further):
        counts = Counter(value or "(none)" for value in columns[name])
        if set(counts) == {"(none)"}:
            continue
        ordered = counts.most_common() if name == "emotion" else sorted(counts.items())
        lines.append(f"by {name}: {first_few([f'{value} {count}' for value, count in ordered], 24)}")
    return lines


def _folds(corpus: Corpus) -> list[str]:
    """Say which splits the corpus allows: a first fold is made of each kind."""
    lines = []
    for way in (*splits.KINDS, *corpus.groups):
        try:
            groups = splits.folds(corpus.utterances, way)
            parts = splits.split(corpus.utterances, way, 1)
        except AffectError as error:
            lines.append(f"split by {way}: not possible, {error}")
            continue
        sizes = " / ".join(str(len(part)) for part in parts.values())
        count = counted(len(groups), "fold")
        lines.append(f"split by {way}: {count} ({first_few(groups, 6)}); fold 1 has {sizes} {' / '.join(parts)}")
        untrained = signs.classes_untrained({part: rows["emotion"] for part, rows in parts.items()})
        lines += [f"  {words}" for words in signs.words_of(untrained)]
    return lines


def exclusions(left_out: Sequence[Exclusion], listed: int | None) -> list[str]:
    """Say what is left out and why, how often each reason; the first `listed` (None: all) are named."""
    if not left_out:
        return ["exclusions: none"]
    reasons = Counter(kind(exclusion) for exclusion in left_out)
    width = len(str(max(reasons.values())))
    lines = [f"exclusions: {len(left_out)}"]
    lines += [f"  {count:{width}d} {reason}" for reason, count in reasons.most_common()]
    lines += [f"    {exclusion.what}: {exclusion.reason}" for exclusion in left_out[:listed]]
    if listed is not None and len(left_out) > listed:
        lines.append(f"    ... and {len(left_out) - listed} more (--all lists them)")
    return lines
