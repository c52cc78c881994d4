"""One run of one recipe on one fold: it opens, resumes, logs, judges, saves and finishes. Trainers take its steps."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from affect.errors import AffectError
from affect.recipe import read
from affect.tables import counted, inside
from affect.task import TRAIN, Batch, Evaluation, Row, Task, Term, Weighting, measured
from affect.training import (
    checkpoint,
    memory,
    optim,
    prediction,
    run_dir,
    run_state,
    signals,
    watchdog,
    work,
)
from affect.training.costs import Costs
from affect.training.distributed import Engine
from affect.training.run_logging import Journal
from affect.training.run_state import State
from affect.training.schedule import Schedule
from affect.training.step import Result, taking_part

_LOG = logging.getLogger("affect")
_OVERFLOWS = 50
"""fp16 overflows in a row after which the loss scale can't be what is wrong."""
_NAMED = 4
"""Groups of a part that its header names; of more it tells the number."""
_STEPS = 32
"""Steps whose cuts the first words average."""
STACK_ROWS = 256.0
"""Rows of a small model that are predicted at once: of three wide features 4,096 would be 100 MB."""

Scores = dict[str, dict[str, float]]
"""Scores of evaluations, by evaluation and measure."""
Watch = Callable[[int, float], None]
"""Called on every rank after each evaluation with the epoch (from 0) and the score; what it raises ends the run."""


class DivergedError(AffectError):
    """A loss or gradient that is not a finite number; raised at the same step on every rank."""


@dataclass(frozen=True, kw_only=True)
class Start:
    """How a run is begun: under which name, from which checkpoint, with which weights, and who hears of it."""

    experiment: str = ""
    resume: str = "auto"
    only: Sequence[str] | None = None
    """The evaluations at its end; None makes all, and only then are baselines written."""
    watch: Watch | None = None
    on_save: Callable[[], None] | None = None
    """Called on the main rank whenever the best weights are new, and at the end."""
    weights: Mapping[str, Tensor] | None = None
    """Weights of another run that it starts from, where names and shapes are its own."""
    stacked: bool = False
    """Whether it takes its steps in a stack with others of this process."""


