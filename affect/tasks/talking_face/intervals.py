"""Intervals of scores, calibrated by the validation rows of the runs whose models are asked. Loads no tensor library.

A run writes those rows at its end, with the weights that it keeps. They also chose these weights, so that an interval
is a little narrow. Where validation was trained on (data.train_all), it is the test rows of a run, which chose nothing:
of several folds those of all, each predicted by the fold that has not seen it (cross-conformal; Vovk 2015). A generator
with rows enough has a width of its own, for clips that are said to be of it.
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
from affect.errors import AffectError, nearest
from affect.metrics.average_predictions import mean_rows
from affect.metrics.conformal import Intervals, calibrate, fewest
from affect.tables import escaped, inside
from affect.task import VALID, Row
from affect.tasks.talking_face.config import Signature
from affect.tasks.talking_face.measures import GENERATOR, SOURCES

LEVEL = 0.9
"""Of intervals, where no other is asked for."""
FIELD = "intervals"
"""Of config.json and of an exported file's metadata."""
_ROWS = "predictions-"
_LOG = logging.getLogger("affect")


def of_folder(folder: Path, config: Mapping[str, Any], level: float | None = None) -> dict[str, Any]:
    """Return the intervals by score, as JSON types, of the weights in `folder`; none where nothing calibrates them.

    They are those that its `config` holds, else what the validation rows of its run say. Raises AffectError where
    `config` holds those of another `level` than is asked for, and for what is no level.
    """
    return of_folders([folder], config, level)


def of_folders(folders: Sequence[Path], config: Mapping[str, Any], level: float | None = None) -> dict[str, Any]:
    """Return what `of_folder` does of models whose predictions are averaged.

    A clip's error is that of the mean over the runs that held it out, so the more runs do, the more these intervals
    are those of all models' mean; with one run a clip they are those of one model, which errs more.
    """
    if len(folders) == 1 and FIELD in config:
        return at_level(config[FIELD], level)
    level = LEVEL if level is None else level
    fewest(level)
    places = [folder.absolute().parents[1] for folder in folders]
    rows = _averaged([[row for part in unseen(place) for row in rows_of(place, part)] for place in places])
    if not rows:
        _LOG.warning("no intervals: %s belongs to no finished run with rows that calibrate them", folders[0])
        return {}
    return of_rows(rows, from_dict(Signature, config["data"], "data"), level)


def at_level(stored: Mapping[str, Any], level: float | None) -> dict[str, Any]:
    """Return stored intervals; raises AffectError where they are of another level than is asked for."""
    try:
        levels = [float(facts["level"]) for facts in stored.values()]
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise AffectError("the stored intervals are damaged: export the model again") from error
    for own in levels:
        if level not in (None, own):
            words = "a run's own folder calibrates any other, and export --options level=..."
            raise AffectError(f"these intervals are of a level of {own:g}, not of {level:g}: {words}")
    return dict(stored)


def of_rows(rows: Sequence[Row], data: Signature, level: float = LEVEL) -> dict[str, Any]:
    """Return what `of_folder` does by predicted rows; a score with too few labels is named and has none.

    Raises AffectError for what is no level.
    """
    fewest(level)
    intervals = {}
    for name, low, high in data.scores:
        try:
            intervals[name] = calibrated(rows, name, (low, high), level).to_dict()
        except AffectError as error:
            _LOG.warning("no interval of %s: %s", name, error)
    return intervals


def calibrated(rows: Sequence[Row], score: str, scale: tuple[float, float], level: float = LEVEL) -> Intervals:
    """Return the intervals of a score by its predicted `rows`, in units of the model's own spread where it has one.

    Of all rows, and of each generator that has enough. Raises AffectError where too few rows have the score.
    """
    prediction, target = (
        np.array([np.nan if row[side].get(score) is None else row[side][score] for row in rows], np.float64)
        for side in ("prediction", "target")
    )
    spread = [row["spread"][score] for row in rows] if all("spread" in row for row in rows) else None
    unit = next((name for name in SOURCES if all(row.get(name) for row in rows)), None)
    sources = None if unit is None else [str(row[unit]) for row in rows]
    groups = [str(row[GENERATOR]) for row in rows] if all(row.get(GENERATOR) for row in rows) else None
    return calibrate(prediction, target, level, groups=groups, spread=spread, scale=scale, sources=sources)


