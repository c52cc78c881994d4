"""THQA-NTIRE: scores of 10,641 talking-head videos of the NTIRE 2025 challenge.

`train.csv` and `val.csv` (Video, Score) are enough for what names tell; who has the videos names their folder
(`--data.videos`), or that of their features (`--data.frames-of`). Scores of its test part are not public. There are
three kinds of names:
`<character>_<picture model>_common_voice_en_<sentence>_<talker>.mp4`; `<character>_voice_en_<sentence>_<talker>.mp4`,
which are THQA's own, by earlier versions of the talkers; `<character>_SEN_<sentence>_<distortion>_<level>.mp4`, real
speakers whose recording was distorted. Talkers are in both parts, and so is character 14 of 11 picture models: by
wavlip in train, by all others in val (700 of its 1,714 videos).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from affect.data.corpora.kinds import SCORES
from affect.data.corpora.layout import Layout, Scales
from affect.data.table_file import columns_of

if TYPE_CHECKING:
    from affect.data.score_corpus import ScoreCorpus

TABLES = {"train": "train.csv", "valid": "val.csv"}
_TALKER = re.compile(r"(\d+)_(?:(\w+?)_common_)?voice_en_(\d+)_(\w+)\.mp4")
_REAL = re.compile(r"(\d+)_SEN_(\w+)_([a-z]+_[a-z]+_-?[\d.]+)\.mp4")


def groups_of(name: str) -> dict[str, str]:
    """Return identity, picture model, sentence and generator of a video's name; raises UnusableError for another."""
    from affect.data.corpora.labels import UnusableError

    if match := _TALKER.fullmatch(name):
        character, model, sentence, talker = match.groups()
        talker = talker if model else f"{talker} (THQA)"
    elif match := _REAL.fullmatch(name):
        character, sentence, talker = match.groups()
        model = "real"
    else:
        raise UnusableError(f"a name of no known kind: {name[:60]}")
    model = model or "stylegan"
    return {"identity": f"{model} {character}", "model": model, "sentence": sentence, "generator": talker}


def read(
    root: str | Path, *, features: Sequence[str] = (), scores: Sequence[str] = (),
    scale: Scales | None = None, widths: Mapping[str, int] | None = None,
    frames_of: str | None = None, videos: str | None = None, boxes: str | None = None,
) -> ScoreCorpus:  # fmt: skip
    """Return the videos of both parts with their score `Score`.

    `frames_of`, `videos` and `boxes` are what lies beside the tables, as of a score_table. Raises AffectError for
    tables and folders that can't be used.
    """
    from affect.data import score_tables
    from affect.data.score_samples import Made

    folder = CORPUS.find(root)
    files = {part: folder / name for part, name in TABLES.items()}

    def make() -> Made:
        made = [score_tables.samples_of(path, named=groups_of, part=part) for part, path in files.items()]
        return sum((samples for samples, _ in made), []), {what: why for _, own in made for what, why in own.items()}

    return score_tables.corpus_beside(
        CORPUS.name, folder, [*files.values()], make, frames_of=frames_of, videos=videos, boxes=boxes,
        features=features, scores=scores, scale=scale or CORPUS.scale, widths=widths,
    )  # fmt: skip


def _holds(folder: Path) -> bool:
    return all(columns_of(folder / name)[:2] == ["Video", "Score"] for name in TABLES.values())


CORPUS = Layout(
    name="thqa_ntire",
    read=read,
    kind=SCORES,
    columns=("part", "length"),
    options=("features", "scores", "scale", "widths", "frames_of", "videos", "boxes"),
    holds=_holds,
    sign="train.csv and val.csv with Video and Score",
    scale=(0.0, 5.0),
    language="en",
    about="THQA-NTIRE is talking heads by 14 generators, some of them real speakers with distorted recordings.",
    licence="MIT (names and scores)",
    citation="Liu et al. 2025, NTIRE 2025 XGC Quality Assessment Challenge, arXiv 2506.02875",
    folder="data/thqa_ntire",
)
