"""All plots of a multimodal emotion report, as PNG files that are the same bytes for the same runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from matplotlib.figure import Figure

from affect.report import figure
from affect.report.multimodal import figures, robust_figures
from affect.report.multimodal.compare import Comparison
from affect.report.multimodal.study import Study


def draw(
    study: Study, folder: Path, other: Study | None = None, comparison: Comparison | None = None
) -> dict[str, tuple[str, str]]:
    """Write the plots that the runs allow into `folder`; return (caption, path beside the page) of each by name."""
    return figure.save(_figures(study, other, comparison), folder)


def _figures(
    study: Study, other: Study | None, comparison: Comparison | None
) -> Iterator[tuple[str, str, Figure | None]]:
    several = len(study.seeds) > 1
    bands = " (bands: deviation over seeds)" if several else ""
    beside = f", {other.name} dashed" if other is not None and not other.reported else ""
    yield "scores", "Scores by part", figures.scores(study)
    compared = figures.differences(comparison) if comparison is not None else None
    yield "differences", f"Difference to {other.name if other else ''}, with its 95 % interval", compared
    seeds = "; the seeds of a fold share its colour" if several else ""
    yield "curves", f"Training loss and emoval on the fold by epoch (dots: kept{seeds})", figures.curves(study)
    yield "confusion", "Confusion: percent of each label's utterances", figures.confusion(study)
    yield "subsets", "Weighted F1 by what is given: A audio, T text, V video", robust_figures.subsets(study)
    yield "missing", f"Missing modalities: weighted F1{bands}{beside}", robust_figures.missing(study, other)
    yield "noise", f"Noisy modalities: weighted F1{bands}{beside}", robust_figures.noise(study, other)
    yield "attention", "Attention by what is given", robust_figures.attention(study)
    yield "dropout", "Modality dropout by epoch, and the epochs kept", robust_figures.dropout(study)
