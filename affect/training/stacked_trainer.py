"""The stacked trainer: runs of a small model take their steps as one stack, as many as the cache holds."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from affect import keyed
from affect.errors import StoppedError
from affect.tables import counted
from affect.task import Batch, Key, Stackable, StackableModel, Task
from affect.training import clock, flat, signals
from affect.training.clock import Clock
from affect.training.distributed import Engine, inner
from affect.training.run import DivergedError, Run
from affect.training.stack import Stack

_LOG = logging.getLogger("affect")
_CACHE = 1.5e6
"""Weights that a CPU reads fast, with gradients and two moments: beyond, a stack's optimiser waits for memory."""
_MOST = 60
"""Runs of a stack at most: each keeps files open."""
_MANY = 2000
"""Steps from which a trace, which takes a second and saves a fifth of each, is worth it."""
_AHEAD = 128
"""Rows whose batches and masks are made at once: most of what a small one costs is not its numbers."""
_SAYS = 15.0
"""Seconds between lines on how far the runs are, where there is no bar."""

Watching = Callable[[Sequence[Run]], None]
"""Sees runs after each of their epochs."""


def can_stack(engine: Engine, task: Task) -> bool:
    """Tell whether runs of this task train together here: in one process, and not under fp16's loss scale."""
    several = task.aggregator() is None and task.recipe.train.diagnostics_every is None
    return isinstance(task, Stackable) and several and engine.world == 1 and engine.precision != "fp16"


