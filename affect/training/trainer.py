"""The trainer: takes a run's steps, one after another, on one process or on many."""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from affect.errors import AffectError, StoppedError, first_few
from affect.task import TRAIN, Batch
from affect.training import diagnostics, memory, plan, run_dir, signals, step, unkeyed, watchdog
from affect.training.clock import Clock
from affect.training.costs import Costs
from affect.training.loader import Collated, Loader
from affect.training.plan import Cut, holdable, padding
from affect.training.run import Run, Scores

_LOG = logging.getLogger("affect")
_WAITING = 0.10
"""Share of the time spent waiting for data above which the run says so."""
_DRIFT = 1.5
"""How many times longer, or shorter, than at first steps may take for what the costs say before the run says so."""
_WARM = 10.0
"""Seconds of training a line on speed speaks of at least: the first ones are spent starting the workers."""
_OFTEN, _SELDOM = 60.0, 600.0
"""Seconds of steps between two lines on speed, and between two on a drift."""


def train(run: Run) -> Scores:
    """Train a run to its end and return its scores. Reached by every rank."""
    with signals.heard(), run:
        try:
            trainer = Trainer(run)
            with trainer.clock:
                trainer.steps()
        except StoppedError as stop:
            # Raised by all ranks at the same place.
            if run.saved != run.state.step:
                run.save()
            raise stop.at(f"saved at step {run.state.step}", run.folder) from None
        try:
            return run.finish()
        except StoppedError as stop:
            raise stop.at(f"trained and saved at step {run.state.step}, not yet predicted", run.folder) from None


