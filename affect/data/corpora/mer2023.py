"""MER2023: film and television clips in Chinese with an emotion and a valence, as features of audio, text and video.

The layout that the challenge's public toolkit writes: `label-6way.npz` or `{train,test1,test2,test3}-label.csv` (name,
discrete, valence), `features/<feature>/<name>.npy`, `transcription-engchi-polish.csv` (name, chinese, english). test1
is MER-MULTI, test2 MER-NOISE (speech noise and blur), test3 MER-SEMI, which has no valence: -10 stands in its
place. Lian et al. 2023, "MER 2023: Multi-label Learning, Modality Robustness, and Semi-Supervised Learning".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from affect.data.corpora.kinds import FEATURES
from affect.data.corpora.labels import UnusableError, label
from affect.data.corpora.layout import Layout
from affect.data.table_file import read_csv, surplus
from affect.errors import AffectError, nearest

if TYPE_CHECKING:
    from affect.data.feature_corpus import FeatureCorpus

CLASSES = ("neutral", "angry", "happy", "sad", "worried", "surprise")
PARTS = ("train", "test1", "test2", "test3")
SCALE = (-5.0, 5.0)
LABELS = "label-6way.npz"
_TABLES = {part: f"{part}-label.csv" for part in PARTS}
USUAL = {"audio": "chinese-hubert-large-UTT", "text": "Baichuan-13B-Base-UTT", "video": "clip-vit-large-patch14-UTT"}
"""The features of each modality that the toolkit's own results are of."""

_NO_VALENCE = -10.0
Row = dict[str, Any]


def read(
    root: str | Path, *, audio: Sequence[str] = (), text: Sequence[str] = (), video: Sequence[str] = (),
    labels: str = "auto", widths: Sequence[int] | None = None,
) -> FeatureCorpus:  # fmt: skip
    """Return all utterances, parts in the order of `PARTS`, with the named features of each modality.

    A feature is a folder below `root`/features. `labels` is npz or csv; auto takes the npz file where there is one.
    `widths` are those that the streams must have, audio first. A missing valence or emotion stays missing, and so does
    a vector that is all zero or has no file. Raises AffectError for labels or features that can't be used.
    """
    # Imported here, as all that help has no use for.
    from affect.data.corpora.feature_folders import corpus_of_features

    rows = _read_rows(Path(root), labels)
    asked = {"audio": audio, "text": text, "video": video}
    return corpus_of_features(CORPUS, Path(root), rows, asked, scale=SCALE, widths=widths)


def _has_labels(folder: Path) -> bool:
    return (folder / LABELS).is_file() or ((folder / _TABLES[PARTS[0]]).is_file() and (folder / "features").is_dir())


def _read_rows(root: Path, labels: str) -> list[Row]:
    """Return id, part, emotion and valence of every utterance; raises AffectError for labels that can't be used."""
    if labels not in ("auto", "npz", "csv"):
        raise AffectError(f"labels must be one of auto, npz, csv, not {labels!r}")
    if labels == "auto":
        CORPUS.find(root)
        labels = "npz" if (root / LABELS).is_file() else "csv"
    rows: list[Row] = []
    seen: dict[str, str] = {}
    for row, where in _from_npz(root / LABELS) if labels == "npz" else _from_csv(root):
        name, part = row["id"], row["part"]
        if not name.isprintable() or any(sign in name for sign in "/\\") or name.strip() in ("", ".", ".."):
            raise AffectError(f"{where}: {name!r} is no name of an utterance: it must do as the name of a file")
        if name in seen:
            twice = f"twice in {part}" if seen[name] == part else f"in {seen[name]} and in {part}"
            raise AffectError(f"{where}: utterance {name} is {twice}: remove one of them")
        if row["emotion"] not in (*CLASSES, ""):
            hint = nearest(row["emotion"], CLASSES)
            raise AffectError(
                f"{where}: utterance {name} has the unknown emotion {row['emotion'][:40]!r}: {hint} (of any classes: "
                "recipes/mer2023.py own_data)"
            )
        if row["valence"] == _NO_VALENCE:
            row["valence"] = float("nan")
        try:
            label("valence", row["valence"], SCALE)
        except UnusableError as error:
            raise AffectError(f"{where}: utterance {name}: {error} (-10: none)") from error
        seen[name] = part
        rows.append(row)
    for part in PARTS:
        if part not in seen.values():
            raise AffectError(f"{root} has no utterance in {part}")
    return rows


def _from_npz(file: Path) -> Iterator[tuple[Row, str]]:
    from affect.data.label_file import read_labels

    corpora = read_labels(file, [f"{part}_corpus" for part in PARTS])
    for part in PARTS:
        where = f"{file}, {part}_corpus"
        for name, values in corpora[f"{part}_corpus"].items():
            for key in ("emo", "val"):
                if key not in values:
                    raise AffectError(f"{where}: utterance {name!r} has no {key!r}")
            emotion, valence = values["emo"], values["val"]
            if not isinstance(emotion, str) or not isinstance(valence, (int, float)):
                raise AffectError(f"{where}: utterance {name!r} must have a word as 'emo' and a number as 'val'")
            yield {"id": name, "part": part, "emotion": emotion, "valence": float(valence)}, where


def _from_csv(root: Path) -> Iterator[tuple[Row, str]]:
    for part, name in _TABLES.items():
        # test3 has no valence, and need not have its column.
        columns = ("name", "discrete", "valence")[: 2 if part == "test3" else 3]
        for line, cells in read_csv(root / name, columns)[1]:
            where = f"{root / name}:{line}"
            if odd := surplus(cells):
                raise AffectError(f"{where}: {odd}")
            try:
                valence = label("valence", cells.get("valence", ""), None)
            except UnusableError as error:
                raise AffectError(f"{where}: {error}") from error
            yield {"id": cells["name"], "part": part, "emotion": cells["discrete"], "valence": valence}, where


CORPUS = Layout(
    name="mer2023",
    read=read,
    kind=FEATURES,
    columns=("part", "emotion", "valence"),
    options=("labels",),
    holds=_has_labels,
    sign=f"{LABELS}, or {_TABLES[PARTS[0]]} beside a folder features",
    scale=SCALE,
    classes=CLASSES,
    language="zh",
    about="MER2023 is scenes of Chinese films and television, so acted, in Mandarin.",
    licence="by agreement with the challenge's organisers, for research",
    citation="Lian et al. 2023, MER 2023, doi 10.1145/3581783.3612836",
    folder="data/mer2023-dataset-process",
    usual=USUAL,
)
