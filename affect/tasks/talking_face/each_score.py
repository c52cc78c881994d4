"""Every measure of each score, with intervals over groups and beside the trivial models, in the report.

Imports no tensor library.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from affect.findings import Flag, Section, finite
from affect.metrics.logistic import FEWEST, fit
from affect.tables import counted, filled, grid, inside, number
from affect.task import Measure
from affect.tasks.talking_face.measures import KINDS

if TYPE_CHECKING:
    from affect.report.study import Study

_RANKS, _FITTED = "SRCC", "PLCC"
_NETWORK = "network"
_WORDS = (
    "Means over seeds, of all folds' rows together where folds hold out groups; in brackets 95 % intervals over "
    "resamples of people or recordings."
)


def sections(study: Study, part: str) -> list[Section]:
    """Return a table a score; none where there is one score, which the tables of the report are of."""
    by_score = measures_of(study)
    if len(by_score) < 2:
        return []
    shown = [Section(title="Each score", markdown=_WORDS)]
    for score, measures in by_score.items():
        labels = _labels(study, part, score)
        if not labels:
            continue
        rows = [
            [
                title, study.estimate(part, measure).shown(number),
                *(number(_value(study, part, measure, model)) for model in study.trivial),
            ]
            for title, measure in measures.items()
        ]  # fmt: skip
        table = grid(*filled(["measure", "network", *study.trivial], rows))
        shown.append(Section(title=f"{score} ({labels:,} labels)", markdown=table, level=3))
    return shown


def curves(study: Study, part: str) -> str:
    """Return after which curve PLCC is taken, the logistic or a line, of each score and model; "" without a curve."""
    straight: dict[str, list[str]] = {}
    count = 0
    for score, measures in measures_of(study).items():
        pooled = study.pooled(part, measures[_FITTED])
        for model in (_NETWORK, *study.trivial):
            kinds = _kinds(study, part, score, model, pooled)
            count += len(kinds)
            if lines := kinds.count("linear"):
                few = f" ({lines} of {counted(len(kinds), 'fit')})" if lines < len(kinds) else ""
                straight.setdefault(model, []).append(score + few)
    if not count:
        return ""
    told = "; ".join(f"{model}: {', '.join(scores)}" for model, scores in straight.items())
    own = f"here for {told}" if told else "here nowhere"
    return f"PLCC and RMSE after the logistic are taken after a straight line where no logistic fits better: {own}."


def _kinds(study: Study, part: str, score: str, model: str, pooled: bool) -> list[str]:
    """Return what was fitted to each seed's rows, or to those of each of its folds, of those that have a curve."""
    system = study.system(part, model)
    each = system.by_seed.values() if pooled else [list(rows.values()) for rows in system.units.values()]
    kinds: list[str] = []
    for rows in each:
        given = [(row["prediction"].get(score), row["target"].get(score)) for row in rows]
        pairs = np.array([pair for pair in given if all(map(finite, pair))], np.float64).reshape(-1, 2)
        if len(pairs) >= FEWEST and np.ptp(pairs[:, 0]) > 0:
            kinds.append(fit(*pairs.T).kind)
    return kinds


def flags(study: Study, part: str) -> Iterator[Flag]:
    """Yield scores that a trivial model orders better, on the same rows, by more than resamples vary."""
    by_score = measures_of(study)
    for score, measures in by_score.items() if len(by_score) > 1 else ():
        measure = measures[_RANKS]
        best, value = study.best_trivial(part, measure)
        if best is None:
            continue
        gap = study.above(part, measure, best)[0]
        if gap.bounded and gap.high < 0:
            words = f"{score}: SRCC {number(study.estimate(part, measure).value)}, {best} {number(value)}"
            advice = f"this score alone (--data.scores {score}), or that trivial model"
            yield Flag("a score below a trivial model", part, words, advice, -gap.value)


def measures_of(study: Study) -> dict[str, dict[str, Measure]]:
    """Return the measures of each score by their titles, in the order of the means that are made of them."""
    means = [measure for measure in study.measures if measure.name in KINDS]
    scores = inside(study.recipe, "data").get("scores") or ()
    return {
        score: {mean.shown.removeprefix("mean "): mean.parts[k] for mean in means} for k, score in enumerate(scores)
    }


def _value(study: Study, part: str, measure: Measure, model: str) -> float:
    """Return a trivial model's score as the network's is told, without the resamples of an interval."""
    if study.pooled(part, measure):
        return study.system(part, model).pooled(measure)
    return study.scored(part, measure, model).mean


def _labels(study: Study, part: str, score: str) -> int:
    seeds = study.system(part).by_seed.values()
    return max((sum(finite(row["target"].get(score)) for row in rows) for rows in seeds), default=0)