class Trainer:
    """Takes steps: loads micro-batches, adds up the exact gradient, and lets the run update."""

    def __init__(self, run: Run):
        self.run = run
        timings = run_dir.read_lines(run.folder / "timing.jsonl") if run.state.step else ()
        first = itertools.takewhile(lambda line: line["step"] <= run.schedule.per_epoch, timings)
        self.meter = Meter(run.task.unit, run.recipe.train.workers, pace(first))
        self.clock = Clock(run.engine.device)
        self.aggregator = run.task.aggregator()
        self.watches = True
        self._told: set[tuple[str, str]] = set()
        if self.aggregator is not None and run.engine.world > 1:
            raise AffectError("gradients of terms are combined in one process alone: launch with --num_processes 1")

    def steps(self) -> None:
        """Take all steps that are left."""
        run = self.run
        loader = self._loader()
        run.model.train()
        if run.engine.on_main(run.owes_evaluation):
            run.end_epoch()
        while not run.done:
            now = run.state.step
            begun, waited = time.perf_counter(), loader.waited
            watchdog.mark("loading", now + 1)
            try:
                batches = loader.take(len(run.schedule.cut(now).ranks[run.engine.rank]))
                with self._watched():
                    result, line = self._gradient(batches)
            except Exception as error:
                if not memory.is_short(error):
                    raise
                shortest = float(run.lengths(run.epoch).min())
                memory.halve(run.engine, run.state, shortest, run.checkpoints, error)
                run.optimizer.zero_grad(set_to_none=True)
                run.cut_anew()
                loader = self._loader()
                continue
            watchdog.mark("update")
            run.update(result, batches, line, partial(self._timing, now, begun, loader.waited - waited))
            if run.schedule.ends_epoch(now):
                self.meter.report(run.schedule.epoch(now), last=run.state.step == run.schedule.steps)
                run.end_epoch()
            if signals.check(run.engine, f"after step {now + 1}", due=run.due()):
                run.save()

    def _timing(self, now: int, begun: float, waited: float) -> dict[str, float]:
        """Return the timing of step `now`, which has updated and began at `begun`, `waited` seconds of it for data."""
        run, phases = self.run, self.clock.read()
        lengths, cut = run.lengths(run.schedule.epoch(now)), run.schedule.cut(now)
        timing = self.meter.time(
            lengths, cut, time.perf_counter() - begun, waited, run.engine.memory(), run.schedule.costs
        )
        if run.work is not None:
            timing |= run.work.speed(run.work.needed(lengths[cut.indices]), timing["seconds"], run.engine.world)
            timing["computed_flops"] = run.work.computed(lengths, cut, self._once(now))
        timing |= phases
        return timing

    def _once(self, now: int) -> float:
        """Return how many of a rank's first micro-batches of step `now` go forward once: the others are replayed."""
        mode = self._mode(now)
        if mode == "hold" or all(term.additive for term in self.run.terms):
            return math.inf
        return 0 if mode == "replay" else mode

    def _mode(self, now: int) -> step.Mode:
        run = self.run
        if run.state.mode != "mixed":
            return "hold" if run.state.mode == "hold" else "replay"
        return holdable(run.lengths(run.schedule.epoch(now)), run.schedule.cut(now), run.state.capacity)

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        """Say of a session's first step which modules draw what is not keyed by example."""
        if not self.watches:
            yield
            return
        run = self.run
        with unkeyed.watched(run.engine.unwrap(run.model), run.engine.device) as names:
            yield
        self.watches = False
        if names:
            if run.engine.main:
                run_dir.note(run.folder, not_keyed=names)
            run.log(
                logging.WARNING,
                f"not keyed: {first_few(names, 5)}: what they draw depends on how a batch is cut",
            )

    def _loader(self) -> Loader:
        run = self.run
        data = Collated(run.task, run.parts[TRAIN])
        orders = run.schedule.orders(run.engine.rank, run.state.step)
        return Loader(data, orders, workers=run.recipe.train.workers, pin=run.engine.accelerated)

    def _gradient(self, batches: list[Batch]) -> tuple[step.Result, dict[str, object]]:
        """Leave the next step's gradient in the parameters, repeatable with another cut; return its log's line, too."""
        run = self.run
        line, factors = run.begin_step(batches)
        run.optimizer.zero_grad(set_to_none=True)
        batches = [batch.to(run.engine.device) for batch in batches]
        watchdog.mark("forward")
        mode = self._mode(run.state.step)
        key = (run.recipe.seed, run.state.step)
        seen = diagnostics.Sums(run.task) if run.diagnoses() else None
        gradients: dict[str, Tensor] = {}
        # With one term they are the step's own; of several processes none has them whole.
        if self.aggregator is not None or (seen is not None and run.engine.world == 1 and len(run.terms) > 1):
            gradients = step.by_term(
                run.engine, run.model, run.terms, batches, mode=mode, key=key, factors=factors,
                parameters=run.task.shared_parameters(run.engine.unwrap(run.model)),
            )  # fmt: skip
        result = step.accumulate(
            run.engine, run.model, run.terms, batches, mode=mode, key=key, factors=factors,
            see=None if seen is None else seen.add,
        )  # fmt: skip
        if self.aggregator is not None:
            # A row of zeros would be the least of all gradients to some of them, and stop the others.
            self._combine({name: row for name, row in gradients.items() if name not in result.undefined})
        if seen is not None:
            means = seen.means(run.engine)
            of_gradients = diagnostics.of_gradients(gradients, run.engine.loss_scale())
            line["diagnostics"] = {**means, **self._conclude(means, result), **of_gradients}
        return result, line

    def _conclude(self, means: Mapping[str, float], result: step.Result) -> Mapping[str, float]:
        """Return what the task concludes from a step's diagnostics; log what looks wrong, once a session."""
        run, now = self.run, self.run.state.step + 1
        values = {name: float(value) for name, value in result.terms.items()}
        numbers, signs = run.task.conclusions({**values, **means}, now / run.schedule.steps)
        for flag in signs:
            if (flag.kind, flag.advice) not in self._told:
                self._told.add((flag.kind, flag.advice))
                run.log(logging.WARNING, f"step {now}: {flag.kind}: {flag.evidence}; {flag.advice}")
        return numbers

    def _combine(self, gradients: Mapping[str, Tensor]) -> None:
        """Replace the gradient of the shared parameters by what the task's aggregator makes of the terms'."""
        assert self.aggregator is not None
        if not gradients:
            return
        shared = list(self.run.task.shared_parameters(self.run.engine.unwrap(self.run.model)))
        combined = self.aggregator(torch.stack(list(gradients.values())))
        for parameter, part in zip(shared, torch.split(combined, [p.numel() for p in shared]), strict=True):
            parameter.grad = part.view_as(parameter).to(parameter.dtype).clone()


