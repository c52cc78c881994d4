"""Every measure of each score, with intervals over groups and beside the trivial models, in the report.

Imports no tensor library.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from affect.findings import Flag, Section, finite
from affect.tables import filled, grid, inside, number
from affect.task import Measure

if TYPE_CHECKING:
    from affect.report.study import Study

_RANKS = "SRCC"
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
    means = [measure for measure in study.measures if measure.parts and not any(part.parts for part in measure.parts)]
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
