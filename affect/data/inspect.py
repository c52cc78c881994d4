"""What a corpus holds, in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affect.data import corpora, splits
from affect.data.corpora.feature_folders import features_below
from affect.data.corpora.utterances import kind
from affect.data.corpus import LABELS, Corpus, Exclusion
from affect.data.feature_corpus import MODALITIES, FeatureCorpus
from affect.data.inspect_scores import numbers
from affect.errors import AffectError

LISTED = 10
"""Exclusions that are named unless all are asked for."""


def describe(corpus: Corpus, *, listed: int | None = LISTED) -> str:
    """Return what `affect inspect` prints; of the exclusions the first `listed` (None: all) are named."""
    shown = ("session", "speaker", "dialogue", "emotion", "gender", "duration", "transcript")
    columns = {name: list(corpus.utterances[name]) for name in (*shown, *LABELS, *corpus.labels, *corpus.groups)}
    lines = [
        f"{corpus.name}: {len(corpus.utterances)} utterances, fingerprint {corpus.fingerprint}",
        _scale(corpus, columns), _durations(columns["duration"]), _groups(columns), *_counts(columns, corpus.groups),
        *(numbers(name, np.asarray(columns[name], np.float64)) for name in (*LABELS, *corpus.labels)),
        *_folds(corpus), *_exclusions(corpus.exclusions, listed),
    ]  # fmt: skip
    return "\n".join(line for line in lines if line)


def _scale(corpus: Corpus, columns: Mapping[str, list[Any]]) -> str:
    scale = f"scale: {corpus.scale[0]:g} to {corpus.scale[1]:g}"
    if not corpus.inferred:
        return f"{scale}, mapped from the emotion, not rated" if corpus.mapped else scale
    if not np.isfinite(np.asarray([columns[name] for name in (*LABELS, *corpus.labels)], np.float64)).any():
        return "scale: none, there are no labels of numbers"
    return f"{scale}, inferred: the narrowest usual one that holds the labels (--scale says another)"


def features_of(name: str, root: Path, options: Mapping[str, Any]) -> tuple[FeatureCorpus, Mapping[str, str]]:
    """Return a corpus with the features that `audio_feature`, `text_feature` and `video_feature` name, and all there.

    Without any of these, with the usual ones that are there. Raises AffectError as the reader does.
    """
    if "audio" in options:
        raise AffectError(f"corpus {name!r} has no recordings for --audio; its features are named by --audio-feature")
    layout = corpora.layout(name)
    there = features_below(root)
    others = {option: value for option, value in options.items() if not option.endswith("_feature")}
    chosen = {m: tuple(options[f"{m}_feature"]) for m in MODALITIES if f"{m}_feature" in options}
    if not chosen:
        chosen = {m: (usual,) for m, usual in layout.usual.items() if usual in there}
    return corpora.read_features(name, root, **{**chosen, **others}), there


def describe_features(corpus: FeatureCorpus, there: Mapping[str, str], *, listed: int | None = LISTED) -> str:
    """Return what `affect inspect` prints of a corpus of features, whose folder has the features `there`."""
    data = corpus.utterances
    parts = list(dict.fromkeys(data["part"][:]))
    rows = {part: corpus.indices(part) for part in parts}
    emotions, valences = np.asarray(data["emotion"][:]), np.asarray(data["valence"][:], np.float64)
    lines = [
        f"{corpus.name}: {len(data)} utterances, fingerprint {corpus.fingerprint}",
        f"scale: {corpus.scale[0]:g} to {corpus.scale[1]:g}",
        "by part: " + ", ".join(f"{part} {len(rows[part])}" for part in parts),
    ]
    for part in parts:
        counts = Counter(emotions[rows[part]].tolist())
        shown = [f"{name or '(none)'} {counts[name]}" for name in (*corpus.classes, "") if name or counts[name]]
        lines.append(f"emotion, {part}: {', '.join(shown)}")
    lines += [numbers(f"valence, {part}", valences[rows[part]]) for part in parts]
    lines.append(f"features: {len(there)}")
    lines += [f"  {name}: {text}" for name, text in there.items()]
    lines += _presence(corpus, rows)
    lines += [f"patterns, {part}: {_patterns(corpus, own)}" for part, own in rows.items() if corpus.streams]
    return "\n".join((*lines, *_exclusions(corpus.exclusions, listed)))


def _patterns(corpus: FeatureCorpus, rows: NDArray[np.int64]) -> str:
    """Say how often each set of modalities is there among rows, the commonest first, as a recipe takes it: ATV=.714."""
    modalities = list(dict.fromkeys(stream.modality for stream in corpus.streams))
    there = [corpus.present[rows][:, [s.modality == m for s in corpus.streams]].any(axis=1) for m in modalities]
    counts = Counter(
        "".join(m[0].upper() for m, has in zip(modalities, row, strict=True) if has) or "none"
        for row in np.stack(there, axis=1).tolist()
    )
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return " ".join(f"{pattern}={count / len(rows):.3g} ({count})" for pattern, count in ordered)


def _presence(corpus: FeatureCorpus, rows: dict[str, NDArray[np.int64]]) -> list[str]:
    """Say how many vectors of each stream are there, all zero, or without a file, in each part."""
    lines = ["presence, as present / all zero / no file:"]
    for index, (key, stream) in enumerate(zip(corpus.keys, corpus.streams, strict=True)):
        counts = []
        for part, own in rows.items():
            present, absent = (int(mask[own, index].sum()) for mask in (corpus.present, corpus.absent))
            counts.append(f"{part} {present} / {len(own) - present - absent} / {absent}")
        lines.append(f"  {key} {stream.name} ({stream.width}): {', '.join(counts)}")
    if corpus.streams:
        whole = [f"{part} {int(corpus.present[own].all(axis=1).sum())}" for part, own in rows.items()]
        lines.append(f"  all of them: {', '.join(whole)}")
    unnamed = [m for m in MODALITIES if m not in corpus.keys]
    return [*lines, *(f"  {m}: not looked at, name a feature (--{m}-feature)" for m in unnamed)]


def _durations(durations: list[float]) -> str:
    values = np.asarray(durations, np.float64)
    if not np.isfinite(values).any():
        return "durations: none, there is no audio"
    return f"durations: mean {values.mean():.2f} s, longest {values.max():.2f} s, total {values.sum() / 3600:.2f} h"


def _groups(columns: dict[str, list[Any]]) -> str:
    counted = ", ".join(f"{len(set(columns[name]) - {''})} {name}s" for name in ("session", "dialogue", "speaker"))
    words = sum(map(bool, columns["transcript"]))
    return f"groups: {counted}; {words} utterances with a transcript"


def _counts(columns: dict[str, list[Any]], further: Sequence[str]) -> list[str]:
    lines = []
    for name in ("session", "speaker", "gender", "emotion", *further):
        counts = Counter(value or "(none)" for value in columns[name])
        if set(counts) == {"(none)"}:
            continue
        ordered = counts.most_common() if name == "emotion" else sorted(counts.items())
        shown = ", ".join(f"{value} {count}" for value, count in ordered[:24])
        more = f", and {len(ordered) - 24} more" if len(ordered) > 24 else ""
        lines.append(f"by {name}: {shown}{more}")
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
        sizes = " / ".join(str(len(parts[part])) for part in splits.PARTS)
        shown = ", ".join(groups[:6]) + (" ..." if len(groups) > 6 else "")
        lines.append(f"split by {way}: {len(groups)} folds ({shown}); fold 1 has {sizes} train / valid / test")
    return lines


def _exclusions(exclusions: Sequence[Exclusion], listed: int | None) -> list[str]:
    if not exclusions:
        return ["exclusions: none"]
    reasons = Counter(kind(exclusion) for exclusion in exclusions)
    width = len(str(max(reasons.values())))
    lines = [f"exclusions: {len(exclusions)}"]
    lines += [f"  {count:{width}d} {reason}" for reason, count in reasons.most_common()]
    lines += [f"    {exclusion.what}: {exclusion.reason}" for exclusion in exclusions[:listed]]
    if listed is not None and len(exclusions) > listed:
        lines.append(f"    ... and {len(exclusions) - listed} more (--all lists them)")
    return lines
