"""The trials of a search, kept by Optuna in an SQLite file: what to try next, what came of it, what mattered.

Several processes may share a search. Each holds the lock of the trial that it runs, which ends with the process; the
study's own is held while its file is read or written.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import optuna
import sqlalchemy.exc
from filelock import FileLock, Timeout
from optuna.trial import FrozenTrial, TrialState

from affect.errors import AffectError, first_line
from affect.experiments.definitions import Choice, Range, Search

_STARTS = 3
"""Sessions that a trial may end unfinished before it counts as failed: it may be what ends them (memory)."""
_ENOUGH = 5
"""Finished trials whose median prunes."""
_TELLING = 4
"""Finished trials that it takes to say which range matters."""
_NAME = "search"
_TRIAL, _LOCK = "trial", ".lock"
"""A trial's folder, with its number, and in it the lock of the process that runs it."""
_WAIT = 120.0
"""Seconds that the study may be kept by another process."""
_EPOCHS, _RUNS = 10**6, 10**4
"""More than a trial has of either: what of two trials can't be compared is reported at different steps."""
_RUNNING = "running"
_STATES = {
    TrialState.COMPLETE: "finished", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed",
    TrialState.RUNNING: _RUNNING, TrialState.WAITING: "interrupted",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One trial: its values by field, what became of it, and its score (of a pruned one the best it reached)."""

    number: int
    values: dict[str, Choice]
    state: str
    score: float | None = None
    note: str = ""


class Study:
    """The trials of one search; of several processes that share it each runs other trials."""

    def __init__(self, folder: Path, search: Search, ranges: Sequence[Range], sign: int):
        """Open or begin the study; `sign` is -1 where lower is better. AffectError if it is corrupt."""
        self.search, self.ranges, self.sign = search, ranges, sign
        self._folder, self._path = folder, folder / "study.db"
        self._lock = FileLock(folder / "study.lock")
        self._own: dict[int, FileLock] = {}
        """Held locks of the trials that this process runs, by number."""
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        with self.held():
            self._study = optuna.create_study(
                storage=f"sqlite:///{self._path.resolve()}", study_name=_NAME, load_if_exists=True,
                direction="maximize" if self.sign > 0 else "minimize",
            )  # fmt: skip

    def close(self) -> None:
        """Let others take up what this process leaves unfinished."""
        for lock in self._own.values():
            lock.release()
        self._own.clear()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes from the study while the block is open. AffectError if it can't be used."""
        try:
            turn = self._lock.acquire(timeout=_WAIT)
        except Timeout as error:
            raise AffectError(f"{self._path} is kept by another process, for {_WAIT:.0f} s by now: end it") from error
        with turn:
            try:
                yield
            except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
                cause = error.__cause__ or error
                raise AffectError(f"{self._path} can't be used: {first_line(cause)}") from error

    def next(self) -> Trial | None:
        """Return the trial to run: one that was interrupted, else a new one, else None when all are run or running."""
        with self.held():
            for interrupted in self._in(TrialState.RUNNING):
                if not self._take(interrupted.number):
                    continue
                starts = int(interrupted.user_attrs.get("starts", 0))
                if starts < _STARTS:
                    return self._begin(optuna.trial.Trial(self._study, interrupted._trial_id), starts)
                self._tell(interrupted.number, TrialState.FAIL, note=f"ended the search unfinished {starts} times")
            while (count := len(self._study.get_trials(deepcopy=False))) < self.search.trials:
                # A sampler a trial: what a resumed search draws is what the uninterrupted one would have drawn.
                seed = int(np.random.SeedSequence((self.search.seed, count)).generate_state(1)[0])
                self._study.sampler = optuna.samplers.TPESampler(seed=seed)
                trial = self._begin(self._study.ask(), 0)
                same = next((one for one in self._in(TrialState.COMPLETE) if one.params == trial.values), None)
                if same is None:
                    self._take(trial.number)
                    return trial
                # The same recipe gives the same score.
                self.finish(trial.number, same.value, note=f"the values of trial {same.number}")
            return None

    def _take(self, number: int) -> bool:
        """Take the lock of a trial, which ends with its process; False where a process that runs the trial has it."""
        path = _lock_of(self._folder, number)
        path.parent.mkdir(exist_ok=True)
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return False
        self._own[number] = lock
        return True

    def _in(self, state: TrialState) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False, states=(state,))

    def _begin(self, trial: optuna.trial.Trial, starts: int) -> Trial:
        trial.set_user_attr("starts", starts + 1)
        # A value that was drawn before an interruption is kept, not drawn again.
        values = {field.name: _suggest(trial, field) for field in self.ranges}
        return Trial(number=trial.number, values=values, state="interrupted" if starts else "new")

    def report(self, number: int, epoch: int, score: float, *, runs: tuple[int, int] | None = None) -> bool:
        """Take note of a trial's validation score and tell whether it should be pruned.

        A score that is not defined is compared with none. One that is the mean of several runs says which: those that
        trained to an epoch together, from the first to before the second, and all before them. It is compared with
        scores of the same runs alone.
        """
        if not math.isfinite(score):
            return False
        step = epoch if runs is None else epoch + _EPOCHS * (runs[0] * _RUNS + runs[1])
        with self.held():
            frozen = self._study.trials[number]
            trial = optuna.trial.Trial(self._study, frozen._trial_id)
            # An epoch that a resumed trial repeats is known already.
            if step not in frozen.intermediate_values:
                trial.report(score, step)
            # How many runs train together depends on what is searched: of few trials a median tells nothing.
            enough = 1 if runs is None else _ENOUGH
            self._study.pruner = optuna.pruners.MedianPruner(n_startup_trials=_ENOUGH, n_min_trials=enough)
            return self.search.prune and bool(trial.should_prune())

    def finish(self, number: int, score: float | None, *, note: str = "", pruned: bool = False) -> None:
        """Record what came of a trial: its score, or None where it failed or was pruned."""
        with self.held():
            failed = TrialState.PRUNED if pruned else TrialState.FAIL
            self._tell(number, TrialState.COMPLETE if score is not None else failed, score, note)

    def _tell(self, number: int, state: TrialState, score: float | None = None, note: str = "") -> None:
        frozen = self._study.trials[number]
        optuna.trial.Trial(self._study, frozen._trial_id).set_user_attr("note", note)
        self._study.tell(number, score, state)
        if (lock := self._own.pop(number, None)) is not None:
            # Nobody waits for it: who asks for it has the study first.
            Path(lock.lock_file).unlink(missing_ok=True)
            lock.release()

    def trials(self) -> list[Trial]:
        """Return all trials: finished ones, best first, then pruned, failed, running and interrupted ones."""
        with self.held():
            trials = [self._trial(one) for one in self._study.get_trials(deepcopy=False)]
        order = [*dict.fromkeys(_STATES.values())]
        return sorted(trials, key=lambda t: (order.index(t.state), -self.sign * (t.score or 0.0), t.number))

    def _trial(self, frozen: FrozenTrial) -> Trial:
        reached = max(frozen.intermediate_values.values(), key=lambda score: self.sign * score, default=None)
        state = _STATES[frozen.state]
        if state == _RUNNING and not _is_held(_lock_of(self._folder, frozen.number)):
            state = "interrupted"
        return Trial(
            number=frozen.number, values=dict(frozen.params), state=state,
            score=frozen.value if frozen.state == TrialState.COMPLETE else reached,
            note=str(frozen.user_attrs.get("note", "")),
        )  # fmt: skip

    def importance(self) -> dict[str, float]:
        """Return the share of the score's variance that each range accounts for (fANOVA); empty where none can tell."""
        done = self._in(TrialState.COMPLETE)
        if len(done) < _TELLING or len({one.value for one in done}) < 2:
            return {}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
                return optuna.importance.get_param_importances(self._study, evaluator=evaluator)
        except (ValueError, RuntimeError):
            # No range was drawn from more than once.
            return {}


def in_use(folder: Path) -> bool:
    """Tell whether a process runs a trial of the study in `folder`."""
    return any(_is_held(path) for path in folder.glob(f"{_TRIAL}*/{_LOCK}"))


def _lock_of(folder: Path, number: int) -> Path:
    return folder / f"{_TRIAL}{number}" / _LOCK


def _is_held(path: Path) -> bool:
    if not path.exists():
        return False
    try:
        with FileLock(path).acquire(timeout=0):
            return False
    except Timeout:
        return True


def _suggest(trial: optuna.trial.Trial, field: Range) -> Choice:
    if field.choices:
        chosen: Choice = trial.suggest_categorical(field.name, field.choices)
        return chosen
    if field.kind is int:
        return trial.suggest_int(field.name, int(field.low), int(field.high), log=field.log)
    return trial.suggest_float(field.name, field.low, field.high, log=field.log)
