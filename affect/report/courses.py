"""Flags of the course of a training: its losses, gradients and validation scores, its loading and its memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from affect.metrics.regression import Floats
from affect.report.encoders import either
from affect.report.flag import Flag, finite, worst
from affect.report.quick import FAILED
from affect.report.runs import Run
from affect.report.scores import Scores, section
from affect.report.tables import label, number
from affect.report.trends import Move, blocks, fall, rise, still

LEVEL = FAILED
"""A validation score that stands still below this (report 002's bar), or whose test score is below a baseline's, is
flagged: a run that is at a good level from the first epoch on has nothing to be blamed for."""

WAITING = 0.10
FULL = 0.90
"""Share of the device's memory; what the allocator loses between its pieces comes on top."""

LOSS_TIMES = 3.0
NORM_TIMES = 100.0

_NAN_ADVICE = "clip gradients at .3 (--optim.clip .3, report 002) and lower {rate}; in fp16 a few norms are overflows"
_EXPLODING_ADVICE = "clip gradients at .3 (--optim.clip .3, report 002), halve {rates}, or warm up longer"
_RISING_ADVICE = "halve {rates}, or let them fall (--optim.schedule cosine); a loss that rises is learning nothing"
_OVERFITTING_ADVICE = (
    "overfitting, or encoder_lr too high (report 002): stop earlier (train.patience), encoder_lr 5e-6, more dropout"
)
_FROZEN_OVERFITTING_ADVICE = "overfitting: stop earlier (train.patience), more dropout, weight_decay 1e-3"
_HIGH_ADVICE = "the rates are too high: encoder_lr 5e-6 (report 002), a lower lr"
_FROZEN_HIGH_ADVICE = "lr is too high: a lower one, or more warmup"
_FLAT_ADVICE = "encoder_lr is too small: 5e-5, or too large for the pretrained weights: 5e-6 (report 002); try both"
_FROZEN_FLAT_ADVICE = (
    "nothing is gained after the first epochs: other features or another encoder (a trained one), lr three times as "
    "high and as low; if it was learned within the first epoch, evaluate more often"
)
_WAITING_ADVICE = (
    "more loader workers (--train.workers), a faster disk; with a frozen encoder the cache (--model.cache)"
)
_MEMORY_ADVICE = "--train.budget at half of what train.log names, or --model.checkpointing: neither changes the loss"


def losses(runs: Sequence[Run]) -> Iterator[Flag]:
    """Yield losses and gradient norms that are no numbers, or that explode."""
    for run in runs:
        total = len(run.steps)
        advice = _NAN_ADVICE.format(rate=either([run], "encoder_lr", "lr"))
        steps = [r["step"] for r in run.steps if not finite(r.get("loss"))]
        if steps:
            words = f"{len(steps)} of {total} logged steps, the first is {steps[0]}"
            yield Flag("NaN loss", run.name, words, advice, len(steps) / total)
        norms = [r["step"] for r in run.steps if "grad_norm" in r and not finite(r["grad_norm"])]
        if norms:
            words = f"{len(norms)} of {total} logged steps, first {norms[0]}"
            yield Flag("NaN gradient", run.name, words, advice, len(norms) / total)
        yield from _exploding(run)


def _exploding(run: Run) -> Iterator[Flag]:
    steps, values = _series(run, "loss")
    medians, size = blocks(values)
    advice = _EXPLODING_ADVICE.format(rates=_rates(run))
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
            advice = _RISING_ADVICE.format(rates=_rates(run))
            yield Flag("rising loss", run.name, words, advice, move.end / move.start)
    steps, norms = _series(run, "grad_norm")
    usual = float(np.median(norms)) if len(norms) else 0.0
    high = np.flatnonzero(norms > NORM_TIMES * usual)
    if usual > 0 and len(high):
        words = f"norm {norms.max():.3g} at step {steps[norms.argmax()]:.0f}, the median is {usual:.3g}"
        words += f" ({len(high)} of {len(norms)} steps over {NORM_TIMES:.0f} times it)"
        advice = _EXPLODING_ADVICE.format(rates=_rates(run))
        yield Flag("exploding gradient", run.name, words, advice, float(norms.max() / usual))


def scores_over_epochs(scores: Scores) -> Iterator[Flag]:
    """Yield validation scores that fall from their best, or else stand still; all targets of a run in one flag."""
    for run in scores.runs:
        falls: list[tuple[str, Move, float]] = []
        stills: list[str] = []
        for target in scores.targets:
            steps, values = _course(scores, run, target)
            name = f"valid {label(target, scores.targets)}"
            if (down := fall(values)) is not None:
                falls.append((name, down, float(steps[down.at])))
            elif (flat := still(values)) is not None and (low := _low(scores, run, target, flat.end)):
                first, last = number(flat.start), number(flat.end)
                stills.append(f"{name} {first} in the first third, {last} in the last, {low}")
        if falls:
            said = [
                f"{name} {number(move.start)} at epoch {round(step * run.pace, 1):g}, {number(move.end)} at last"
                for name, move, step in falls
            ]
            words, learning = _loss_since(run, max(falls, key=lambda found: found[1].start - found[1].end)[2])
            advice = (
                either([run], _OVERFITTING_ADVICE, _FROZEN_OVERFITTING_ADVICE)
                if learning
                else either([run], _HIGH_ADVICE, _FROZEN_HIGH_ADVICE)
            )
            size = max(move.start - move.end for _, move, _ in falls)
            yield Flag("falling score", run.name, "; ".join(said) + words, advice, size)
        if stills:
            yield Flag("stands still", run.name, "; ".join(stills), either([run], _FLAT_ADVICE, _FROZEN_FLAT_ADVICE))


def _low(scores: Scores, run: Run, target: str, level: float) -> str:
    """Return in words what a level is below: LEVEL, or a baseline on the same test part ("": nothing)."""
    if level < LEVEL:
        return f"below {LEVEL:.2f}"
    test = scores.part(run, "test")[target]
    known = {name: scores.score(rows.values(), target) for name, rows in run.baselines.items() if rows}
    above = {name: value for name, value in known.items() if value > test}
    best = max(above, key=lambda name: above[name], default="")
    return f"and {best} has {number(above[best])} on the test part, the network {number(test)}" if best else ""


def _rates(run: Run) -> str:
    return either([run], "lr and encoder_lr", "lr")


def waiting(runs: Sequence[Run]) -> list[Flag]:
    """Return one flag for all runs that wait for data: they share a machine and its cause."""
    shares: dict[str, tuple[float, str]] = {}
    for run in runs:
        known = [r for r in run.timing if finite(r.get("waiting"))]
        seconds = [r["seconds"] if finite(r.get("seconds")) else 1.0 for r in known]
        share = float(np.average([r["waiting"] for r in known], weights=seconds)) if sum(seconds) > 0 else 0.0
        if share > WAITING:
            shares[run.name] = (share, f"{share:.0%} of the time spent waiting for data")
    return worst("data-bound", shares, len(runs), _WAITING_ADVICE)


def memory(runs: Sequence[Run]) -> list[Flag]:
    """Return one flag for all runs that nearly filled their device (environment.json: device_memory_bytes)."""
    shares: dict[str, tuple[float, str]] = {}
    for run in runs:
        whole = run.environment.get("device_memory_bytes")
        used = max((r["memory_bytes"] for r in run.timing if finite(r.get("memory_bytes"))), default=0.0)
        if isinstance(whole, int | float) and used > FULL * whole > 0:
            words = f"{used / 2**30:.1f} of {whole / 2**30:.1f} GB ({used / whole:.0%})"
            shares[run.name] = (used / whole, words)
    return worst("memory nearly full", shares, len(runs), _MEMORY_ADVICE)


def _series(run: Run, name: str) -> tuple[Floats, Floats]:
    """Return steps and values [n] of what every step logs, where it is a number."""
    known = [(r["step"], r[name]) for r in run.steps if finite(r.get(name))]
    both: Floats = np.array(known, np.float64).reshape(-1, 2)
    return both[:, 0], both[:, 1]


def _course(scores: Scores, run: Run, target: str) -> tuple[Floats, Floats]:
    """Return steps and values [n] of a target's validation score."""
    name = f"{scores.measure(target).lower()}_{target}"
    evals = [(e["step"], section(e, "scores").get(name)) for e in run.evals if e.get("split") == "valid"]
    both: Floats = np.array([pair for pair in evals if finite(pair[1])], np.float64).reshape(-1, 2)
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