def width(engine: Engine, task: Task) -> int:
    """Return how many runs of a task take their steps as one stack on this device."""
    assert isinstance(task, Stackable)
    if task.together is not None:
        return task.together
    if engine.device.type != "cpu":
        return _MOST
    return max(1, min(_MOST, int(_CACHE // sum(p.numel() for p in task.build_model().parameters()))))


def train(runs: Sequence[Run], watch: Watching | None = None) -> dict[Run, str]:
    """Train all runs to their ends, and return those that diverged on their way, each with the reason.

    What each writes is what it would write alone, to rounding. Raises StoppedError, each run saved where it stands,
    where the process is asked to stop.
    """
    trainer = StackedTrainer(runs, watch)
    with signals.heard():
        try:
            with trainer.clock:
                trainer.steps()
        except StoppedError as stop:
            trainer.release()
            left = [run for run in runs if run not in trainer.failed]
            for run in left:
                if run.saved != run.state.step:
                    run.save()
                run.log(logging.INFO, f"stopped: saved at step {run.state.step}")
            raise StoppedError(stop.number, f"{counted(len(left), 'run')} saved where they are") from None
    return trainer.failed


class StackedTrainer:
    """Takes the steps of several runs at once; each run updates, evaluates and saves itself."""

    def __init__(self, runs: Sequence[Run], watch: Watching | None = None):
        self.runs, self.watch = list(runs), watch
        self.engine = runs[0].engine
        self.failed: dict[Run, str] = {}
        self.clock = Clock(self.engine.device)
        self._stack: tuple[list[Run], Stack] | None = None
        self._said = time.monotonic()
        self._losses: list[float] = []
        """Of each step of each run since they were last shown."""

    def steps(self) -> None:
        """Take all steps that are left."""
        for run in self.runs:
            if run.owes_evaluation():
                run.end_epoch()
        steps, before = sum(r.schedule.steps for r in self.runs), sum(r.state.step for r in self.runs)
        with tqdm(total=steps, initial=before, unit="step", dynamic_ncols=True, leave=False, disable=None) as bar:
            while active := [run for run in self.runs if not run.done and run not in self.failed]:
                # The hindmost first: after an interruption not all stand at the same epoch.
                step = min(run.state.step for run in active)
                level = [run for run in active if run.state.step == step]
                for pace in sorted({run.schedule.per_epoch for run in level}):
                    self._epoch([run for run in level if run.schedule.per_epoch == pace], bar)
                self._tell(bar, level[0].schedule.epoch(step))
        self.release()

    def _epoch(self, runs: list[Run], bar: tqdm[Any]) -> None:
        """Take the steps of an epoch with these runs, and let each evaluate."""
        begun, count = time.perf_counter(), len(runs)
        clock.mark("loading")
        draws = {run: self._draws(run, max(1, _AHEAD // (count * run.schedule.batch))) for run in runs}
        ended = False
        while runs and not ended:
            ended = runs[0].schedule.ends_epoch(runs[0].state.step)
            drawn = [next(draws[run]) for run in runs]
            batches, noises = [batch for batch, _ in drawn], [noise for _, noise in drawn]
            started = [run.begin_step([batch]) for run, batch in zip(runs, batches, strict=True)]
            with self.engine.autocast():
                results = self._stacked(runs).gradient(
                    runs[0].terms, batches, noises, [factors for _, factors in started]
                )
            clock.mark("update")
            share, phases = (time.perf_counter() - begun) / count, self.clock.read() if ended else {}
            for run, result, batch, (line, _) in zip(runs, results, batches, started, strict=True):
                try:
                    timed = partial(self._timing, run, share, count, phases) if ended else dict
                    run.update(result, [batch], line, timed)
                    self._losses.append(float(result.loss))
                except DivergedError as error:
                    self.failed[run] = str(error)
                    _LOG.warning("%s; the other runs go on", error)
            bar.update(len(runs))
            runs = [run for run in runs if run not in self.failed]
            if not ended:
                clock.mark("loading")
                # Between steps, and not before an evaluation: that one is asked itself.
                signals.check(self.engine, "between two steps")
                for run in runs:
                    if run.due():
                        run.save()
        for run in runs:
            run.end_epoch()
        if self.watch is not None and runs:
            self.watch(runs)

    def _timing(self, run: Run, seconds: float, together: int, phases: dict[str, float]) -> dict[str, float]:
        """Return the timing of an epoch, of whose time `seconds` are this run's share, but for its last update."""
        timing = {
            "seconds": seconds, "units_per_second": len(run.parts["train"]) / max(seconds, 1e-9), "padding": 0.0,
            "waiting": 0.0, "memory_bytes": float(self.engine.memory()), "together": together,
        }  # fmt: skip
        if run.work is not None:
            timing |= run.work.speed(run.work.needed(run.lengths(run.schedule.epoch(run.state.step - 1))), seconds, 1)
        return timing | {phase: taken / together for phase, taken in phases.items()}

    def _draws(self, run: Run, steps: int) -> Iterator[tuple[Batch, dict[str, Tensor]]]:
        """Yield the batches of a run's epoch and their noise, the masks that `Trainer` gives: `steps` at a time."""
        task, model, seed, epoch = run.task, run.model, run.recipe.seed, run.epoch
        assert isinstance(task, Stackable) and isinstance(model, StackableModel)
        places = np.asarray(run.rows(epoch)["row"][:], dtype=np.intp)
        for first in itertools.count(run.state.step, steps):
            now = [k for k in range(first, min(first + steps, run.schedule.steps)) if run.schedule.epoch(k) == epoch]
            members = [run.schedule.cut(k).ranks[0][0].indices for k in now]
            sizes = [len(rows) for rows in members]
            whole = task.batch(places[np.concatenate(members)], key=Key(seed=seed, epoch=epoch))
            if self.engine.accelerated:
                whole = whole.pin_memory()
            whole = whole.to(self.engine.device)
            with keyed.examples(seed, np.repeat(now, sizes).tolist(), whole.ids, self.engine.device):
                noise = {name: torch.split(masks, sizes) for name, masks in model.draw(len(whole.ids)).items()}
            for k, batch in enumerate(whole.split(sizes)):
                yield batch, {name: masks[k] for name, masks in noise.items()}

    def _stacked(self, runs: list[Run]) -> Stack:
        """Return the runs' stack; it is made anew only when they are others."""
        if self._stack is None or self._stack[0] != runs:
            self.release()
            self._stack = (runs, Stack([run.model for run in runs]))
        elif len(runs) == 1 and not self._stack[1].traces and self._is_worth(runs[0]):
            flat.lay_out(inner(runs[0].optimizer))
            self._stack[1].traces = True
        return self._stack[1]

    def _is_worth(self, run: Run) -> bool:
        """Tell whether a run that has taken a step here has so many to come that they are traced."""
        left = run.schedule.steps - run.state.step
        return left >= _MANY and not self.engine.accelerated and flat.usable(inner(run.optimizer))

    def release(self) -> None:
        """Give the models that are stacked their parameters back."""
        if self._stack is not None:
            self._stack[1].release()
            self._stack = None

    def _tell(self, bar: tqdm[Any], epoch: int) -> None:
        """Show the runs' mean loss in this epoch and the mean of their best scores: at the bar, or in a line."""
        going = [run for run in self.runs if run not in self.failed]
        if not self._losses or not going:
            return
        (first, *_), losses = self.runs[0].measures, self._losses
        shown, self._losses = {"loss": f"{np.mean(losses):.3f}"}, []
        if best := [run.state.best for run in self.runs if run.state.best is not None]:
            shown[f"mean best {first.shown}"] = f"{np.mean(best):.3f}"
        bar.set_postfix(shown, refresh=False)
        if bar.disable and time.monotonic() - self._said > _SAYS:
            self._said = time.monotonic()
            hindmost = min(going, key=lambda run: run.state.step)
            left = "" if hindmost.done else hindmost.journal.left(hindmost.state.step)
            _LOG.info(
                "epoch %d of %d: %s; %d of %d runs over%s", epoch + 1, hindmost.schedule.epochs,
                ", ".join(f"{name} {value}" for name, value in shown.items()),
                sum(run.done for run in self.runs), len(self.runs), left and f"; {left}",
            )  # fmt: skip
