"""THQA: 640 talking-head videos (16 pictures, 5 sentences each, 8 generators) with features and a mean opinion score.

The files `features_mos.csv` (24 numbers a video: image quality, identity, audio-visual sync; the score) and
`frame_features.csv` (21 of them for each of 3 to 10 frames). A name is `<picture>_voice_en_<sentence>_<generator>`. The
picture is what has to be held out: its sentences are other videos of the same face. Scores run from .1 to 5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from affect.data.corpora.kinds import SCORES
from affect.data.corpora.layout import Layout, Scales

if TYPE_CHECKING:
    from affect.data.score_corpus import ScoreCorpus

TABLE, FRAMES = "features_mos.csv", "frame_features.csv"
PATTERN = r"^(?P<source>\d+)_.*_(?P<sentence>\d+)_(?P<generator>[^_]+)$"


def read(
    root: str | Path, *, features: Sequence[str] = (), scores: Sequence[str] = (),
    scale: Scales | None = None, widths: Mapping[str, int] | None = None,
) -> ScoreCorpus:  # fmt: skip
    """Return the videos with `clip` [1, 24] and, where its file is there, `frames` [T, 21], their score `Score`.

    A picture is a `source`, so that it is held out where nothing else is asked for. Raises AffectError for tables that
    can't be used.
    """
    from affect.data import score_tables
    from affect.data.score_samples import Made

    folder = CORPUS.find(root)
    frames = folder / FRAMES

    def make() -> Made:
        made = score_tables.samples_of(folder / TABLE, named=score_tables.named_groups(PATTERN))
        return score_tables.with_frames(made, frames) if frames.is_file() else made

    files = [folder / TABLE, *([frames] if frames.is_file() else [])]
    chosen: dict[str, Any] = {"features": features, "scores": scores, "scale": scale or CORPUS.scale, "widths": widths}
    return score_tables.corpus_of(CORPUS.name, folder, files, make, **chosen)


CORPUS = Layout(
    name="thqa",
    read=read,
    kind=SCORES,
    columns=("part", "length"),
    options=("features", "scores", "scale", "widths"),
    holds=lambda folder: (folder / TABLE).is_file(),
    sign=TABLE,
    scale=(0.0, 5.0),
    language="en",
    about="THQA is talking heads that eight generators made of StyleGAN's faces and Common Voice's English sentences.",
    licence="MIT",
    citation="Zhou et al. 2024, THQA, arXiv 2404.09003",
    folder="data/thqa",
)
