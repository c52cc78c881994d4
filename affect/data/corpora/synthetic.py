"""The generated corpus of `affect.data.synthetic`, on disk in IEMOCAP's layout, as a corpus of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from affect.data.corpora import iemocap
from affect.data.corpora.layout import Layout
from affect.data.corpus import Corpus


def read(
    root: str | Path, *, dialogues: int = 4, utterances: int = 12, seconds: Sequence[float] = (1.0, 3.0),
    noise: float = 0.05, seed: int = 0,
) -> Corpus:  # fmt: skip
    """Return the corpus under `root`, written first where it is absent or of other options; raises as that does."""
    # Imported here: it loads a synthesiser.
    from affect.data.synthetic import Options, generate

    options = Options(dialogues=dialogues, utterances=utterances, seconds=seconds, noise=noise, seed=seed)
    generate(Path(root), options)
    return replace(iemocap.read(root), name=CORPUS.name)


CORPUS = Layout(
    name="synthetic",
    read=read,
    columns=iemocap.CORPUS.columns,
    options=("dialogues", "utterances", "seconds"),
    scale=iemocap.SCALE,
    classes=iemocap.CORPUS.classes,
    generated=True,
)