class Run:
    """A task's model in training: what it is, where it stands, and what it writes."""

    @signals.stoppable
    def __init__(self, engine: Engine, task: Task, folder: Path, start: Start):
        """Make or resume all that the run needs. Raises AffectError."""
        self.engine, self.task, self.folder, self.start = engine, task, folder, start
        self.recipe = task.recipe
        self.checkpoints = folder / "checkpoints"
        self.parts = task.datasets()
        every = list(task.evaluations())
        self.evaluations = [e for e in every if start.only is None or e.name in start.only]
        self.each_epoch = [e for e in every if e.when == "epoch"]
        self.measures = list(task.measures)
        self.terms: list[Term] = list(task.terms())
        self.weighting: Weighting | None = task.weighting()
        self._of_epoch = lru_cache(maxsize=2)(self._rows_and_lengths)
        self._refuse_small()
        with engine.seeded(self.recipe.seed):
            model = task.new_model()
        self.opening = [] if start.weights is None else [optim.take_over(model, start.weights)]
        model = model.to(engine.device)
        engine.everywhere(lambda: task.on_train_start(model, engine.local_rank, engine.local_world))
        watchdog.mark("measuring")
        if start.stacked:
            # One micro-batch a step, whatever the recipe's budget: it decides no result.
            self.state = State(budget=float(len(self.parts[TRAIN])), mode="hold")
        else:
            self.state, words = memory.choose(engine, task, model, self.terms, self.parts[TRAIN], self.recipe)
            self.opening.append(words)
        self.work = work.measure(engine, task, model, self.parts[TRAIN], self.recipe)
        if self.work is not None:
            self.opening.append(self.work.words(self.lengths(0)))
        self.average = optim.Average(model, self.recipe.optim.ema) if self.recipe.optim.ema else None
        optimizer = optim.make(task.param_groups(model), self.recipe.optim)
        self.model, self.optimizer = engine.prepare(model, optimizer, self.recipe.optim)
        # Those that the engine made of the model's, perhaps.
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        watchdog.mark("resuming")
        self._resume()
        self.cut_anew()
        self.overflows, self.saved_at = 0, time.monotonic()
        self._losses: list[float] = []

    def _refuse_small(self) -> None:
        """Raise AffectError where a batch term could never say anything: its global batch is one example."""
        part = self.parts[TRAIN]
        rows = min(self.recipe.train.batch, len(part))
        most = max(map(len, part["members"])) if "members" in part.column_names else 1
        named = next((term.name for term in self.terms if not term.additive), None)
        if named is not None and rows * most < 2:
            raise AffectError(
                f"train.batch is {rows}, and the term {named} is one of the whole global batch, which says nothing of "
                "a single example: give 2 or more"
            )

    def _resume(self) -> None:
        """Take up the checkpoint that was asked for, and drop those that a new course makes untrue."""
        # What can't be resumed from is said on the terminal now, and in the run's log once it is open.
        passed: list[str] = []
        path = self.engine.on_main(lambda: checkpoint.find(self.start.resume, self.checkpoints, passed.append))
        for line in passed:
            self.log(logging.WARNING, line)
        self.opening += passed
        chosen = self.state
        if path is not None:
            self.state = checkpoint.load(path, self.engine, self.model, self.optimizer, self.average)
            self.opening.append(f"resuming {path} after step {self.state.step}")
            if self.weighting is not None and self.state.weighting is not None:
                self.weighting.load(self.state.weighting)
        if self.start.stacked:
            self.state.budget, self.state.mode, self.state.costs = chosen.budget, chosen.mode, None
        else:
            self.opening += memory.settle(self.engine, self.recipe.train, self.state, chosen, self.checkpoints)
        if self.engine.on_main(lambda: checkpoint.clear(self.checkpoints, after=self.state.step)):
            # The best weights were of a later step than this one: they are chosen anew.
            self.state.best, self.state.best_step = None, 0
        self.saved = self.state.step

    def cut_anew(self) -> None:
        """Make the schedule of the budget and the costs in force."""
        train, state = self.recipe.train, self.state
        costs = None if state.costs is None else Costs(*state.costs)
        self.schedule = Schedule(self.lengths, train, self.recipe.seed, self.engine.world, state.budget, costs)

    def _rows_and_lengths(self, epoch: int) -> tuple[Dataset, NDArray[np.float64]]:
        rows = self.task.rows_of_epoch(self.parts[TRAIN], epoch)
        if len(rows) != len(self.parts[TRAIN]):
            raise AffectError(f"epoch {epoch + 1} has {len(rows)} training rows, not {len(self.parts[TRAIN])}")
        return rows, np.asarray(rows["length"][:], dtype=np.float64)

    def rows(self, epoch: int) -> Dataset:
        """Return the training rows of an epoch."""
        return self._of_epoch(epoch)[0]

    def lengths(self, epoch: int) -> NDArray[np.float64]:
        """Return the length of each training row of an epoch [n]."""
        return self._of_epoch(epoch)[1]

    # Its session.

    def __enter__(self) -> Self:
        """Open what it writes to, and say what it is."""
        self.journal = Journal(
            self.engine, self.folder, steps=self.schedule.steps, done=self.state.step, alone=not self.start.stacked,
            label=self._label, epochs=self.schedule.epochs,
            settings={"experiment": self.start.experiment, **self.recipe.to_dict()},
        )  # fmt: skip
        self.log(logging.INFO, self._header())
        if not self.start.stacked:
            self.log(logging.INFO, self._first_words())
            if len(over := self.schedule.over_budget()):
                budget, first = self.schedule.budget, self.parts[TRAIN][int(over[0])]["id"]
                line = f"{len(over)} examples are over the budget of {budget:.4g} and travel alone ({first} ...)"
                self.log(logging.WARNING, line)
        for line in self.opening:
            self.log(logging.INFO, line)
        return self

    @property
    def _label(self) -> str:
        """What it is called in logs, by its folder: demo/seed0/fold1."""
        return "/".join(self.folder.resolve().parts[-3:])

    def _header(self) -> str:
        """Return which run it is, how many rows its parts have, and whom validation and tests hold out."""
        held: dict[str, Any] = {}
        with contextlib.suppress(AffectError):
            held = inside(read(self.folder / "environment.json"), "held_out")
        told = []
        for name, part in self.parts.items():
            groups = held.get(name) or []
            shown = ", ".join(map(str, groups)) if len(groups) <= _NAMED else f"{len(groups)} groups"
            told.append(f"{name} {len(part):,}" + (f" ({shown})" if groups and name != TRAIN else ""))
        return f"{self._label}: {', '.join(told)}"

    def _first_words(self) -> str:
        """Return what the run computes on, and how its global batch is cut."""
        engine, schedule, rows = self.engine, self.schedule, len(self.parts[TRAIN])
        figures, costs = schedule.figures(_STEPS), schedule.costs
        over = f", the slowest rank {100 * figures['slowest_rank']:.0f} % over the mean" if engine.world > 1 else ""
        return (
            f"engine {engine.name}, {counted(engine.world, 'rank')} on {counted(engine.nodes, 'node')}, "
            f"{engine.device.type}, precision {engine.precision}; global batch {min(schedule.batch, rows)} of {rows}, "
            f"{schedule.per_epoch} steps an epoch, {schedule.steps} in all; cut by {schedule.budget:.4g} into "
            f"{figures['micro_batches']:.1f} micro-batches a rank ({self.state.mode}), "
            f"padding {100 * figures['padding']:.0f} %{over}"
            f"{'' if costs is None else '; ' + costs.words(self.task.unit)}"
        )

    def __exit__(self, *_: object) -> None:
        self.journal.close()

    def log(self, level: int, line: str) -> None:
        """Write a line to the log: of a run in a stack to its own alone."""
        _LOG.log(level, "%s", line, extra={"run": self.folder} if self.start.stacked else None)

    @property
    def done(self) -> bool:
        """Whether its training is over."""
        return self.state.stopped or self.state.step >= self.schedule.steps

    @property
    def epoch(self) -> int:
        """The epoch of its next step, from 0."""
        return self.schedule.epoch(self.state.step)

    # A step.

    def begin_step(self, batches: Sequence[Batch]) -> tuple[dict[str, Any], dict[str, float]]:
        """Set what follows a schedule; return the line of the log that the step begins, and the terms' factors.

        A collective where terms are weighed by their earlier values: those that take part share the weight.
        """
        now = self.state.step
        follows = self.task.on_step_start(self.engine.unwrap(self.model), self.epoch, now)
        # Set by the step's number, not by a scheduler: a prepared one would step once a process.
        multiple = optim.factor(self.recipe.optim, now, self.schedule.steps) * self.state.reduction
        line: dict[str, Any] = {"epoch": self.epoch, "lr": optim.set_rates(self.optimizer, multiple)}
        if follows:
            line["schedule"] = follows
        factors = {}
        if self.weighting is not None:
            there = taking_part(self.engine, self.terms, batches)
            factors = line["weights"] = self.weighting.weights(there, self.epoch)
        return line, factors

    def diagnoses(self) -> bool:
        """Tell whether the next step is one whose diagnostics are recorded."""
        every = self.recipe.train.diagnostics_every
        return every is not None and (self.state.step + 1) % every == 0

    def update(
        self, result: Result, batches: Sequence[Batch], line: dict[str, Any],
        timing: Callable[[], Mapping[str, float]],
    ) -> None:  # fmt: skip
        """Clip, take the step and record it, with the timing as it is then.

        Raises DivergedError for a loss or gradient that is no finite number.
        """
        now, settings = self.state.step, self.recipe.optim
        loss = float(result.loss)
        clip = settings.clip if settings.clip_percentile is None else optim.limit(self.state.norms, settings)
        norm, skipped = self.engine.update(
            self.model, self.optimizer, self.parameters, clip=clip, clip_value=settings.clip_value,
            check=lambda norm: self._check(now, loss, norm, batches),
        )  # fmt: skip
        # A fused AdamW skips an overflow inside its step, which Accelerate's step_was_skipped does not see.
        skipped = skipped or not math.isfinite(norm)
        if skipped:
            self.overflows += 1
            self.log(logging.WARNING, f"step {now + 1}: fp16 overflow, no update; the loss scale was lowered")
        else:
            self.overflows = 0
            if self.average is not None:
                self.average.update(self.engine.tensors(self.model))
            if settings.clip_percentile is not None:
                self.state.norms = (*self.state.norms, norm)[-optim.WINDOW :]
        self._losses.append(loss)
        values = {name: float(value) for name, value in result.terms.items()}
        if self.weighting is not None:
            took_part = {name: value for name, value in values.items() if name not in result.undefined}
            self.weighting.observe(took_part, self.epoch)
            self.state.weighting = self.weighting.state()
        self.state.step += 1
        undefined = {"undefined": list(result.undefined)} if result.undefined else {}
        record = {"epoch": line["epoch"], "loss": loss, "terms": values, "grad_norm": norm, **line, **undefined}
        self.journal.step(now + 1, record | ({"skipped": True} if skipped else {}), timing())

    def _check(self, now: int, loss: float, norm: float, batches: Sequence[Batch]) -> None:
        """Raise DivergedError for a loss or gradient that is not a number; fp16 alone may overflow."""
        overflow = self.engine.precision == "fp16" and self.overflows < _OVERFLOWS
        if math.isfinite(loss) and (math.isfinite(norm) or overflow):
            return
        what = "gradient" if math.isfinite(loss) else "loss"
        saved = checkpoint.steps(self.checkpoints)
        ids = [name for batch in batches if not batch.filler for name in batch.ids]
        # The culprit may be on another rank; each names its own.
        raise DivergedError(
            f"{self.folder}: step {now + 1}: the {what} is not a finite number; lower the rates or optim.clip; last "
            f"good checkpoint: {saved[-1] if saved else 'none'}; examples on rank {self.engine.rank}: {', '.join(ids)}"
        )

    # After an epoch.

    def owes_evaluation(self) -> bool:
        """Tell whether it was stopped inside the evaluation that follows its last step."""
        done = self.state.step
        if done == 0 or not self.schedule.ends_epoch(done - 1) or not self._evaluates(done - 1):
            return False
        lines = run_dir.read_lines(self.folder / "metrics.jsonl")
        return not any(line.get("event") == "selection" and line["step"] == done for line in lines)

    def _evaluates(self, step: int) -> bool:
        last = step + 1 == self.schedule.steps
        return last or (self.schedule.epoch(step) + 1) % self.recipe.train.evaluate_every == 0

    def end_epoch(self) -> None:
        """Evaluate and save as the recipe says. Reached by every rank."""
        now = self.state.step - 1
        epoch = self.schedule.epoch(now)
        if self._evaluates(now):
            rows = {e.name: self.predict(e) for e in self.each_epoch}
            self._judge({name: measured(self.measures, predicted) for name, predicted in rows.items()}, epoch)
            self._check_defined(rows)
        if (epoch + 1) % self.recipe.train.checkpoint_every == 0 or self.done:
            self.save()

    def _judge(self, scores: Scores, epoch: int) -> None:
        """Keep the weights if they are the best so far, and decide whether to stop early."""
        first = self.measures[0]
        score = selected(self.task, scores)
        better, news = run_state.judge(self.state, score, first.sign, epoch, self.recipe)
        for evaluation, measures in scores.items():
            self.journal.evaluation(self.state.step, epoch, evaluation, measures)
        self.journal.write(
            "metrics", {"event": "selection", "step": self.state.step, "epoch": epoch, "score": score, "kept": better}
        )
        if better:
            weights = self.engine.weights(self._evaluated())
            self.engine.on_main(lambda: self._write_best(weights, scores))
        if self.recipe.train.average_best > 1:
            self._keep_candidate(score)
        self.log(logging.INFO, self._progress(scores, epoch, better))
        if not math.isfinite(score):
            news = [f"{first.shown} is not defined on this evaluation, which chooses no weights", *news]
        for line in news:
            self.log(logging.INFO, line)
        if self.start.watch is not None:
            self.start.watch(epoch, score)

    def _check_defined(self, rows: Mapping[str, list[Row]]) -> None:
        """Raise AffectError, before more is trained, where the labels themselves define no score to choose by."""
        # Of a stack the other runs go on; this one ends with the same words.
        if self.state.best_step or self.start.stacked:
            return
        first = self.measures[0]
        perfect = {name: {first.name: run_state.of_labels(first, own)} for name, own in rows.items()}
        if not math.isfinite(selected(self.task, perfect)):
            raise self._undefined(*rows.values())

    def _undefined(self, *evaluated: Sequence[Row]) -> AffectError:
        return AffectError(f"{self.folder}: {run_state.undefined(self.measures[0], evaluated)}")

    def _progress(self, scores: Scores, epoch: int, better: bool) -> str:
        """Return how far it is, its loss since the last such line, what was scored, and the time that is left."""
        losses, self._losses = self._losses, []
        words = [f"loss {np.mean(losses):.3f}"] if losses else []
        words += [self._told(scores)]
        # The last weights are kept whatever they score.
        words += ["* best so far, kept"] if better and self.recipe.train.choose != "last" else []
        left = "" if self.done else self.journal.left(self.state.step)
        return f"epoch {epoch + 1} of {self.schedule.epochs}: {', '.join([*words, *filter(None, [left])])}"

    def _told(self, scores: Scores) -> str:
        """Return the scores of the evaluation that selects, and the first score of each other one, in words."""
        first = self.measures[0]
        shown = [measure.name for measure in self.measures if measure is first or measure.headline]
        main = next(e.name for e in self.each_epoch if e.selects)
        words = [f"{name} {scores[main][name]:.3f}" for name in shown]
        others = [f"({name}: {own[first.name]:.3f})" for name, own in scores.items() if name != main]
        return " ".join([*words, *others])

    def _evaluated(self) -> torch.nn.Module:
        return self.model if self.average is None else self.average.model

    def _write_best(self, weights: Mapping[str, Tensor], scores: Scores) -> None:
        """Let the best weights be these, of the best step: a checkpoint counts on them by its number."""
        where, step, plain = self.checkpoints, self.state.best_step, self.engine.unwrap(self._evaluated())
        checkpoint.save_best(where, step, scores, lambda folder: self.task.save(plain, weights, folder))
        if self.start.on_save is not None:
            self.start.on_save()

    def _keep_candidate(self, score: float) -> None:
        """Keep the weights if they are among the best ones that are averaged at the end."""
        if not math.isfinite(score):
            return
        sign, most = self.measures[0].sign, self.recipe.train.average_best
        own = (score, self.state.step)
        ranked = sorted([*self.state.candidates, own], key=lambda held: (-sign * held[0], held[1]))
        self.state.candidates = tuple(ranked[:most])
        if own in self.state.candidates:
            weights = self.engine.weights(self._evaluated())
            self.engine.on_main(lambda: checkpoint.save_candidate(self.checkpoints, self.state.step, weights))

    def due(self) -> bool:
        """Tell whether the last checkpoint is too long ago, by the main rank's clock."""
        return self.engine.main and time.monotonic() - self.saved_at > 60 * self.recipe.train.checkpoint_minutes

    def save(self) -> None:
        """Write a checkpoint. Reached by every rank."""
        watchdog.mark("saving")
        checkpoint.save(
            self.engine, self.checkpoints, self.model, self.optimizer, self.average, self.state,
            keep=self.recipe.train.keep,
        )  # fmt: skip
        self.saved, self.saved_at = self.state.step, time.monotonic()

    def predict(self, evaluation: Evaluation) -> list[Row]:
        """Return the rows of an evaluation as the current weights predict them. Reached by every rank."""
        part = self.parts[evaluation.part]
        if evaluation.most is not None:
            part = part.select(np.linspace(0, len(part) - 1, min(len(part), evaluation.most)).astype(int))
        with self.engine.autocast():
            rows = prediction.predict(
                self.engine, self.task, self._evaluated(), part, condition=evaluation.condition,
                budget=STACK_ROWS if self.start.stacked else self.state.budget, workers=self.recipe.train.workers,
            )  # fmt: skip
        self.task.release()
        return rows

    # Its end.

    @signals.stoppable
    def finish(self) -> Scores:
        """Predict with the best weights, tests for the first and only time, write everything and return the scores."""
        weights = self._best_weights()
        self.engine.load_weights(self._evaluated(), weights)
        self._evaluated().eval()
        rows = {evaluation.name: self.predict(evaluation) for evaluation in self.evaluations}
        scores = {name: measured(self.measures, predicted) for name, predicted in rows.items()}
        self.engine.on_main(lambda: self._write_rows(rows))
        state = self.state
        place = {"best_step": state.best_step, "best_epoch": state.best_epoch}
        self.journal.write("metrics", {"event": "end", "step": state.step, **place, "scores": scores})
        self.engine.on_main(lambda: run_dir.discard(self.checkpoints / checkpoint.CANDIDATES))
        if self.start.on_save is not None and self.engine.main:
            self.start.on_save()
        return scores

    def _best_weights(self) -> dict[str, Tensor]:
        """Return the best weights on every rank, the mean of the best few where the recipe asks for it."""
        best = self.checkpoints / checkpoint.BEST / checkpoint.MODEL
        if not self.state.best_step:
            raise self._undefined()
        if not best.is_file():
            raise AffectError(f"{self.checkpoints} holds no best weights: --resume never trains anew")
        if len(self.state.candidates) > 1:
            steps = [step for _, step in self.state.candidates]
            mean = checkpoint.mean_of_candidates(self.checkpoints, steps)
            self.engine.on_main(lambda: self._write_best(mean, {}))
            self.log(logging.INFO, f"the mean of the {len(steps)} best weights is kept (steps {sorted(steps)})")
        return load_file(str(best))

    def _write_rows(self, rows: Mapping[str, list[Row]]) -> None:
        run_dir.write_rows(self.folder, {e.name: rows[e.name] for e in self.evaluations if e.kept})
        for part, baselines in self.task.baselines().items() if self.start.only is None else ():
            for name, lines in baselines.items():
                run_dir.write_lines(self.folder / f"baseline-{name}-{part}.jsonl", lines)


def selected(task: Task, scores: Mapping[str, Mapping[str, float]]) -> float:
    """Return what checkpoints, trials and experiments are chosen by: the first measure's mean over what selects."""
    first = task.measures[0].name
    names = [evaluation.name for evaluation in task.evaluations() if evaluation.selects]
    return float(np.mean([scores[name][first] for name in names]))
