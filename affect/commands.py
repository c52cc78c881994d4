"""The subcommands of `affect`: what they take, and what does the work."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import tyro

from affect.errors import AffectError


def report(runs: Annotated[list[Path], tyro.conf.Positional], /) -> None:
    """Write report.md and its plots for experiment folders (runs/<experiment>) and print their tables."""
    if not runs:
        raise AffectError("affect report needs the folder of an experiment (runs/<experiment>), or several")
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
    scale: tuple[float, float] | None = None,
    columns: tuple[str, ...] = (),
    labels: str | None = None,
    audio: str | None = None,
    subset: str | None = None,
    revision: str | None = None,
    limit: int | None = None,
    streaming: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    every: Annotated[bool, tyro.conf.arg(name="all"), tyro.conf.FlagCreatePairsOff] = False,
) -> None:
    """Describe a corpus: counts, labels, durations, what is left out and why, and its folds.

    Args:
        root: The corpus's folder; with --corpus hub also a name on the Hub.
        corpus: Its layout; auto looks.
        scale: Lowest and highest label of csv_folder and hub (1 and 5 when not given).
        columns: OURS=THEIRS for each column that has another name in your csv_folder or hub data.
        labels: The CSV file of a csv_folder.
        audio: The folder of recordings of a csv_folder.
        subset: The configuration of a hub source.
        revision: The version of a source on the Hub.
        limit: Rows of a hub source to read at most.
        streaming: Fetch a hub source row by row.
        every: List all that is left out, not the first ten.
    """
    from affect.data import corpora
    from affect.data import inspect as inspection

    if scale is not None and not scale[0] < scale[1]:
        raise AffectError(f"--scale must be low then high, not {scale[0]:g} {scale[1]:g}")
    kind = inspection.detect(root) if corpus == "auto" else corpus
    asked = {
        "scale": scale, "columns": corpora.mapping(columns), "labels": labels, "audio": audio, "subset": subset,
        "revision": revision, "limit": limit, "streaming": streaming,
    }  # fmt: skip
    # A limit of 0 is a mistake for the reader to name, not one that was not given.
    given = {name: value for name, value in asked.items() if value or value == 0 and name == "limit"}
    print(inspection.describe(corpora.read(kind, root, **given), listed=None if every else inspection.LISTED))
