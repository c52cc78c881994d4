"""Which epoch a run kept: whether it is the best on the fold, and whether modality dropout was at its full by then."""

from __future__ import annotations

import math
from collections.abc import Iterator

from affect.report.flag import Flag
from affect.report.multimodal.names import CV, TESTS
from affect.report.multimodal.study import Study
from affect.report.multimodal.training import kept, last
from affect.report.runs import Run
from affect.report.scores import section
from affect.report.tables import number

_SAME = 1e-6


def warmup(run: Run) -> int:
    """Return after how many epochs modality dropout is at its full (2W); 0 where it has no warm-up."""
    model = section(run.recipe, "model")
    rate, epochs = model.get("modality_dropout"), model.get("warmup")
    if not isinstance(rate, int | float) or not isinstance(epochs, int) or rate <= 0:
        return 0
    return 2 * epochs


def early(study: Study) -> Iterator[Flag]:
    """Yield runs that ended, or whose weights were kept, before modality dropout was at its full."""
    for run in study.finished:
        full, ended, best = warmup(run), last(run), kept(run)
        # From 1: the first epoch at the full rate is 2W + 1.
        if full and ended is not None and ended <= full:
            evidence = f"ended after epoch {ended}; modality dropout reaches its full rate in epoch {full + 1}"
            advice = "more patience, a shorter warm-up (W), or a smaller rate that needs none"
            yield Flag("stopped before 2W", run.name, evidence, advice, full - ended)
        elif full and best is not None and best <= full:
            evidence = f"kept epoch {best}, which saw a rate of {number(_rate(run, best))} at most; "
            evidence += f"the full rate comes in epoch {full + 1}"
            advice = "a shorter warm-up (W): the kept weights never learnt what the full rate teaches"
            yield Flag("kept before 2W", run.name, evidence, advice, full - best)


def chosen(study: Study) -> Iterator[Flag]:
    """Yield runs whose kept epoch is not the best on the fold, and say so where it is the best on a test instead."""
    for run in study.finished:
        if section(run.recipe, "train").get("choose") == "last":
            continue
        courses = {part: _course(run, part) for part in (CV, *TESTS)}
        valid, step = courses[CV], run.end.get("best_step")
        if step not in valid:
            continue
        top = _highest(valid)
        # What is better by less than this is no reason to keep another epoch: that is what min_delta means.
        least = section(run.recipe, "train").get("min_delta")
        allowed = max(_SAME, float(least) if isinstance(least, int | float) else 0.0)
        if valid[top] - valid[step] <= allowed:
            continue
        evidence = f"kept step {step} with emoval {number(valid[step])} on the fold, whose best is step {top} with "
        evidence += number(valid[top])
        best_on = [part for part in TESTS if courses[part] and step == _highest(courses[part])]
        if best_on:
            advice = "choose on the fold alone: a score chosen on a test is no test score"
            evidence += f"; step {step} is the best on {' and '.join(best_on)}"
            yield Flag("selected on a test", run.name, evidence, advice, valid[top] - valid[step])
        else:
            advice = "the kept epoch is argmax of emoval on the fold: train that fold again with --overwrite"
            yield Flag("not the best epoch", run.name, evidence, advice, valid[top] - valid[step])


def _course(run: Run, part: str) -> dict[int, float]:
    """Return by step what an epoch is chosen by: emoval or its mean over subsets, on a test without valence f1."""
    found = {}
    for event in run.evals:
        if event.get("split") != part:
            continue
        scores = section(event, "scores")
        value = scores.get("emoval_subsets" if part == CV and run.recipe.get("choose") == "subsets" else "emoval")
        value = scores.get("f1") if value is None and part != CV else value
        if isinstance(value, int | float) and math.isfinite(value):
            found[event["step"]] = float(value)
    return found


def _highest(course: dict[int, float]) -> int:
    return max(course, key=course.__getitem__)


def _rate(run: Run, best: int) -> float:
    told = [
        section(event, "schedule").get("modality_dropout")
        for event in run.steps
        if isinstance(event.get("epoch"), int) and event["epoch"] < best
    ]
    known = [float(value) for value in told if isinstance(value, int | float)]
    return max(known) if known else math.nan
