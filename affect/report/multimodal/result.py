"""What an experiment reached: report 001's table, the toolkit's metric lines, and both in words."""

from __future__ import annotations

import math

import numpy as np

from affect.report.judgement import counted
from affect.report.multimodal.measures import MEASURES, by_seed, over_seeds
from affect.report.multimodal.names import CV, LOWER, SCORES, SEEDS, TESTS, shown
from affect.report.multimodal.resampling import interval
from affect.report.multimodal.schedule import chosen
from affect.report.multimodal.study import Study
from affect.report.scores import Estimate, section
from affect.report.tables import NONE, between, grid, number, signed

BESIDE = {"f1": "majority", "acc": "majority", "val": "mean"}
"""What stands beside a score: that of the commonest class, and of the mean valence."""

UNKNOWN = "n/a"


def table(study: Study) -> str:
    """Return a line a part: f1, acc and val with deviation and interval, the trivial baseline beside each."""
    if not study.parts:
        return "No run is finished yet."
    head = ["part", "n"]
    rows = []
    for score in SCORES:
        head += [score] if study.reported else [score, BESIDE[score]]
    for part in study.parts:
        row = [shown(part), NONE if study.reported else f"{utterances(study, part):,}"]
        for score in SCORES:
            row.append(cell(study, part, score))
            if not study.reported:
                row.append(_none(part, score, over_seeds(study.baseline(part), MEASURES[score])[0]))
        rows.append(row)
    return grid(head, rows)


def cell(study: Study, part: str, score: str) -> str:
    """Return a score with its deviation over seeds and its interval over utterances, as far as they are known."""
    mean, deviation = study.scored(part, score)
    if math.isnan(mean):
        return _none(part, score, mean)
    if study.reported:
        return number(mean)
    found = study.estimate(part, score)
    bounds = between(found).partition(" ")[2]
    return " ".join(filter(None, [with_deviation(mean, deviation), bounds]))


def with_deviation(mean: float, deviation: float) -> str:
    """Return mean ± deviation, the mean alone where one seed has none."""
    return number(mean) if math.isnan(deviation) else f"{number(mean)} ± {number(deviation)}"


def utterances(study: Study, part: str) -> int:
    """Return how many utterances of a part one seed predicts (of cv: its folds together)."""
    return max((sum(len(rows) for rows in units) for units in study.system(part).values()), default=0)


def printed(study: Study) -> str:
    """Return what is shown after a run: the table, the toolkit's lines and what is not finished."""
    parts = [table(study)]
    parts += [lines(study)] if not study.reported and study.parts else []
    left = unfinished(study)
    return "\n\n".join([*parts, *([f"not finished: {', '.join(left)}"] if left else [])])


def unfinished(study: Study) -> list[str]:
    """Return the runs that have no end or no part in the scores, by name."""
    counted_in = {run.name for run in study.finished}
    return [run.name for run in study.runs if not run.reported and run.name not in counted_in]


def lines(study: Study) -> str:
    """Return the public toolkit's metric line of each seed and part, indented as code."""
    found = []
    for seed in study.seeds:
        for part in study.parts:
            if seed not in study.system(part):
                continue
            scores = {s: by_seed(study.system(part), MEASURES[s])[seed] for s in SCORES}
            values = ", ".join(f"{s}={_four(value)}" for s, value in scores.items())
            found.append(f"    seed{seed} {shown(part)}: {values}")
    return "\n".join(found)


def words(study: Study) -> str:
    """Return the result in words: each part's f1 beside the majority's, and how far it can be trusted."""
    if study.reported:
        return "Scores as they are reported; nothing tells how much they vary."
    count = len(study.seeds)
    over = f"{counted(len(study.folds), 'fold')}, {counted(count, 'seed')}"
    said = [f"Weighted F1 ({over}): " + "; ".join(_part(study, part) for part in study.parts) + "."]
    if count == 1:
        said.append(
            "**A single run can't tell a better model from a luckier one**: with one seed there is no deviation, and "
            f"another seed may give another order of experiments. Train at least {SEEDS} seeds before comparing."
        )
    elif count < SEEDS:
        said.append(f"{count} seeds are few: {SEEDS} are needed before a difference can be called real.")
    said += _error(study)
    return " ".join(said)


