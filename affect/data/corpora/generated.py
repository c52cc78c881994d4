"""The generated features of `affect.data.synthetic_features`, on disk in MER2023's layout, as a corpus of its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from affect.data.corpora import mer2023
from affect.data.corpora.kinds import FEATURES
from affect.data.corpora.layout import Layout

if TYPE_CHECKING:
    from affect.data.feature_corpus import FeatureCorpus


def read(
    root: str | Path, *, train: int = 600, test: int = 150, noise: float = 1.0, generator_seed: int = 0, **options: Any
) -> FeatureCorpus:
    """Return the corpus of these settings under `root`, made first where it is not there yet.

    Raises AffectError where `root` holds anything else, and as the layout's reader does, which takes the `options`.
    """
    from affect.data.synthetic_features import GeneratorSettings, generate

    generate(Path(root), GeneratorSettings(train=train, test=test, noise=noise, seed=generator_seed))
    corpus = mer2023.read(root, **options)
    return replace(corpus, name=f"{CORPUS.name} (noise {noise:g}, seed {generator_seed})")


CORPUS = Layout(
    name="generated",
    read=read,
    kind=FEATURES,
    columns=mer2023.CORPUS.columns,
    options=("labels", "train", "test", "noise", "generator_seed"),
    scale=mer2023.SCALE,
    generated=True,
    usual=mer2023.CORPUS.usual,
)
