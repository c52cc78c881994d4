"""The generated clips of `affect.data.synthetic_clips`, a table of your own with its videos, as a corpus of its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from affect.data.corpora import score_table
from affect.data.corpora.kinds import SCORES
from affect.data.corpora.layout import Layout

if TYPE_CHECKING:
    from affect.data.score_corpus import ScoreCorpus


def read(
    root: str | Path, *, clips: int = 60, clip_seconds: tuple[float, float] = (1.0, 2.0), generator_seed: int = 0,
    **options: Any,
) -> ScoreCorpus:  # fmt: skip
    """Return the corpus of these settings under `root`, made first where it is not there yet.

    Raises AffectError where `root` holds anything else, and as `score_table` does, which takes the `options`.
    """
    from affect.data import synthetic_clips

    settings = synthetic_clips.ClipSettings(clips=clips, seconds=clip_seconds, seed=generator_seed)
    folder = synthetic_clips.generate(Path(root), settings)
    own = {"videos": synthetic_clips.FOLDER, "groups": ("identity", "source")}
    given = {name: value for name, value in options.items() if value}
    return replace(score_table.read(folder, **(own | given)), name=f"{CORPUS.name} (seed {generator_seed})")


CORPUS = Layout(
    name="generated_clips",
    read=read,
    kind=SCORES,
    columns=score_table.CORPUS.columns,
    options=("clips", "clip_seconds", "generator_seed", *score_table.CORPUS.options),
    generated=True,
)