def basis(study: Study) -> str:
    """Return what the numbers are: how a test is predicted, what ± and intervals mean, and who chose the epochs."""
    count = len(study.folds)
    said = [
        f"`cv`: the mean over the {counted(count, 'validation fold')}. A test part is predicted by the mean over the "
        f"{counted(count, 'fold')} of raw logits and of valences, once a seed. `f1` is weighted F1, `val` the mean "
        "squared error of valence (lower is better; n/a where no valence is rated). ± is the deviation over seeds (of "
        "a sample); in brackets the 95 % percentile interval of 1,000 resamples of the utterances, of the mean over "
        "seeds. The majority always says the training part's commonest class, the mean its mean valence."
    ]
    said.append(_chosen(study))
    if any(event.get("split") in TESTS for run in study.finished for event in run.evals):
        said.append("The tests were evaluated during training too, as the toolkit does: never choose by those curves.")
    if not any(study.baseline(part) for part in study.parts):
        said.append("**No baseline was written beside the predictions.**")
    return " ".join(said)


def beyond_majority(study: Study, part: str, score: str = "f1") -> Estimate:
    """Return a score minus the trivial baseline's, with its paired interval."""
    system, trivial = study.system(part), study.baseline(part)
    if not system or not trivial:
        return Estimate(math.nan)
    draws = study.resamples(part)
    value = over_seeds(system, MEASURES[score])[0] - over_seeds(trivial, MEASURES[score])[0]
    return interval(value, draws.samples(system, score) - draws.samples(trivial, score))


def _chosen(study: Study) -> str:
    """Return who chose the epochs."""
    if section(study.recipe, "train").get("choose") == "last":
        return "The weights of the last epoch were taken, whatever the scores."
    if any(flag.kind == "selected on a test" for flag in chosen(study)):
        return "**Some runs kept the epoch that is best on a test (see the flags): its scores are no test scores.**"
    of = ", its mean over the seven subsets of the modalities" if study.recipe.get("choose") == "subsets" else ""
    return (
        f"Epochs were chosen on the folds by emoval = f1 - 0.25 val{of}, so that cv is the best of several and leans "
        "upwards; the tests chose nothing."
    )


def _part(study: Study, part: str) -> str:
    said = f"{shown(part)} **{cell(study, part, 'f1')}**"
    found = beyond_majority(study, part)
    if math.isnan(found.value):
        return said
    trivial = over_seeds(study.baseline(part), MEASURES["f1"])[0]
    if not math.isnan(found.low) and found.low <= 0 <= found.high:
        return f"{said}, within noise of always saying the commonest class ({number(trivial)})"
    side = "above" if found.value > 0 else "below"
    return f"{said}, {points(abs(found.value))} {side} always saying the commonest class ({number(trivial)})"


def _error(study: Study) -> list[str]:
    """Return how far chance alone moves the accuracy of the smallest test."""
    sizes = {part: utterances(study, part) for part in study.parts if part != CV}
    sizes = {part: size for part, size in sizes.items() if size}
    if not sizes:
        return []
    part = min(sizes, key=lambda name: sizes[name])
    share = study.scored(part, "acc")[0]
    if math.isnan(share):
        return []
    error = float(np.sqrt(share * (1 - share) / sizes[part]))
    return [f"With {sizes[part]:,} utterances one standard error of {part}'s accuracy is {points(error)}."]


def points(value: float) -> str:
    """Return a share in points, of which a hundred are the whole."""
    return f"{100 * value:.1f} points"


def gain(value: float, score: str) -> str:
    """Return a difference with its sign: in points, of an error in its own unit."""
    return signed(value) if score in LOWER else f"{round(100 * value, 1) + 0.0:+.1f}"


def _none(part: str, score: str, value: float) -> str:
    if not math.isnan(value):
        return number(value)
    return UNKNOWN if score == "val" and part == "test3" else NONE


def _four(value: float) -> str:
    return UNKNOWN if math.isnan(value) else f"{value:.4f}"