class Meter:
    """Times of steps: each for timing.jsonl, their sum for a line in the log."""

    def __init__(self, unit: str, workers: int, usual: float | None = None):
        """`usual` is how a resumed run's steps compared with its costs in its first epoch (`pace`)."""
        self.unit, self.workers, self.usual = unit, workers, usual
        self._timings: list[dict[str, float]] = []
        self._took = self._told_at = 0.0
        self._advised = False

    def time(
        self, lengths: NDArray[np.float64], cut: Cut, seconds: float, waited: float, memory: int,
        costs: Costs | None = None,
    ) -> dict[str, float]:  # fmt: skip
        """Return the timing of a step of rows of `lengths` [n] that took `seconds`, `waited` of them for data.

        Where costs are known, `predicted` are the seconds that they say of the slowest rank.
        """
        timing = {
            "seconds": seconds,
            "units_per_second": float(lengths[cut.indices].sum()) / seconds,
            "padding": padding(lengths, [cut]),
            "waiting": waited / seconds,
            "memory_bytes": float(memory),
        }
        if costs is not None:
            timing["predicted"] = max(plan.seconds(lengths, rank, costs) for rank in cut.ranks)
        self._timings.append(timing)
        return timing

    def report(self, epoch: int, last: bool) -> None:
        """Log what the steps since the last such line took; short epochs share a line, one a minute at most."""
        timings = self._timings
        took = sum(t["seconds"] for t in timings)
        if not timings or (took < (_OFTEN if self._took else _WARM) and not last):
            return
        self._took += took
        seconds_each = [t["seconds"] for t in timings]
        speed, padded, waiting = (
            np.average([t[name] for t in timings], weights=seconds_each)
            for name in ("units_per_second", "padding", "waiting")
        )
        _LOG.info(
            "epoch %d: %.1f %s a second, padding %.0f %%, waiting for data %.0f %%, memory %.2f GB%s",
            epoch + 1, speed, self.unit, 100 * padded, 100 * waiting,
            max(t["memory_bytes"] for t in timings) / 2**30, _computing(timings),
        )  # fmt: skip
        if waiting > _WAITING and took > _WARM and not self._advised:
            self._advised = True
            _LOG.warning(
                "%.0f %% of the time was spent waiting for data, read or augmented: raise --train.workers (now %d)",
                100 * waiting, self.workers,
            )  # fmt: skip
        self._tell_drift(epoch)
        timings.clear()

    def _tell_drift(self, epoch: int) -> None:
        """Log where steps take another multiple of what the costs say than at first, or when that was last told."""
        ratio = pace(self._timings)
        if ratio is None:
            return
        if self.usual is not None and 1 / _DRIFT <= ratio / self.usual <= _DRIFT:
            return
        if self._told_at and self._took - self._told_at < _SELDOM:
            return
        if self.usual is not None:
            self._told_at = self._took
            _LOG.warning(
                "epoch %d: steps take %.2f times what the costs say, and took %.2f times before: another device, or "
                "one that is busy; ranks are balanced by the costs that the run began with, and the loss is the same",
                epoch + 1, ratio, self.usual,
            )  # fmt: skip
        self.usual = ratio


def _computing(timings: Sequence[Mapping[str, float]]) -> str:
    """Return how much of its device's peak a run took, in words ("": its operations are not known)."""
    counted = [t for t in timings if "flops" in t]
    if not counted:
        return ""
    rate, share = (
        np.average([t[name] for t in counted], weights=[t["seconds"] for t in counted])
        for name in ("tflops_per_second", "peak_share")
    )
    return f", {rate:.3g} TFLOP/s ({100 * share:.2g} % of the peak)"


def pace(timings: Iterable[Mapping[str, float]]) -> float | None:
    """Return how many times as long as the costs say steps took, their median.

    None where costs are not known, or the steps took too little time together to tell.
    """
    predicted = [t for t in timings if t.get("predicted")]
    if sum(t["seconds"] for t in predicted) < _WARM:
        return None
    return float(np.median([t["seconds"] * (1 - t["waiting"]) / t["predicted"] for t in predicted]))
