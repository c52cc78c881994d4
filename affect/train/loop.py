"""The loop: one run of one recipe on one fold, from the first step to the test part's predictions."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from safetensors.torch import load_file

from affect.errors import AffectError, StoppedError
from affect.recipe import Recipe
from affect.task import Batch, Row, Task
from affect.train import (
    checkpoint,
    course,
    ending,
    evaluations,
    interrupt,
    memory,
    opening,
    optim,
    probe,
    step,
    watchdog,
)
from affect.train.checkpoint import State
from affect.train.engine import Engine
from affect.train.evaluate import predict
from affect.train.journal import Journal
from affect.train.loader import Collated, Loader
from affect.train.meter import Meter
from affect.train.schedule import Schedule
from affect.train.watch import Watch, diverged

_LOG = logging.getLogger("affect")
_OVERFLOWS = 50
"""fp16 overflows in a row after which the loss scale can't be what is wrong."""


class Run:
    """One run: a task's model trained on the steps of a schedule, evaluated on its way and at its end."""

    @interrupt.stoppable
    def __init__(
        self, engine: Engine, task: Task, recipe: Recipe, folder: Path, *, experiment: str, resume: str,
        ends: Sequence[str] | None = None, watch: Watch | None = None, on_save: Callable[[], None] | None = None,
    ):  # fmt: skip
        """Make or resume all that the run needs; at last it predicts the parts `ends` (all). Raises AffectError.

        `on_save` is called on the main rank whenever the best weights are new, and at the end.
        """
        self.on_save = on_save if engine.main else None
        self.ends, self.watch = ending.parts_of(task) if ends is None else ends, watch
        self.engine, self.task, self.recipe, self.folder, self.experiment = engine, task, recipe, folder, experiment
        self.checkpoints = folder / "checkpoints"
        self.parts = task.datasets()
        self.lengths = np.asarray(self.parts["train"]["length"], dtype=np.float64)
        self.loss = task.loss()
        with engine.seeded(recipe.seed):
            model = task.model().to(engine.device)
        engine.everywhere(lambda: task.prepare(model, engine.local_rank, engine.local_world))
        watchdog.mark("measuring")
        chosen = probe.choose(engine, task, model, self.loss, self.parts["train"], recipe)
        self.opening = [chosen.words]
        self.state = State(budget=chosen.budget, mode=chosen.mode)
        self.average = optim.Average(model, recipe.optim.ema) if recipe.optim.ema else None
        optimizer = optim.make(task.parameter_groups(model), recipe.optim)
        self.model, self.optimizer = engine.prepare(model, optimizer, recipe.optim)
        # Those that the engine made of the model's, perhaps.
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        watchdog.mark("resuming")
        self._resume(resume)
        self.schedule = self._schedule()
        self.meter = Meter(self.lengths, task.unit, recipe.train.workers)
        self.overflows, self.saved_at = 0, time.monotonic()

    def _resume(self, resume: str) -> None:
        """Take up the checkpoint that `resume` names, and drop those that a new course makes untrue."""
        # What can't be resumed from is said on the terminal now, and in the run's log once it is open.
        found = self.engine.on_main(lambda: checkpoint.find(resume, self.checkpoints, self.opening.append))
        for line in self.opening[1:]:
            _LOG.warning(line)
        measured = self.state
        if found is not None:
            self.state = checkpoint.load(found, self.engine, self.model, self.optimizer, self.average)
            self.opening.append(f"resuming {found} after step {self.state.step}")
        self.opening += memory.settle(self.engine, self.recipe.train, self.state, measured, self.checkpoints)
        if self.engine.on_main(lambda: checkpoint.clear(self.checkpoints, after=self.state.step)):
            # The best weights were of a later step than this one: they are chosen anew.
            self.state.best = None
        self.saved = self.state.step

    def _schedule(self) -> Schedule:
        return Schedule(self.lengths, self.recipe.train, self.recipe.seed, self.engine.world, self.state.budget)

    def train(self) -> dict[str, dict[str, float]]:
        """Train to the end and return the scores of the validation and test parts by the best weights."""
        settings = {"experiment": self.experiment, **self.recipe.to_dict()}
        label = f"{self.experiment} {self.folder.parent.name}/{self.folder.name}"
        steps, done = self.schedule.steps, self.state.step
        with (
            interrupt.heard(),
            Journal(self.engine, self.folder, steps=steps, done=done, label=label, settings=settings) as self.journal,
        ):
            self._announce()
            try:
                self._steps()
            except StoppedError as stop:
                # Raised by all ranks at the same place.
                if self.saved != self.state.step:
                    self._save()
                raise stop.at(f"saved at step {self.state.step}", self.folder) from None
            try:
                return self._finish()
            except StoppedError as stop:
                place = f"trained and saved at step {self.state.step}, not yet predicted"
                raise stop.at(place, self.folder) from None

    def _announce(self) -> None:
        rows = self.parts["train"]
        _LOG.info(opening.words(self.engine, self.schedule, len(rows), self.state.mode))
        for line in self.opening:
            _LOG.info(line)
        over = self.schedule.over_budget()
        if len(over):
            _LOG.warning(opening.over(over, self.schedule.budget, rows[int(over[0])]["id"]))

    def _loader(self) -> Loader:
        data = Collated(self.task, self.parts["train"], self.lengths)
        orders = self.schedule.orders(self.engine.rank, self.state.step)
        return Loader(data, orders, workers=self.recipe.train.workers, pin=self.engine.device.type == "cuda")

    def _steps(self) -> None:
        loader = self._loader()
        self.model.train()
        done = self.state.step
        if self.engine.on_main(lambda: evaluations.owes(self.folder, self.schedule, self.recipe.train, done)):
            self._end_epoch(done - 1)
        while self.state.step < self.schedule.steps and not self.state.stopped:
            now = self.state.step
            begun = time.perf_counter()
            waited = loader.waited
            watchdog.mark("loading", now + 1)
            try:
                batches = loader.take(len(self.schedule.cut(now).ranks[self.engine.rank]))
                result, rates, follows = self._gradient(now, batches)
            except Exception as error:
                if not memory.is_short(error):
                    raise
                self._halve(error)
                loader = self._loader()
                continue
            watchdog.mark("update")
            norm = self._apply(now, result, batches)
            self.state.step += 1
            self._record(now, result, norm, rates, follows, time.perf_counter() - begun, loader.waited - waited)
            if self.schedule.ends_epoch(now):
                self.meter.report(self.schedule.epoch(now), last=self.state.step == self.schedule.steps)
                self._end_epoch(now)
            if interrupt.check(self.engine, f"after step {now + 1}", due=self._due()):
                self._save()

    def _gradient(self, now: int, batches: list[Batch]) -> tuple[step.Result, dict[str, float], dict[str, float]]:
        """Leave the gradient of step `now` in the parameters; may be repeated with another cut.

        Returns it with the rates and with what follows a schedule.
        """
        engine = self.engine
        follows = self.task.begin(engine.unwrap(self.model), self.schedule.epoch(now), now)
        # Set by the step's number, not by a scheduler: a prepared one would step once a process.
        multiple = optim.factor(self.recipe.optim, now, self.schedule.steps) * self.state.reduction
        rates = optim.set_rates(self.optimizer, multiple)
        self.optimizer.zero_grad(set_to_none=True)
        batches = [batch.to(engine.device) for batch in batches]
        watchdog.mark("forward")
        mode: step.Mode = "hold" if self.state.mode == "hold" else "replay"
        result = step.accumulate(engine, self.model, self.loss, batches, mode=mode, key=(self.recipe.seed, now))
        return result, rates, follows

    def _apply(self, now: int, result: step.Result, batches: list[Batch]) -> float:
        """Clip and take the step, and return the gradient's norm; may not be repeated."""

        def check(norm: float) -> None:
            self._check(now, float(result.loss), norm, batches)

        norm, skipped = self.engine.update(self.model, self.optimizer, self.parameters, self.recipe.optim, check)
        # A fused AdamW skips an overflow inside its step, which Accelerate's step_was_skipped does not see.
        if skipped or not math.isfinite(norm):
            self.overflows += 1
            _LOG.warning("step %d: fp16 overflow, no update; the loss scale was lowered", now + 1)
        else:
            self.overflows = 0
            if self.average is not None:
                self.average.update(self.engine.tensors(self.model))
        return norm

    def _halve(self, error: BaseException) -> None:
        memory.halve(self.engine, self.state, float(self.lengths.min()), self.checkpoints, error)
        self.optimizer.zero_grad(set_to_none=True)
        self.schedule = self._schedule()

    def _check(self, now: int, loss: float, norm: float, batches: list[Batch]) -> None:
        """Raise DivergedError for a loss or gradient that is not a number; fp16 alone may overflow."""
        overflow = self.engine.precision == "fp16" and self.overflows < _OVERFLOWS
        if math.isfinite(loss) and (math.isfinite(norm) or overflow):
            return
        saved = checkpoint.steps(self.checkpoints)
        what = "gradient" if math.isfinite(loss) else "loss"
        raise diverged(what, now + 1, saved[-1] if saved else None, self.engine.rank, batches)

    def _record(
        self, now: int, result: step.Result, norm: float, rates: dict[str, float], follows: dict[str, float],
        seconds: float, waited: float,
    ) -> None:  # fmt: skip
        metrics = {
            "epoch": self.schedule.epoch(now),
            "loss": float(result.loss),
            "terms": {name: float(value) for name, value in result.terms.items()},
            "grad_norm": norm,
            "lr": rates,
            **({"schedule": follows} if follows else {}),
        }
        timing = self.meter.time(self.schedule.cut(now), seconds, waited, self.engine.memory())
        self.journal.step(now + 1, metrics, timing)

    def _evaluated(self) -> torch.nn.Module:
        return self.model if self.average is None else self.average.model

    def _predict(self, part: Dataset, condition: str | None = None) -> list[Row]:
        with self.engine.autocast():
            return predict(
                self.engine, self.task, self._evaluated(), part, budget=self.state.budget,
                workers=self.recipe.train.workers, condition=condition,
            )  # fmt: skip

    def _end_epoch(self, now: int) -> None:
        """Evaluate and save as the recipe says. Reached by every rank."""
        epoch, train = self.schedule.epoch(now), self.recipe.train
        last = now + 1 == self.schedule.steps
        if evaluations.evaluates(self.schedule, train, now):
            scores = self.task.validate(self._predict)
            self.journal.validation(now + 1, epoch, scores)
            self._judge(scores, epoch)
            if self.watch is not None:
                self.watch(epoch, scores)
        if (epoch + 1) % train.checkpoint_every == 0 or last or self.state.stopped:
            self._save()

    def _due(self) -> bool:
        """Tell whether the last checkpoint is too long ago, by the main rank's clock."""
        return self.engine.main and time.monotonic() - self.saved_at > 60 * self.recipe.train.checkpoint_minutes

    def _save(self) -> None:
        """Write a checkpoint. Reached by every rank."""
        watchdog.mark("saving")
        checkpoint.save(
            self.engine, self.checkpoints, self.model, self.optimizer, self.average, self.state,
            keep=self.recipe.train.keep,
        )  # fmt: skip
        self.saved, self.saved_at = self.state.step, time.monotonic()

    def _judge(self, scores: dict[str, float], epoch: int) -> None:
        """Keep the weights if they are the best so far, and decide whether to stop early."""
        better, told = course.judge(self.state, scores[self.task.score], epoch, self.recipe)
        if better:
            with self.engine.whole(self._evaluated()) as plain:
                self.engine.on_main(lambda: self._save_best(plain, scores))
        _LOG.info(
            "epoch %d: %s%s", epoch + 1, " ".join(f"{k} {v:.3f}" for k, v in scores.items()), " *" if better else ""
        )
        for line in told:
            _LOG.info(line)

    def _save_best(self, plain: torch.nn.Module, scores: dict[str, float]) -> None:
        checkpoint.save_best(self.checkpoints, self.state.step, scores, lambda folder: self.task.save(plain, folder))
        if self.on_save is not None:
            self.on_save()

    def _finish(self) -> dict[str, dict[str, float]]:
        """Predict with the best weights, the test part for the first and only time, and write everything."""
        if not (self.checkpoints / "best" / "model.safetensors").is_file():
            raise AffectError(f"{self.checkpoints} holds no best weights: --resume never trains anew")
        best = load_file(str(self.checkpoints / "best" / "model.safetensors"))
        self.engine.load_weights(self._evaluated(), best)
        found = ending.finish(self.task, self.parts, self.ends, self._predict, self.folder, self.engine.on_main)
        state = self.state
        place = {"best_step": state.best_step, "best_epoch": state.best_epoch}
        self.journal.write("metrics", {"event": "end", "step": state.step, **place, "scores": found})
        if self.on_save is not None:
            self.on_save()
        return found
