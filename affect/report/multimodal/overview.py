"""The part of comparison.md on multimodal emotion experiments: a line each, and who beats the baseline."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from affect.errors import AffectError
from affect.report.multimodal.compare import REST, compare
from affect.report.multimodal.names import CV, PARTS, TESTS, shown
from affect.report.multimodal.result import with_deviation
from affect.report.multimodal.study import Study
from affect.report.scores import spread
from affect.report.tables import NONE, filled, grid

BASELINE = "baseline"
"""The name of the experiment that the others are compared with."""

LEGEND = (
    "Multimodal emotion: weighted F1 / accuracy, mean ± deviation over seeds (a test part is predicted by the mean of "
    "the folds' logits). Incomplete: weighted F1, the mean over the six subsets that lack a modality (tests: the mean "
    "of the test parts). Against the baseline: the difference of weighted F1 in points; better or worse is said with "
    "at least 6 seeds of both, an interval without 0 and p of at most .05. Settings are compared with those of the "
    "line before. Experiments are to be chosen by cv: the best of several on a test part is so by chance too."
)


@dataclass(frozen=True, kw_only=True)
class Line:
    """An experiment, when it ran, how much of it is finished, and which settings changed since the line before."""

    study: Study
    date: str
    finished: str
    changed: str


def section(lines: Sequence[Line]) -> str:
    """Return the table of experiments in their order, and a sentence where cv and test2 prefer different ones."""
    return "\n\n".join(filter(None, [table(lines), gains(lines), preferred(lines)]))


def table(lines: Sequence[Line]) -> str:
    """Return a line an experiment."""
    tops = {part: _top(lines, part) for part in (CV, "test2")}
    head = ["experiment", "date", "folds x seeds", *(f"{shown(part)} f1 / acc" for part in PARTS)]
    head += ["incomplete cv", "incomplete tests", "what changed", "best"]
    rows = []
    for line in lines:
        study = line.study
        row = [study.name, line.date, line.finished, *(_pair(study, part) for part in PARTS)]
        row += [with_deviation(*_rest(study, [CV])), with_deviation(*_rest(study, TESTS))]
        best = [f"best {shown(part)}" for part, top in tops.items() if top is study and len(lines) > 1]
        rows.append([*row, line.changed, ", ".join(best)])
    return grid(*filled(head, rows), left=True)


def gains(lines: Sequence[Line]) -> str:
    """Return a line an experiment with its differences to the baseline, in points; "" where there is none."""
    base = _baseline(lines)
    others = [line.study for line in lines if base is not None and line.study is not base]
    if base is None or not others:
        return ""
    head = ["against the baseline", *(f"{shown(part)} {kind}" for part in PARTS for kind in ("f1", "incomplete"))]
    rows = [[study.name, *_against(study, base)] for study in others]
    return grid(*filled(head, rows), left=True)


def preferred(lines: Sequence[Line]) -> str:
    """Return a warning where the best experiment on test2 is not the best on cv ("": it is)."""
    by_cv, by_test = _top(lines, CV), _top(lines, "test2")
    if by_cv is None or by_test is None or by_cv is by_test:
        return ""
    return (
        f"**{by_test.name} is best on test2, {by_cv.name} on cv: choosing {by_test.name} would be selection on a "
        "test.**"
    )


def _baseline(lines: Sequence[Line]) -> Study | None:
    named = [line.study for line in lines if line.study.name == BASELINE]
    # One that was measured here tells how much it varies; a paper's doesn't.
    return min(named, key=lambda study: study.reported, default=None)


def _against(study: Study, base: Study) -> list[str]:
    """Return the difference of each part, with all modalities and over the incomplete subsets."""
    places = [(part, score) for part in PARTS for score in ("f1", REST)]
    try:
        comparison = compare(study, base, ("f1", REST))
    except AffectError:
        return ["nothing in common", *[NONE] * (len(places) - 1)]
    said = []
    for part, score in places:
        found = comparison.of(part, score)
        known = found is not None and not math.isnan(found.estimate.value)
        said.append(f"{found.change()}: {found.verdict()}" if found is not None and known else NONE)
    return said


def _top(lines: Sequence[Line], part: str) -> Study | None:
    """Return the experiment with the highest weighted F1 of those that have both cv and test2."""
    known = [line.study for line in lines if not math.isnan(sum(line.study.scored(p, "f1")[0] for p in (CV, "test2")))]
    return max(known, key=lambda study: study.scored(part, "f1")[0], default=None) if len(known) > 1 else None


def _pair(study: Study, part: str) -> str:
    if part not in study.parts:
        return NONE
    return " / ".join(with_deviation(*study.scored(part, score)) for score in ("f1", "acc"))


def _rest(study: Study, parts: Sequence[str]) -> tuple[float, float]:
    """Return the mean over parts of the incomplete subsets' mean, and its deviation over seeds."""
    if study.reported:
        return math.nan, math.nan
    found = [values for part in parts if (values := study.incomplete_by_seed(part))]
    seeds = set.intersection(*(set(values) for values in found)) if found else set()
    return spread(spread(values[seed] for values in found)[0] for seed in sorted(seeds))
