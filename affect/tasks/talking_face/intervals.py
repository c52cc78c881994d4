"""Intervals of scores, calibrated by the validation rows of the runs whose models are asked. Loads no tensor library.

A run writes those rows at its end, with the weights that it keeps. They also chose these weights, so that an interval
is a little narrow.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from affect import recipe as recipes
from affect.config import from_dict
from affect.errors import AffectError
from affect.metrics.average_predictions import mean_rows
from affect.metrics.conformal import Intervals, calibrate
from affect.task import VALID, Row
from affect.tasks.talking_face.config import Signature
from affect.tasks.talking_face.measures import SOURCES

LEVEL = 0.9
"""Of intervals."""
FIELD = "intervals"
"""Of config.json and of an exported file's metadata."""
_LOG = logging.getLogger("affect")


def of_folder(folder: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the intervals by score, as JSON types, of the weights in `folder`; none where nothing calibrates them.

    They are those that its `config` holds, else what the validation rows of its run say.
    """
    return of_folders([folder], config)


def of_folders(folders: Sequence[Path], config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `of_folder` does of models whose predictions are averaged.

    A clip's error is that of the mean over the runs that validated on it, so the more runs do, the more these intervals
    are those of all models' mean; with one run a clip they are those of one model, which errs more.
    """
    if len(folders) == 1 and FIELD in config:
        return dict(config[FIELD])
    places = [folder.absolute().parents[1] for folder in folders]
    if any(trained_on(place) for place in places):
        _LOG.warning("no intervals: the validation clips of %s were trained on (data.train_all)", folders[0])
        return {}
    rows = _averaged([rows_of(place) for place in places])
    if not rows:
        _LOG.warning("no intervals: %s belongs to no finished run with validation rows", folders[0])
        return {}
    return of_rows(rows, from_dict(Signature, config["data"], "data"))


def of_rows(rows: Sequence[Row], data: Signature) -> dict[str, Any]:
    """Return what `of_folder` does by predicted rows; a score with too few labels is named and has none."""
    intervals = {}
    for name, low, high in data.scores:
        try:
            intervals[name] = calibrated(rows, name, (low, high)).to_dict()
        except AffectError as error:
            _LOG.warning("no interval of %s: %s", name, error)
    return intervals


def calibrated(rows: Sequence[Row], score: str, scale: tuple[float, float]) -> Intervals:
    """Return the intervals of a score by its predicted `rows`, in units of the model's own spread where it has one.

    Raises AffectError where too few rows have the score.
    """
    prediction, target = (
        np.array([np.nan if row[side].get(score) is None else row[side][score] for row in rows], np.float64)
        for side in ("prediction", "target")
    )
    spread = [row["spread"][score] for row in rows] if all("spread" in row for row in rows) else None
    unit = next((name for name in SOURCES if all(row.get(name) for row in rows)), None)
    sources = None if unit is None else [str(row[unit]) for row in rows]
    return calibrate(prediction, target, LEVEL, spread=spread, scale=scale, sources=sources)


def trained_on(run: Path) -> bool:
    """Whether a run trained on its validation clips, too: their errors are too small then."""
    path = run / "recipe.json"
    return path.is_file() and bool(recipes.read(path)["data"].get("train_all"))


def rows_of(run: Path) -> list[Row]:
    """Return the validation rows in a run's folder, none where it has none that are whole."""
    try:
        lines = (run / f"predictions-{VALID}.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]
    except (OSError, ValueError):
        return []


def bounds(stored: Mapping[str, Any], prediction: Mapping[str, float], spread: Mapping[str, float]) -> dict[str, Any]:
    """Return the interval (low, high) of each score that `stored` has one of, by the models' mean `prediction`."""
    intervals = {}
    for name, facts in stored.items():
        own = Intervals.from_dict(facts)
        given = [spread[name]] if own.normalised else None
        intervals[name] = own([prediction[name]], spread=given)[0].tolist()
    return intervals


def words(stored: Mapping[str, Any]) -> str:
    """Return a sentence on intervals for readers of a card, "" where there are none."""
    if not stored:
        return ""
    own = [Intervals.from_dict(facts) for facts in stored.values()]
    unit = " spreads that the model predicts" if own[0].normalised else ""
    widths = ", ".join(f"{name} ± {each.half_width:.2f}{unit}" for name, each in zip(stored, own, strict=True))
    of = f" of {own[0].sources} people or recordings" if own[0].sources else ""
    return (
        f"A {100 * own[0].level:.0f} % interval is given with each score (split conformal, calibrated by "
        f"{min(each.rows for each in own)} validation clips or more{of}): {widths}. It holds for clips like those; of "
        "other generators or people it may cover less."
    )


def _averaged(runs: Sequence[Sequence[Row]]) -> list[Row]:
    """Return a row a clip: the mean over the runs that have it."""
    same: dict[str, list[Row]] = {}
    for row in (row for rows in runs for row in rows):
        same.setdefault(row["id"], []).append(row)
    return [rows[0] if len(rows) == 1 else mean_rows([[row] for row in rows])[0] for rows in same.values()]