def unseen(run: Path) -> list[str]:
    """Return the parts by which a run is calibrated: validation, or the tests where it trained on that, too."""
    path = run / "recipe.json"
    if not (path.is_file() and inside(recipes.read(path), "data").get("train_all")):
        return [VALID]
    names = (path.stem.removeprefix(_ROWS) for path in sorted(run.glob(f"{_ROWS}*.jsonl")))
    return [name for name in names if name != VALID and "@" not in name]


def rows_of(run: Path, part: str) -> list[Row]:
    """Return the rows of a part in a run's folder, none where it has none that are whole."""
    try:
        # Not splitlines(), which also breaks at characters that JSON strings may hold.
        lines = (run / f"{_ROWS}{part}.jsonl").read_text(encoding="utf-8").strip("\n").split("\n")
        return [json.loads(line) for line in lines]
    except (OSError, ValueError, RecursionError):
        return []


def bounds(
    stored: Mapping[str, Any], prediction: Mapping[str, float], spread: Mapping[str, float],
    generator: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Return the interval (low, high) of each score that `stored` has one of, by the models' mean `prediction`.

    It is that of the clip's `generator`, where this was calibrated.
    """
    intervals = {}
    for name, facts in stored.items():
        own = Intervals.from_dict(facts)
        given = [spread[name]] if own.normalised else None
        group = None if generator is None else [generator]
        intervals[name] = own([prediction[name]], groups=group, spread=given)[0].tolist()
    return intervals


def of_which(stored: Mapping[str, Any], generator: str) -> dict[str, str]:
    """Return whose intervals a generator's clips have, by score: its own, or those of all, which is warned of."""
    generators = _generators(stored)
    which = {name: generator if generator in facts["groups"] else "all" for name, facts in stored.items()}
    if pooled := [name for name, each in which.items() if each == "all"]:
        few = generator in generators or not generators
        why = "too few of its validation clips have a label" if few else nearest(generator, generators)
        _LOG.warning("%s: intervals of %s are those of all generators (%s)", generator, ", ".join(pooled), why)
    return which


def _generators(stored: Mapping[str, Any]) -> list[str]:
    return sorted({group for facts in stored.values() for group in facts["groups"]})


def words(stored: Mapping[str, Any]) -> str:
    """Return a sentence on intervals for readers of a card, "" where there are none."""
    if not stored:
        return ""
    own = [Intervals.from_dict(facts) for facts in stored.values()]
    unit = " spreads that the model predicts" if own[0].normalised else ""
    widths = ", ".join(f"{escaped(name)} ± {each.half_width:.2f}{unit}" for name, each in zip(stored, own, strict=True))
    of = f" of {own[0].sources} people or recordings" if own[0].sources else ""
    generators = _generators(stored)
    named = (
        f" Clips of {', '.join(map(escaped, generators))} have their generator's own where it is named."
        if generators
        else ""
    )
    rows = min(each.rows for each in own)
    return (
        f"A {100 * own[0].level:g} % interval is given with each score (split conformal, calibrated by "
        f"{rows} clips or more that were held out{of}): {widths}. It holds for clips like those; of "
        f"other generators or people it may cover less.{named}"
    )


def _averaged(runs: Sequence[Sequence[Row]]) -> list[Row]:
    """Return a row a clip: the mean over the runs that have it."""
    same: dict[str, list[Row]] = {}
    for row in (row for rows in runs for row in rows):
        same.setdefault(row["id"], []).append(row)
    return [rows[0] if len(rows) == 1 else mean_rows([[row] for row in rows])[0] for rows in same.values()]
