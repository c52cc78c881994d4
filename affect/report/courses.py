"""Flags of the course of a training: its losses, gradients and validation scores, its loading and its memory."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

import numpy as np

from affect.findings import Flag, finite, worst
from affect.report.gaps import unit
from affect.report.runs import VALID, Run
from affect.report.study import Study
from affect.report.systems import Floats
from affect.report.trends import blocks, fall, rise, still
from affect.tables import inside, number
from affect.task import Measure

LEVEL = 0.6
"""A validation score that stands still below this (report 002's bar; of measures whose chance level is known), or
whose test score is below a trivial model's, is flagged: a run that is at a good level from the first epoch on has
nothing to be blamed for."""

WAITING = 0.10
FULL = 0.90
"""Share of the device's memory; what the allocator loses between its pieces comes on top."""

LOSS_TIMES = 3.0
NORM_TIMES = 100.0

_SAME = 1e-6
_HIGH = "the learning rates are too high: lower ones, or more warmup"


def losses(study: Study) -> Iterator[Flag]:
    """Yield losses and gradient norms that are no numbers, or that explode, and terms that took no part."""
    for run in study.measured:
        total = len(run.steps)
        # A step that fp16 skipped has no update to be wrong.
        taken = [r for r in run.steps if not r.get("skipped")]
        if steps := [r["step"] for r in taken if not finite(r.get("loss"))]:
            words = f"{len(steps)} of {total} logged steps, the first is {steps[0]}"
            yield Flag("NaN loss", run.name, words, size=len(steps) / total)
        if steps := [r["step"] for r in taken if r.get("grad_norm") is not None and not finite(r["grad_norm"])]:
            words = f"{len(steps)} of {total} logged steps, first {steps[0]}"
            yield Flag("NaN gradient", run.name, words, size=len(steps) / total)
        undefined = (r["undefined"] for r in run.steps if isinstance(r.get("undefined"), list))
        for name, count in Counter(str(name) for names in undefined for name in names).items():
            words = f"the loss term {name} took no part in {count} of {total} logged steps"
            yield Flag("undefined term", run.name, words, size=count / total)
        yield from _exploding(run)


def _exploding(run: Run) -> Iterator[Flag]:
    steps, values = _series(run, "loss")
    medians, size = blocks(values)
    for i in range(2, len(medians)):
        earlier = float(np.median(values[: i * size]))
        # Above its start too: what only comes back from near 0 has not exploded. Some losses may be negative.
        if earlier > 0 and medians[i] > max(LOSS_TIMES * earlier, medians[0], medians[i - 1]):
            words = f"loss {medians[i]:.3g} at steps {steps[i * size]:.0f} on, {earlier:.3g} (median) before"
            yield Flag("exploding loss", run.name, words, size=medians[i] / earlier)
            break
    else:
        if move := rise(values):
            words = f"loss {move.start:.3g} at steps {steps[move.at]:.0f} on, {move.end:.3g} at last"
            yield Flag("rising loss", run.name, words, size=move.end / move.start)
    steps, norms = _series(run, "grad_norm")
    usual = float(np.median(norms)) if len(norms) else 0.0
    high = int((norms > NORM_TIMES * usual).sum())
    if usual > 0 and high:
        words = f"norm {norms.max():.3g} at step {steps[norms.argmax()]:.0f}, the median is {usual:.3g}"
        words += f" ({high} of {len(norms)} steps over {NORM_TIMES:.0f} times it)"
        yield Flag("exploding gradient", run.name, words, size=float(norms.max() / usual))


def scores_over_epochs(study: Study) -> Iterator[Flag]:
    """Yield validation scores that fall from their best, or else stand still; all measures of a run in one flag."""
    for run in study.finished:
        falls: list[str] = []
        stills: list[str] = []
        size = best = 0.0
        for measure in (m for m in study.headline if not m.parts):
            course = run.course(VALID, measure.name)
            raw = np.array(list(course.values()), np.float64)
            scale = measure.sign / unit(measure, float(np.median(raw)) if len(raw) else 0.0)
            name = f"valid {measure.shown}"
            if down := fall(raw * scale):
                step = list(course)[down.at]
                start, end = number(down.start / scale), number(down.end / scale)
                falls.append(f"{name} {start} at epoch {round(step * run.pace, 1):g}, {end} at last")
                if down.start - down.end > size:
                    size, best = down.start - down.end, step
            elif (flat := still(raw * scale)) and (low := _low(study, run, measure, flat.end / scale)):
                first, last = number(flat.start / scale), number(flat.end / scale)
                stills.append(f"{name} {first} in the first third, {last} in the last, {low}")
        if falls:
            words, learning = _loss_since(run, best)
            advice = "" if learning else study.advice("high rates", _HIGH)
            yield Flag("falling score", run.name, "; ".join(falls) + words, advice, size)
        if stills:
            yield Flag("stands still", run.name, "; ".join(stills))


def _low(study: Study, run: Run, measure: Measure, level: float) -> str:
    """Return in words what a level is below: LEVEL, or a trivial model on the same test ("": nothing)."""
    if measure.chance is not None and measure.sign > 0 and level < LEVEL:
        return f"below {LEVEL:.2f}"
    for test in study.tests:
        value = study.of_run(run, test, measure)
        cells = {name: study.scored(test, measure, name).cells for name in study.baselines}
        trivial = {name: known.get((run.seed, run.fold), math.nan) for name, known in cells.items()}
        above = {name: other for name, other in trivial.items() if measure.sign * (other - value) > 0}
        if above:
            best = max(above, key=lambda name: measure.sign * above[name])
            return f"and {best} has {number(above[best])} on {test}, the network {number(value)}"
    return ""


def choices(study: Study) -> Iterator[Flag]:
    """Yield runs whose kept epoch is not the best on validation, and say so where it is the best on a test instead."""
    for run in study.finished if study.measures else ():
        first, train, kept = study.measures[0], inside(run.recipe, "train"), run.end.get("best_step")
        # Where it chooses by the mean over conditions too, their courses are logged beside the plain one.
        logged = sorted({name for e in run.evals if (name := str(e.get("evaluation"))).partition("@")[0] == VALID})
        courses = [run.course(name, first.name) for name in logged]
        steps = sorted(set.intersection(*map(set, courses))) if courses else []
        valid = {step: first.sign * float(np.mean([course[step] for course in courses])) for step in steps}
        if train.get("choose") == "last" or not isinstance(kept, int) or kept not in valid:
            continue
        top = max(valid, key=valid.__getitem__)
        size = valid[top] - valid[kept]
        # What is better by less than this is no reason to keep another epoch: that is what min_delta means.
        least = train.get("min_delta")
        if size <= max(_SAME, float(least) if isinstance(least, int | float) else 0.0):
            continue
        a, b = (number(first.sign * valid[step]) for step in (kept, top))
        words = f"kept step {kept} with {first.shown} {a} on validation, whose best is step {top} with {b}"
        if best_on := [name for name in study.tests if _best_on(run, name, study) == kept]:
            words += f"; step {kept} is the best on {' and '.join(best_on)}"
            yield Flag("selected on a test", run.name, words, size=size)
        else:
            yield Flag("not the best epoch", run.name, words, size=size)


def _best_on(run: Run, evaluation: str, study: Study) -> int | None:
    """Return the best step on an evaluation by the first measure that it has."""
    for measure in study.measures:
        if course := run.course(evaluation, measure.name):
            return max(course, key=lambda step: measure.sign * course[step])
    return None


def waiting(study: Study) -> list[Flag]:
    """Return one flag for all runs that wait for data: they share a machine and its cause."""
    shares: dict[str, tuple[float, str]] = {}
    for run in study.measured:
        known = [r for r in run.timing if finite(r.get("waiting"))]
        seconds = [r["seconds"] if finite(r.get("seconds")) else 1.0 for r in known]
        share = float(np.average([r["waiting"] for r in known], weights=seconds)) if sum(seconds) > 0 else 0.0
        if share > WAITING:
            shares[run.name] = (share, f"{share:.0%} of the time spent waiting for data")
    return worst("data-bound", shares, len(study.measured))


def memory(study: Study) -> list[Flag]:
    """Return one flag for all runs that nearly filled their device (environment.json: device_memory_bytes)."""
    shares: dict[str, tuple[float, str]] = {}
    for run in study.measured:
        whole = run.environment.get("device_memory_bytes")
        used = max((r["memory_bytes"] for r in run.timing if finite(r.get("memory_bytes"))), default=0.0)
        if isinstance(whole, int | float) and used > FULL * whole > 0:
            words = f"{used / 2**30:.1f} of {whole / 2**30:.1f} GB ({used / whole:.0%})"
            shares[run.name] = (used / whole, words)
    return worst("memory nearly full", shares, len(study.measured))


def _series(run: Run, name: str) -> tuple[Floats, Floats]:
    """Return steps and values [n] of what every step logs, where it is a number."""
    known = [(r["step"], r[name]) for r in run.steps if finite(r.get(name))]
    both: Floats = np.array(known, np.float64).reshape(-1, 2)
    return both[:, 0], both[:, 1]


def _loss_since(run: Run, best: float) -> tuple[str, bool]:
    """Return in words where the training loss went since step `best`, and whether it fell."""
    steps, values = _series(run, "loss")
    size = max(1, len(values) // 4)
    before, after = values[steps <= best][-size:], values[steps > best][-size:]
    if not len(before) or not len(after):
        return "", True
    then, now = float(np.median(before)), float(np.median(after))
    return f"; the training loss went from {then:.3g} to {now:.3g}", now < then
