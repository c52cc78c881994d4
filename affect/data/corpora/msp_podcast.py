"""MSP-Podcast: turns of English podcasts, rated for arousal, valence and dominance on 1..7, with official splits.

Read from `Labels/labels_consensus.csv` and `Audios/<FileName>`. Lotfian and Busso 2019, "Building Naturalistic
Emotionally Balanced Speech Corpus by Retrieving Emotional Speech from Existing Podcast Recordings".
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from pathlib import Path

from affect.data.corpora.labels import UnusableError, label, rows_of
from affect.data.corpora.layout import Layout
from affect.data.corpora.utterances import Row, corpus_of_rows, verified
from affect.data.corpus import LABELS, Corpus, Exclusion
from affect.data.endings import SOUND
from affect.data.table_file import MISSING, SURPLUS, Cells, read_csv
from affect.errors import AffectError

_LOG = logging.getLogger("affect")

SCALE = (1.0, 7.0)
TABLE = "labels_consensus.csv"

COLUMNS = {
    "path": "filename", "speaker": "spkrid", "split": "split_set", "valence": "emoval", "arousal": "emoact",
    "dominance": "emodom", "emotion": "emoclass", "gender": "gender",
}  # fmt: skip
"""Our name of each column, and the table's in lower case. The table's own order is arousal, valence, dominance."""

REQUIRED = ("path", "speaker", "split", "valence", "arousal")

EMOTIONS = {
    "A": "anger", "S": "sadness", "H": "happiness", "U": "surprise", "F": "fear", "D": "disgust", "C": "contempt",
    "N": "neutral", "O": "other", "X": "no_agreement",
}  # fmt: skip
"""The emotion by its letter in the column EmoClass; `no_agreement` has numbers as good as any other's."""

SPLITS = {"train": "Train", "development": "Development", "test1": "Test1", "test2": "Test2", "test3": "Test3"}
"""The official parts by their names in lower case: each test part is a fold of the split by column."""

_PODCAST = re.compile(r"(MSP-PODCAST_\d+)_", re.IGNORECASE)


def read(root: str | Path) -> Corpus:
    """Return every turn that has a sound file, an official part and at least one label; all else is an exclusion.

    `session` is the podcast, `dialogue` one speaker's turns in it. The turns of unknown speakers count as one speaker
    for each podcast and part, or the splits would seem to share a speaker called Unknown; how many there are is logged.
    Raises AffectError where `root` is not the corpus, or its table cannot be read.
    """
    folder = CORPUS.find(root)
    table, audios = _table(folder), _child(folder, "Audios")
    if not audios.is_dir():
        raise AffectError(f"MSP-Podcast: {folder} has no folder Audios")
    files = (path for path in sorted(audios.iterdir()) if path.suffix.lower() in SOUND)
    sounds = {path.name: path for path in files if not path.name.startswith("._")}
    _, records = read_csv(table, [COLUMNS[name] for name in REQUIRED], lower=True)
    ours = [(line, _ours(cells, sounds)) for line, cells in records]
    rows, exclusions = rows_of(ours, lambda cells: _row(cells, sounds), "path", table)
    named = {cells["path"] for _, cells in ours}
    exclusions += [Exclusion(what=name, reason="audio file without labels") for name in sorted(sounds.keys() - named)]
    unknown = Counter(str(row["split"]) for row in rows if str(row["speaker"]).startswith("unknown in "))
    if unknown:
        by_part = ", ".join(f"{part} {unknown[part]}" for part in SPLITS.values() if unknown[part])
        _LOG.warning(
            "msp_podcast: %d utterances have no known speaker (%s): whether parts share those speakers cannot be told",
            *(unknown.total(), by_part),
        )
    return corpus_of_rows(CORPUS, *verified(CORPUS.name, rows, exclusions), root=folder)


def _child(folder: Path, name: str) -> Path:
    """Return `name` in `folder`, as it is there in capitals or not."""
    try:
        return min(child for child in folder.iterdir() if child.name.lower() == name.lower())
    except (OSError, ValueError):
        return folder / name


def _table(folder: Path) -> Path:
    return _child(_child(folder, "Labels"), TABLE)


def _ours(cells: Cells, sounds: dict[str, Path]) -> Cells:
    """Return cells by our names; `path` is the name of the audio file: some releases leave `.wav` out."""
    ours = {name: cells.get(column, "") for name, column in COLUMNS.items()}
    if ours["path"] not in sounds and f"{ours['path']}.wav" in sounds:
        ours["path"] += ".wav"
    return ours | {key: text for key, text in cells.items() if key == SURPLUS}


def _row(cells: Cells, sounds: dict[str, Path]) -> Row:
    """Return a row; raises UnusableError."""
    name = cells["path"]
    if not name:
        raise UnusableError("no file name")
    part = SPLITS.get(cells["split"].lower())
    if part is None:
        raise UnusableError(f"in no part: {cells['split'] or '(empty)'}")
    values = {name: label(name, cells[name], SCALE) for name in LABELS}
    # The letter, or the word itself.
    word = cells["emotion"].lower()
    emotion = "" if word in MISSING else EMOTIONS.get(word.upper(), word)
    if emotion not in ("", *EMOTIONS.values()):
        raise UnusableError(f"unknown emotion: {cells['emotion'][:40]}")
    if all(value != value for value in values.values()) and emotion in ("", "no_agreement"):
        raise UnusableError(f"no label: {part}")
    if name not in sounds:
        raise UnusableError(f"missing audio file: {part}")
    match = _PODCAST.match(name)
    podcast = match[1] if match else Path(name).stem
    named = cells["speaker"].lower() not in (*MISSING, "unknown")
    speaker = cells["speaker"] if named else f"unknown in {podcast} {part}"
    return {
        "id": Path(name).stem, "session": podcast, "dialogue": f"{podcast} {speaker}" if named else speaker,
        "speaker": speaker, "gender": cells["gender"], "emotion": emotion, **values,
        "split": part, "path": str(sounds[name]),
    }  # fmt: skip


CORPUS = Layout(
    name="msp_podcast",
    read=read,
    columns=("session", "dialogue", "speaker", "gender", "emotion", *LABELS, "split"),
    holds=lambda folder: _table(folder).is_file(),
    sign=f"Labels/{TABLE}",
    part="(?i:labels|audios)",
    scale=SCALE,
    # The eight classes of its challenges; "other" and no agreement are none.
    classes=("anger", "contempt", "disgust", "fear", "happiness", "neutral", "sadness", "surprise"),
    language="en",
    about="MSP-Podcast is podcasts in English, chosen for emotional passages.",
    licence="by agreement with the University of Texas at Dallas, for research unless agreed otherwise",
    citation="Lotfian and Busso 2019, doi 10.1109/TAFFC.2017.2736999",
)
