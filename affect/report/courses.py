"""Flags of the course of a training: its losses, gradients and validation scores, its loading and its memory."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from affect.findings import Flag, finite, worst
from affect.report.gaps import unit
from affect.report.runs import VALID, Run
from affect.report.study import Study
from affect.report.systems import Floats
from affect.report.trends import Move, blocks, fall, rise, still
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
_NAN = "clip gradients (--optim.clip .3) and lower the learning rates; in fp16 a few norms are overflows"
_EXPLODING = "clip gradients (--optim.clip .3), halve the learning rates, or warm up longer"
_RISING = "halve the learning rates, or let them fall (--optim.schedule cosine); a loss that rises is learning nothing"
_FALLING = "overfitting: stop earlier (train.patience), more dropout, more weight decay"
_HIGH = "the learning rates are too high: lower ones, or more warmup"
_FLAT = (
    "nothing is gained after the first epochs: other features or another model, a learning rate three times as "
    "high and "
    "as low; if it was learned within the first epoch, evaluate more often"
)
_UNDEFINED = "batches that tell a term nothing (all labels missing or equal): a larger batch, or no such term"
_WAITING = "more loader workers (--train.workers), a faster disk"
_MEMORY = "--train.budget at half of what train.log names: it doesn't change the loss"


def losses(study: Study, runs: Sequence[Run]) -> Iterator[Flag]:
    """Yield losses and gradient norms that are no numbers, or that explode, and terms that took no part."""
    for run in runs:
        total = len(run.steps)
        # A step that fp16 skipped has no update to be wrong.
        taken = [r for r in run.steps if not r.get("skipped")]
        steps = [r["step"] for r in taken if not finite(r.get("loss"))]
        if steps:
            words = f"{len(steps)} of {total} logged steps, the first is {steps[0]}"
            yield Flag("NaN loss", run.name, words, study.advice("NaN loss", _NAN), len(steps) / total)
        norms = [r["step"] for r in taken if r.get("grad_norm") is not None and not finite(r["grad_norm"])]
        if norms:
            words = f"{len(norms)} of {total} logged steps, first {norms[0]}"
            yield Flag("NaN gradient", run.name, words, study.advice("NaN loss", _NAN), len(norms) / total)
        counts: dict[str, int] = {}
        for name in (name for r in run.steps if isinstance(r.get("undefined"), list) for name in r["undefined"]):
            counts[str(name)] = counts.get(str(name), 0) + 1
        for name, count in counts.items():
            words = f"the loss term {name} took no part in {count} of {total} logged steps"
            yield Flag("undefined term", run.name, words, _UNDEFINED, count / total)
        yield from _exploding(study, run)


def _exploding(study: Study, run: Run) -> Iterator[Flag]:
    steps, values = _series(run, "loss")
    medians, size = blocks(values)
    advice = study.advice("exploding", _EXPLODING)
    for i in range(2, len(medians)):
        earlier = float(np.median(values[: i * size]))
        # Above its start too: what only comes back from near 0 has not exploded. Some losses may be negative.
        if earlier > 0 and medians[i] > max(LOSS_TIMES * earlier, medians[0]) and medians[i] > medians[i - 1]:
            words = f"loss {medians[i]:.3g} at steps {steps[i * size]:.0f} on, {earlier:.3g} (median) before"
            yield Flag("exploding loss", run.name, words, advice, medians[i] / earlier)
            break
    else:
        move = rise(values)
        if move is not None:
            words = f"loss {move.start:.3g} at steps {steps[move.at]:.0f} on, {move.end:.3g} at last"
            yield Flag("rising loss", run.name, words, study.advice("rising loss", _RISING), move.end / move.start)
    steps, norms = _series(run, "grad_norm")
    usual = float(np.median(norms)) if len(norms) else 0.0
    high = np.flatnonzero(norms > NORM_TIMES * usual)
    if usual > 0 and len(high):
        words = f"norm {norms.max():.3g} at step {steps[norms.argmax()]:.0f}, the median is {usual:.3g}"
        words += f" ({len(high)} of {len(norms)} steps over {NORM_TIMES:.0f} times it)"
        yield Flag("exploding gradient", run.name, words, advice, float(norms.max() / usual))


def scores_over_epochs(study: Study) -> Iterator[Flag]:
    """Yield validation scores that fall from their best, or else stand still; all measures of a run in one flag."""
    for run in study.finished:
        falls: list[tuple[str, Move, float, float]] = []
        stills: list[str] = []
        for measure in (m for m in study.headline if not m.parts):
            course = run.course(VALID, measure.name)
            steps, raw = list(course), np.array(list(course.values()), np.float64)
            scale = measure.sign / unit(measure, float(np.median(raw)) if len(raw) else 0.0)
            values = raw * scale
            name = f"valid {measure.shown}"
            if (down := fall(values)) is not None:
                falls.append((name, down, float(steps[down.at]), scale))
            elif (flat := still(values)) is not None and (low := _low(study, run, measure, flat.end / scale)):
                first, last = number(flat.start / scale), number(flat.end / scale)
                stills.append(f"{name} {first} in the first third, {last} in the last, {low}")
        if falls:
            said = [
                f"{name} {number(move.start / scale)} at epoch {round(step * run.pace, 1):g}, "
                f"{number(move.end / scale)} at last"
                for name, move, step, scale in falls
            ]
            words, learning = _loss_since(run, max(falls, key=lambda found: found[1].start - found[1].end)[2])
            advice = study.advice("falling score", _FALLING) if learning else study.advice("high rates", _HIGH)
            size = max(move.start - move.end for _, move, _, _ in falls)
            yield Flag("falling score", run.name, "; ".join(said) + words, advice, size)
        if stills:
            yield Flag("stands still", run.name, "; ".join(stills), study.advice("stands still", _FLAT))


def _low(study: Study, run: Run, measure: Measure, level: float) -> str:
    """Return in words what a level is below: LEVEL, or a trivial model on the same test ("": nothing)."""
    if measure.chance is not None and measure.sign > 0 and level < LEVEL:
        return f"below {LEVEL:.2f}"
    for test in (name for name in study.evaluations if name != VALID):
        value = measure.sign * study.of_run(run, test, measure)
        known = {
            name: study.scored(test, measure, name).cells.get((run.seed, run.fold), math.nan)
            for name in study.baselines
        }
        above = {name: other for name, other in known.items() if measure.sign * other > value}
        best = max(above, key=lambda name: measure.sign * above[name], default="")
        if best:
            return f"and {best} has {number(above[best])} on {test}, the network {number(measure.sign * value)}"
    return ""


def choices(study: Study) -> Iterator[Flag]:
    """Yield runs whose kept epoch is not the best on validation, and say so where it is the best on a test instead."""
    for run in study.finished:
        train = inside(run.recipe, "train")
        if train.get("choose") == "last" or not study.measures:
            continue
        first = study.measures[0]
        # Where it chooses by the mean over conditions too, their courses are logged beside the plain one.
        logged = {str(e.get("evaluation")) for e in run.evals}
        courses = [run.course(name, first.name) for name in sorted(logged) if name.partition("@")[0] == VALID]
        both = set.intersection(*map(set, courses)) if courses else set()
        valid = {step: first.sign * float(np.mean([course[step] for course in courses])) for step in sorted(both)}
        step = run.end.get("best_step")
        if not isinstance(step, int) or step not in valid:
            continue
        top = max(valid, key=valid.__getitem__)
        # What is better by less than this is no reason to keep another epoch: that is what min_delta means.
        least = train.get("min_delta")
        if valid[top] - valid[step] <= max(_SAME, float(least) if isinstance(least, int | float) else 0.0):
            continue
        a, b = (number(first.sign * valid[at]) for at in (step, top))
        evidence = f"kept step {step} with {first.shown} {a} on validation, whose best is step {top} with {b}"
        best_on = [name for name in study.evaluations if name != VALID and _best_on(run, name, study, step)]
        if best_on:
            evidence += f"; step {step} is the best on {' and '.join(best_on)}"
            advice = "choose on validation alone: a score chosen on a test is no test score"
            yield Flag("selected on a test", run.name, evidence, advice, valid[top] - valid[step])
        else:
            advice = "the kept epoch is not the best on validation: train that fold again with --overwrite"
            yield Flag("not the best epoch", run.name, evidence, advice, valid[top] - valid[step])


def _best_on(run: Run, evaluation: str, study: Study, step: int) -> bool:
    """Tell whether a step is the best on an evaluation by the first measure that it has."""
    for measure in study.measures:
        course = run.course(evaluation, measure.name)
        if course:
            return step == max(course, key=lambda at: measure.sign * course[at])
    return False


def waiting(study: Study, runs: Sequence[Run]) -> list[Flag]:
    """Return one flag for all runs that wait for data: they share a machine and its cause."""
    shares: dict[str, tuple[float, str]] = {}
    for run in runs:
        known = [r for r in run.timing if finite(r.get("waiting"))]
        seconds = [r["seconds"] if finite(r.get("seconds")) else 1.0 for r in known]
        share = float(np.average([r["waiting"] for r in known], weights=seconds)) if sum(seconds) > 0 else 0.0
        if share > WAITING:
            shares[run.name] = (share, f"{share:.0%} of the time spent waiting for data")
    return worst("data-bound", shares, len(runs), study.advice("data-bound", _WAITING))


def memory(study: Study, runs: Sequence[Run]) -> list[Flag]:
    """Return one flag for all runs that nearly filled their device (environment.json: device_memory_bytes)."""
    shares: dict[str, tuple[float, str]] = {}
    for run in runs:
        whole = run.environment.get("device_memory_bytes")
        used = max((r["memory_bytes"] for r in run.timing if finite(r.get("memory_bytes"))), default=0.0)
        if isinstance(whole, int | float) and used > FULL * whole > 0:
            words = f"{used / 2**30:.1f} of {whole / 2**30:.1f} GB ({used / whole:.0%})"
            shares[run.name] = (used / whole, words)
    return worst("memory nearly full", shares, len(runs), study.advice("memory nearly full", _MEMORY))


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
