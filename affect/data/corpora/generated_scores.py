"""The generated clips of `affect.data.synthetic_scores`, converted as any pickle is, as a corpus of its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from affect.data.corpora import score_folder
from affect.data.corpora.kinds import SCORES
from affect.data.corpora.layout import Layout

if TYPE_CHECKING:
    from affect.data.score_corpus import ScoreCorpus


def read(
    root: str | Path, *, clips: int = 400, frames: tuple[int, int] = (15, 60),
    generated_widths: tuple[int, int, int, int] = (512, 192, 351, 17), generated_syncnet: int = 0,
    generated_form: Literal["rows", "columns", "flat"] = "rows", generated_missing: float = 0.15,
    generated_absent: float = 0.03, generated_sources: int = 20, generated_generators: int = 8,
    noise: float = 1.0, generator_seed: int = 0, **options: Any,
) -> ScoreCorpus:  # fmt: skip
    """Return the corpus of these settings under `root`, made first where it is not there yet.

    Raises AffectError where `root` holds anything else, and as `score_folder` does, which takes the `options`.
    """
    from affect.data import synthetic_scores

    settings = synthetic_scores.GeneratorSettings(
        clips=clips, frames=frames, widths=generated_widths, syncnet=generated_syncnet, form=generated_form,
        missing=generated_missing, absent=generated_absent, sources=generated_sources, generators=generated_generators,
        noise=noise, seed=generator_seed,
    )  # fmt: skip
    folder = synthetic_scores.generate_converted(Path(root), settings)
    corpus = score_folder.read(folder, **options)
    return replace(corpus, name=f"{CORPUS.name} (noise {noise:g}, seed {generator_seed})")


CORPUS = Layout(
    name="generated_scores",
    read=read,
    kind=SCORES,
    columns=score_folder.CORPUS.columns,
    options=(
        *("clips", "frames", "generated_widths", "generated_syncnet", "generated_form", "generated_missing"),
        *("generated_absent", "generated_sources", "generated_generators", "noise", "generator_seed"),
        *score_folder.CORPUS.options,
    ),
    generated=True,
)
