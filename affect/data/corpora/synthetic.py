"""The generated corpus of `affect.data.synthetic`, on disk in IEMOCAP's layout, as a corpus of its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from affect.data.corpora import iemocap
from affect.data.corpora.layout import Layout
from affect.data.corpus import Corpus


def read(root: str | Path, **options: Any) -> Corpus:
    """Return the corpus under `root`, written first where it is absent or of other options; raises as that does."""
    # Imported here: it loads a synthesiser.
    from affect.data.synthetic import Options, generate

    generate(Path(root), Options(**options))
    return replace(iemocap.read(root), name=CORPUS.name)


CORPUS = Layout(
    name="synthetic", read=read, columns=iemocap.CORPUS.columns, options=("dialogues", "utterances", "seconds"),
    scale=iemocap.SCALE, classes=iemocap.CORPUS.classes, generated=True,
)  # fmt: skip
