"""What a corpus of features holds, in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affect.data import copies, corpora, feature_checks, sharing, signs
from affect.data.corpora.columns import read_as_proposed
from affect.data.corpora.feature_folders import features_below
from affect.data.feature_corpus import MODALITIES, SAME, FeatureCorpus
from affect.data.feature_files import ENDING
from affect.data.files import files_below, leaving
from affect.data.inspect import exclusions
from affect.data.inspect_scores import numbers
from affect.errors import AffectError
from affect.tables import counted


def features(name: str, root: Path, options: Mapping[str, Any], listed: int | None) -> str:
    """Return what `affect inspect` prints of the corpus `name`; `options` are its reader's. Raises as that does."""
    (corpus, there), taken = read_as_proposed(lambda own: _read(name, root, own), options)
    folders = [root / "features" / stream.name for stream in corpus.streams]
    files = [str(path) for folder in folders for path in files_below(folder, lambda name: name.endswith(ENDING))[0]]
    return "\n".join([_describe(corpus, there, listed), *taken, *leaving(root, [*files, *corpus.listed])])


def _read(name: str, root: Path, options: Mapping[str, Any]) -> tuple[FeatureCorpus, Mapping[str, str]]:
    """Return a corpus with the features that `audio_feature`, `text_feature` and `video_feature` name, and all there.

    Without any of these, with the usual ones that are there. Raises AffectError as the reader does.
    """
    if "audio" in options:
        raise AffectError(f"corpus {name!r} has no recordings for --audio; its features are named by --audio-feature")
    layout = corpora.layout(name)
    others = {option: value for option, value in options.items() if not option.endswith("_feature")}
    there: Mapping[str, str] = {}
    if layout.features is not None:
        there = layout.features(root, **others)
    if not there or (root / "features").is_dir():
        there = {**features_below(root), **there}
    chosen = {m: tuple(options[f"{m}_feature"]) for m in MODALITIES if f"{m}_feature" in options}
    if not chosen:
        chosen = {m: (usual,) for m, usual in layout.usual.items() if usual in there}
    return corpora.read(corpora.FEATURES, name, root, **{**chosen, **others}), there


def _describe(corpus: FeatureCorpus, there: Mapping[str, str], listed: int | None) -> str:
    """Return what `affect inspect` prints of a corpus of features, whose folder has the features `there`."""
    data, parts = corpus.utterances, corpus.parts
    rows = {part: corpus.indices(part) for part in parts}
    emotions, valences = np.asarray(data["emotion"][:]), np.asarray(data["valence"][:], np.float64)
    lines = [
        f"{corpus.name}: {counted(len(data), 'utterance')}, fingerprint {corpus.fingerprint}",
        _scale(corpus, valences),
        "by part: " + ", ".join(f"{part} {len(rows[part])}" for part in parts),
    ]
    names = (*corpus.classes, *sorted(set(emotions.tolist()) - {*corpus.classes, ""}), "")
    for part in parts if emotions.any() else ():
        counts = Counter(emotions[rows[part]].tolist())
        shown = [f"{name or '(none)'} {counts[name]}" for name in names if name in corpus.classes or counts[name]]
        lines.append(f"emotion, {part}: {', '.join(shown)}")
    if np.isfinite(valences).any():
        lines += [numbers(f"valence, {part}", valences[rows[part]]) for part in parts]
    lines += [line for group in corpus.groups for line in _shared(corpus, group, rows)]
    lines += copies.lines(copies.by_part(data), SAME)
    lines.append(f"features: {len(there)}")
    lines += [f"  {name}: {text}" for name, text in there.items()]
    lines += _presence(corpus, rows)
    lines += [f"patterns, {part}: {_patterns(corpus, own)}" for part, own in rows.items() if corpus.streams]
    lines += signs.words_of([*feature_checks.of_classes(corpus), *feature_checks.of_streams(corpus)])
    return "\n".join((*lines, *exclusions(corpus.exclusions, listed)))


def _shared(corpus: FeatureCorpus, group: str, rows: Mapping[str, NDArray[np.int64]]) -> list[str]:
    """Say how many speakers each part has, and which training or validation shares with another part."""
    names = np.asarray(corpus.utterances[group][:])
    own = {part: names[places].tolist() for part, places in rows.items()}
    counts = ", ".join(f"{part} {len({*whose} - {''})}" for part, whose in own.items())
    return [f"by {group}: {counts}", *sharing.shared(own, group).values()]


def _scale(corpus: FeatureCorpus, valences: NDArray[np.float64]) -> str:
    if not np.isfinite(valences).any():
        return "scale: none, there are no labels of numbers"
    scale = f"scale: {corpus.scale[0]:g} to {corpus.scale[1]:g}"
    return f"{scale}, inferred: the narrowest usual one that holds the labels (--scale)" if corpus.inferred else scale


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
