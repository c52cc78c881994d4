"""The subcommands of `affect`: what they take, and what does the work."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import tyro


def report(runs: Annotated[list[Path], tyro.conf.Positional], /) -> None:
    """Write report.md and its plots for experiment folders (runs/<experiment>) and print their tables."""
    from affect import report as reports

    for folder in runs:
        path = reports.write(folder)
        print(reports.table(reports.read(folder)))
        print(f"\nreport: {path}\n")


def predict(
    run: Annotated[Path, tyro.conf.Positional],
    files: Annotated[list[Path], tyro.conf.Positional],
    /,
    window: float = 30.0,
    hop: float | None = None,
) -> None:
    """Predict audio files with a run's best weights: one JSON object a window, scale and order stated.

    Args:
        run: A run's folder (runs/<experiment>/seed<S>/fold<F>) or one with model.safetensors and config.json.
        files: Audio files, any rate and number of channels.
        window: Longest stretch predicted at once, in seconds; a longer recording gives one line a window.
        hop: Seconds from one window's start to the next; the window when not given.
    """
    from affect.workflows import prediction

    bad = prediction.predict_files(run, files, sys.stdout, window=window, hop=hop)
    if bad:
        sys.exit(1)


def inspect(
    root: Annotated[Path, tyro.conf.Positional],
    /,
    corpus: Literal["auto", "iemocap", "emodb", "csv_folder", "hub"] = "auto",
) -> None:
    """Describe a corpus: counts, labels, durations, what is left out and why, and its folds.

    Args:
        root: The corpus's folder.
        corpus: Its layout; auto looks.
    """
    from affect.data import corpora
    from affect.data import inspect as inspection

    kind = inspection.detect(root) if corpus == "auto" else corpus
    print(inspection.describe(corpora.read(kind, root)))
