"""Flags of the learning curves of a training: its losses, gradients and validation scores, its loading and its memory.

Legend: E evaluations, N logged steps.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

import numpy as np

from affect.findings import Flag, finite
from affect.report.gaps import unit
from affect.report.runs import VALID, Run
from affect.report.study import Study
from affect.report.systems import Floats
from affect.tables import inside, number
from affect.task import Measure

LEVEL = 0.6
"""A validation score that stands still below this (report 002's bar; of measures whose chance level is known), or
whose test score is below a trivial model's, is flagged: a run that is at a good level from the first epoch on has
nothing to be blamed for."""

WAITING = 0.10
LONG = 60.0
"""Seconds of steps from which waiting for data is worth a word: the first of them are the workers starting."""
FULL = 0.90
"""Share of the device's memory; what the allocator loses between its pieces comes on top."""

LOSS_TIMES = 3.0
NORM_TIMES = 100.0

FALL = 0.03
"""A score that ends by more than this under its best falls."""

STILL = 0.01
"""A score that rises by less than this stands still however smooth its course is; by more than FALL it rises."""

RISE_TIMES = 1.5

STUCK = 0.02
"""A loss that falls by less than this share of itself, or than the noise of its first steps, does not fall."""

TINY = 1e-7
"""A gradient of this norm moves no weight beyond rounding."""

_SMOOTH = 3
_FEWEST_FALL = 3
_FEWEST_STILL = 6
_FEWEST_STEPS = 30
_FIRST = 10
_BLOCKS = 20
_LEAST_BLOCK = 5
_NOISES = 3.0
_ERRORS = 2.5

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
            start, end, at = move
            words = f"loss {start:.3g} at steps {steps[at]:.0f} on, {end:.3g} at last"
            yield Flag("rising loss", run.name, words, size=end / start)
        elif level := flat(values):
            words = f"loss {level[0]:.3g} in its first steps, {level[1]:.3g} in the last quarter of {len(values)}"
            yield Flag("loss does not fall", run.name, words)
    steps, norms = _series(run, "grad_norm")
    usual = float(np.median(norms)) if len(norms) else 0.0
    # Where norms have fallen for good, the first of them are no explosion: what was before a step counts, too.
    medians, size = blocks(norms)
    before = medians[np.maximum(np.arange(len(norms)) // size - 1, 0).clip(max=len(medians) - 1)] if len(medians) else 0
    high = int((norms > NORM_TIMES * np.maximum(usual, before)).sum())
    if usual > 0 and high:
        words = f"norm {norms.max():.3g} at step {steps[norms.argmax()]:.0f}, the median is {usual:.3g}"
        words += f" ({high} of {len(norms)} steps over {NORM_TIMES:.0f} times it)"
        yield Flag("exploding gradient", run.name, words, size=float(norms.max() / usual))
    yield from _vanishing(run, steps, norms, values)


def _vanishing(run: Run, steps: Floats, norms: Floats, losses: Floats) -> Iterator[Flag]:
    """Yield gradients that are nothing from the start, or became so where the loss had not fallen by half."""
    medians, size = blocks(norms)
    if len(medians) < 3:
        return
    usual, last = float(medians[:-1].max()), float(medians[-1])
    if usual < TINY:
        yield Flag("vanishing gradient", run.name, f"norm {usual:.3g} at most, all steps", size=math.inf)
        return
    first, end = (float(np.median(part)) for part in (losses[:size], losses[-size:])) if len(losses) else (0.0, 0.0)
    # Of a loss that has fallen to little a small gradient is what is wanted.
    if last * NORM_TIMES < usual and end > first / 2 > 0:
        words = f"norm {last:.3g} at steps {steps[(len(medians) - 1) * size]:.0f} on, {usual:.3g} (median) before"
        words += f", with the loss at {end:.3g} of {first:.3g}"
        yield Flag("vanishing gradient", run.name, words, size=usual / max(last, TINY))


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
                start, end, at = down
                step = list(course)[at]
                epoch = f"{round(step * run.pace, 1):g}"
                falls.append(f"{name} {number(start / scale)} at epoch {epoch}, {number(end / scale)} at last")
                if start - end > size:
                    size, best = start - end, step
            elif flat := still(raw * scale):
                first, last = (level / scale for level in flat)
                if low := _low(study, run, measure, last):
                    stills.append(f"{name} {number(first)} in the first third, {number(last)} in the last, {low}")
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
        trivial = {name: scores.get((run.seed, run.fold), math.nan) for name, scores in cells.items()}
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


def waiting(study: Study) -> Iterator[Flag]:
    """Yield runs that wait for data."""
    for run in study.measured:
        timed = [r for r in run.timing if finite(r.get("waiting"))]
        seconds = [r["seconds"] if finite(r.get("seconds")) else 1.0 for r in timed]
        share = float(np.average([r["waiting"] for r in timed], weights=seconds)) if sum(seconds) >= LONG else 0.0
        if share > WAITING:
            yield Flag("data-bound", run.name, f"{share:.0%} of the time spent waiting for data", size=share)


def memory(study: Study) -> Iterator[Flag]:
    """Yield runs that nearly filled their device (environment.json: device_memory_bytes)."""
    for run in study.measured:
        whole = run.environment.get("device_memory_bytes")
        used = max((r["memory_bytes"] for r in run.timing if finite(r.get("memory_bytes"))), default=0.0)
        if isinstance(whole, int | float) and used > FULL * whole > 0:
            words = f"{used / 2**30:.1f} of {whole / 2**30:.1f} GB ({used / whole:.0%})"
            yield Flag("memory nearly full", run.name, words, size=used / whole)


def _series(run: Run, name: str) -> tuple[Floats, Floats]:
    """Return steps and values [n] of what every step logs, where it is a number."""
    points = [(r["step"], r[name]) for r in run.steps if finite(r.get(name))]
    both: Floats = np.array(points, np.float64).reshape(-1, 2)
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


def fall(values: Floats) -> tuple[float, float, int] | None:
    """Return from where a score [E] fell to its end, and the best's place; None where it did not.

    From six evaluations on means of three neighbours are compared, and their noise counts too: the best of many
    evaluations lies above the others by chance alone.
    """
    if len(values) < _FEWEST_FALL:
        return None
    few = len(values) < 2 * _SMOOTH
    size, least = (1, FALL - 1e-9) if few else (_SMOOTH, max(FALL, _NOISES * noise(values) * math.sqrt(2 / _SMOOTH)))
    means = np.convolve(values, np.ones(size) / size, mode="valid")
    top = int(means.argmax())
    best = top + int(values[top : top + size].argmax())
    return (float(values[best]), float(means[-1]), best) if means[top] - means[-1] > least else None


def still(values: Floats) -> tuple[float, float] | None:
    """Return the means of the first and the last third of a score [E] that stands still; None where it does not.

    It does where the last third is no better than the first within the noise of neighbouring evaluations.
    """
    if len(values) < _FEWEST_STILL:
        return None
    size = len(values) // 3
    first, last = float(values[:size].mean()), float(values[-size:].mean())
    error = noise(values) * math.sqrt(2 / size)
    return (first, last) if last - first <= min(max(STILL, _ERRORS * error), FALL) else None


def rise(losses: Floats) -> tuple[float, float, int] | None:
    """Return from where a loss [N] rose to its end, and the step's place; None where it did not.

    Medians of neighbouring steps are compared: the last of them with the lowest. A loss that comes back by less than
    half of what it fell by has not risen; one that is not positive has no ratio.
    """
    medians, size = blocks(losses)
    if len(medians) < 3:
        return None
    low = int(medians.argmin())
    best, last, first = float(medians[low]), float(medians[-1]), float(medians[0])
    least = max((first - best) / 2, _NOISES * noise(medians))
    return (best, last, low * size) if best > 0 and last > RISE_TIMES * best and last - best > least else None


def flat(losses: Floats) -> tuple[float, float] | None:
    """Return the level of a loss [N] in its first steps and in its last quarter where it has not fallen, else None.

    Few first steps may be all that tell of a fall, or too few to tell it from their noise: both are looked at.
    """
    if len(losses) < _FEWEST_STEPS:
        return None
    last, level = float(np.mean(losses[-(len(losses) // 4) :])), -math.inf
    for size in (_FIRST, max(_FIRST, len(losses) // _BLOCKS)):
        first = float(np.mean(losses[:size]))
        error = float(np.std(losses[:size], ddof=1)) / math.sqrt(size)
        if first - last > max(STUCK * abs(first), 2 * error):
            return None
        level = max(level, first)
    return level, last


def blocks(values: Floats) -> tuple[Floats, int]:
    """Return the medians of neighbouring values, and how many each is of: the loss of one small batch says little."""
    size = max(_LEAST_BLOCK, math.ceil(len(values) / _BLOCKS))
    starts = range(0, len(values) - size + 1, size)
    medians: Floats = np.array([np.median(values[i : i + size]) for i in starts], np.float64)
    return medians, size


def noise(values: Floats) -> float:
    """Return the deviation of single values around their course, told by second differences (a slope is no noise)."""
    bends = np.abs(np.diff(values, 2))
    return float(1.4826 * np.median(bends) / math.sqrt(6)) if len(bends) else 0.0
