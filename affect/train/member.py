"""One of several runs that train together: its model, optimiser, schedule, journal and where it stands."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from affect.errors import AffectError
from affect.recipe import Recipe
from affect.task import Batch, Row, Stackable, Task
from affect.train import checkpoint, course, ending, evaluations, interrupt, optim
from affect.train.checkpoint import State
from affect.train.engine import Engine, seeds
from affect.train.journal import Journal
from affect.train.schedule import Schedule
from affect.train.stack import Tensors
from affect.train.watch import DivergedError

_LOG = logging.getLogger("affect")
_ROWS = 256
"""Rows that are predicted at once: of three wide features 4,096 would be 100 MB."""


class Member:
    """A run as `loop.Run` has it, but for its steps: those are taken with others in a stack."""

    @interrupt.stoppable
    def __init__(
        self, engine: Engine, task: Task, folder: Path, *, experiment: str, resume: str,
        ends: Sequence[str] | None = None,
    ):  # fmt: skip
        """Make or resume the run; at last it predicts the parts `ends` (all). Raises AffectError."""
        self.ends = ending.parts_of(task) if ends is None else ends
        assert isinstance(task, Stackable)
        self.engine, self.task, self.examples, self.folder, self.experiment = engine, task, task, folder, experiment
        self.recipe: Recipe = task.recipe
        self.checkpoints = folder / "checkpoints"
        self.parts = task.datasets()
        self.places = _places(self.parts["train"])
        with engine.seeded(self.recipe.seed):
            self.model = task.model().to(engine.device)
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.average = optim.Average(self.model, self.recipe.optim.ema) if self.recipe.optim.ema else None
        self.optimizer = optim.make(task.parameter_groups(self.model), self.recipe.optim)
        self.state = State()
        self._resume(resume)
        rows = len(self.places)
        # One micro-batch a step, whatever the recipe's budget: it decides no result.
        self.schedule = Schedule(np.ones(rows), self.recipe.train, self.recipe.seed, 1, float(rows))
        self.journal = Journal(
            engine, folder, steps=self.schedule.steps, done=self.state.step, label=self.name,
            settings={"experiment": experiment, **self.recipe.to_dict()}, alone=False,
        )  # fmt: skip

    def __enter__(self) -> Self:
        """Return the member, its journal open."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close its journal."""
        self.journal.__exit__()

    @property
    def name(self) -> str:
        """The run's name in messages."""
        return f"{self.folder.parent.name}/{self.folder.name}"

    @property
    def done(self) -> bool:
        """Whether its training is over."""
        return self.state.stopped or self.state.step >= self.schedule.steps

    @property
    def epoch(self) -> int:
        """The epoch of its next step, from 0."""
        return self.schedule.epoch(self.state.step)

    def _resume(self, resume: str) -> None:
        found = checkpoint.find(resume, self.checkpoints)
        if found is not None:
            self.state = checkpoint.load(found, self.engine, self.model, self.optimizer, self.average)
        if checkpoint.clear(self.checkpoints, after=self.state.step):
            self.state.best = None
        self.saved = self.state.step

    def log(self, text: str, *values: object) -> None:
        """Write a line to the run's own log."""
        _LOG.info(text, *values, extra={"run": self.folder})

    def draw(self, orders: list[NDArray[np.int64]]) -> tuple[Batch, Tensors, dict[str, float]]:
        """Return the next step's batch, of the epoch's `orders`, its noise, and what follows a schedule.

        The random state is the one that `loop.Run` gives its only micro-batch, so the masks are the same.
        """
        now = self.state.step
        # In the plan's order: a mask belongs to a place in the batch.
        members = np.sort(orders[now % self.schedule.per_epoch])
        batch = self.examples.batch(self.places[members]).to(self.engine.device)
        follows = self.task.begin(self.model, self.epoch, now)
        # Of the generators the one that the noise comes from: to seed them all takes as long as a small layer.
        torch.default_generator.manual_seed(seeds(self.recipe.seed, now, 0, 0)[2])
        noise: dict[str, Tensor] = self.model.draw(len(members))  # type: ignore[operator]
        return batch, {name: mask.to(self.engine.device) for name, mask in noise.items()}, follows

    def apply(self, terms: dict[str, float], weights: dict[str, float], follows: dict[str, float]) -> None:
        """Take the step of the gradient that is in the parameters.

        Raises DivergedError where the loss, or the gradient where its norm is taken, is not a finite number.
        """
        settings, now = self.recipe.optim, self.state.step
        loss = sum(weights[name] * value for name, value in terms.items())
        self._check("loss", loss)
        rates = optim.set_rates(self.optimizer, optim.factor(settings, now, self.schedule.steps) * self.state.reduction)
        # The norm costs as much as the smallest layers' step: taken where it clips, and once an epoch.
        norm: float | None = None
        if settings.clip is not None:
            norm = float(torch.nn.utils.clip_grad_norm_(self.parameters, settings.clip))
        elif self.schedule.ends_epoch(now):
            norm = float(torch.nn.utils.get_total_norm([p.grad for p in self.parameters if p.grad is not None]))
        # At an epoch's end at the latest: a checkpoint of such weights could never go on.
        self._check("gradient", norm)
        if settings.clip_value is not None:
            torch.nn.utils.clip_grad_value_(self.parameters, settings.clip_value)
        self.optimizer.step()
        if self.average is not None:
            self.average.update(self.model.state_dict().items())
        self.state.step += 1
        line: dict[str, Any] = {"epoch": self.schedule.epoch(now), "loss": loss, "terms": terms, "grad_norm": norm}
        self.journal.step(now + 1, {**line, "lr": rates, **({"schedule": follows} if follows else {})}, {})

    def _check(self, what: str, value: float | None) -> None:
        if value is not None and not math.isfinite(value):
            now = self.state.step + 1
            raise DivergedError(f"{self.folder}: step {now}: the {what} is not a finite number; lower optim.lr")

    def end_epoch(self, seconds: float, together: int) -> dict[str, float] | None:
        """Evaluate and save as the recipe says; `seconds` is this run's share of the epoch's time."""
        train, now = self.recipe.train, self.state.step - 1
        epoch = self.schedule.epoch(now)
        timing = {
            "seconds": seconds,
            "units_per_second": len(self.places) / max(seconds, 1e-9),
            "padding": 0.0,
            "waiting": 0.0,
            "memory_bytes": float(self.engine.memory()),
            "together": together,
        }
        self.journal.write("timing", {"step": now + 1, **timing})
        scores = None
        if evaluations.evaluates(self.schedule, train, now):
            scores = self.task.validate(self.predict)
            self.journal.validation(now + 1, epoch, scores)
            self._judge(scores, epoch)
        if (epoch + 1) % train.checkpoint_every == 0 or self.done:
            self.save()
        return scores

    def owes(self) -> bool:
        """Tell whether it was stopped inside the evaluation that follows its last step."""
        return evaluations.owes(self.folder, self.schedule, self.recipe.train, self.state.step)

    def save(self) -> None:
        """Write a checkpoint."""
        checkpoint.save(
            self.engine, self.checkpoints, self.model, self.optimizer, self.average, self.state,
            keep=self.recipe.train.keep,
        )  # fmt: skip
        self.saved = self.state.step

    def _judge(self, scores: dict[str, float], epoch: int) -> None:
        better, told = course.judge(self.state, scores[self.task.score], epoch, self.recipe)
        if better:
            checkpoint.save_best(
                self.checkpoints, self.state.step, scores, lambda folder: self.task.save(self._evaluated(), folder)
            )
        self.log("epoch %d: %s%s", epoch + 1, " ".join(f"{k} {v:.3f}" for k, v in scores.items()), " *" * better)
        for line in told:
            self.log("%s", line)

    def _evaluated(self) -> torch.nn.Module:
        return self.model if self.average is None else self.average.model

    def predict(self, part: Dataset, condition: str | None = None) -> list[Row]:
        """Return the rows of a part, as they are or under a condition, as the current weights predict them."""
        model, places = self._evaluated(), _places(part)
        rows: list[Row] = []
        training = model.training
        if training:
            model.eval()
        with torch.no_grad(), self.engine.autocast():
            for start in range(0, len(places), _ROWS):
                interrupt.check(self.engine, "in the middle of predictions, which are made again")
                batch = self.examples.batch(places[start : start + _ROWS], condition).to(self.engine.device)
                rows += self.task.predictions(model(**batch.inputs), batch)
        if training:
            model.train()
        self.examples.release()
        return rows

    @interrupt.stoppable
    def finish(self) -> dict[str, dict[str, float]]:
        """Predict every part with the best weights, the test parts for the first and only time, and write all."""
        best = self.checkpoints / "best" / "model.safetensors"
        if not best.is_file():
            raise AffectError(f"{self.checkpoints} holds no best weights: --resume never trains anew")
        self._evaluated().load_state_dict(load_file(str(best)))
        self._evaluated().eval()
        found = ending.finish(self.task, self.parts, self.ends, self.predict, self.folder, lambda write: write())
        place = {"best_step": self.state.best_step, "best_epoch": self.state.best_epoch}
        self.journal.write("metrics", {"event": "end", "step": self.state.step, **place, "scores": found})
        return found


def _places(part: Dataset) -> NDArray[np.intp]:
    """Return where a part's rows are among all."""
    # All at once: a column that is iterated over comes row by row.
    return np.asarray(part["row"][:], dtype=np.intp)
