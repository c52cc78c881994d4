"""Several runs in one process: seeds and folds of a recipe whose model is small take their steps as one stack.

As many as fit the cache together: a stack beyond it waits for memory, and its runs are faster one after another.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from affect.errors import StoppedError
from affect.task import Stackable, Task
from affect.train import interrupt, plan
from affect.train.engine import Engine
from affect.train.member import Member
from affect.train.stack import Stack
from affect.train.watch import DivergedError

_LOG = logging.getLogger("affect")
_CACHE = 24e6
"""Bytes of weights, gradients and moments that a CPU still reads fast: beyond, a stack's optimiser waits for memory."""
_MOST = 60
"""Runs of a stack at most: each keeps files open."""
_BYTES = 16
"""Of a weight, its gradient and its two moments."""
_SAYS = 15.0
"""Seconds between lines on how far the runs are, where there is no bar."""

Watching = Callable[[Sequence[Member]], None]
"""Sees members after each of their epochs."""


def can(engine: Engine, task: object) -> bool:
    """Tell whether runs of this task train together here: in one process, and not under fp16's loss scale."""
    return isinstance(task, Stackable) and engine.world == 1 and engine.precision != "fp16"


def width(engine: Engine, task: Task) -> int:
    """Return how many runs of a task take their steps as one stack on this device."""
    assert isinstance(task, Stackable)
    if task.together is not None:
        return task.together
    if engine.device.type != "cpu":
        return _MOST
    return max(1, min(_MOST, int(_CACHE // (_BYTES * sum(p.numel() for p in task.model().parameters())))))


def train(members: Sequence[Member], watch: Watching | None = None) -> dict[Member, str]:
    """Train all members to their ends, and return those that diverged on their way, each with the reason.

    What each writes is what it would write alone, to rounding. Raises StoppedError, each run saved where it stands,
    where the process is asked to stop.
    """
    with interrupt.heard():
        return _Together(members, watch).train()


class _Together:
    def __init__(self, members: Sequence[Member], watch: Watching | None):
        self.members, self.watch = list(members), watch
        self.engine = members[0].engine
        self.failed: dict[Member, str] = {}
        self._stack: tuple[tuple[Member, ...], Stack] | None = None
        self._scores: dict[Member, float] = {}
        self._said = time.monotonic()

    def train(self) -> dict[Member, str]:
        try:
            return self._train()
        except StoppedError as stop:
            self._release()
            left = [member for member in self.members if member not in self.failed]
            for member in left:
                if member.saved != member.state.step:
                    member.save()
                member.log("stopped: saved at step %d", member.state.step)
            raise StoppedError(stop.number, f"{len(left)} runs saved where they are") from None

    def _train(self) -> dict[Member, str]:
        for member in self.members:
            if member.owes():
                self._ended(member, 0.0, 1)
        steps = sum(member.schedule.steps for member in self.members)
        before = sum(member.state.step for member in self.members)
        with tqdm(total=steps, initial=before, unit="step", dynamic_ncols=True, leave=False, disable=None) as bar:
            while active := [member for member in self.members if not member.done and member not in self.failed]:
                # The hindmost first: after an interruption not all stand at the same epoch.
                step = min(member.state.step for member in active)
                level = [member for member in active if member.state.step == step]
                for pace in sorted({member.schedule.per_epoch for member in level}):
                    self._epoch([member for member in level if member.schedule.per_epoch == pace], bar)
                self._tell(bar, level[0].schedule.epoch(step))
        self._release()
        return self.failed

    def _epoch(self, members: list[Member], bar: tqdm[Any]) -> None:
        """Take the steps of an epoch with these members, and evaluate each."""
        begun = time.perf_counter()
        loss = members[0].task.loss()
        weights = dict(loss.weights)
        orders = {member: self._drawn(member) for member in members}
        ended = False
        while members and not ended:
            ended = members[0].schedule.ends_epoch(members[0].state.step)
            drawn = [member.draw(orders[member]) for member in members]
            with self.engine.autocast():
                found = self._stacked(members).gradient(loss, [b for b, _, _ in drawn], [n for _, n, _ in drawn])
            for member, terms, (_, _, follows) in zip(members, found, drawn, strict=True):
                try:
                    member.apply({name: float(value) for name, value in terms.items()}, weights, follows)
                except DivergedError as error:
                    self.failed[member] = str(error)
                    _LOG.warning("%s; the other runs go on", error)
            bar.update(len(members))
            members = [member for member in members if member not in self.failed]
            if not ended:
                # Between steps, and not before an evaluation: that one is asked itself.
                interrupt.check(self.engine, "between two steps")
        share = (time.perf_counter() - begun) / max(1, len(members))
        for member in members:
            self._ended(member, share, len(members))
        if self.watch is not None and members:
            self.watch(members)

    def _ended(self, member: Member, seconds: float, together: int) -> None:
        scores = member.end_epoch(seconds, together)
        if scores is not None:
            self._scores[member] = scores[member.task.score]

    def _drawn(self, member: Member) -> list[NDArray[np.int64]]:
        """Return the global batches of a member's epoch, as places in its training part."""
        return plan.draw(len(member.places), member.recipe.train.batch, member.recipe.seed, member.epoch)

    def _stacked(self, members: Sequence[Member]) -> Stack:
        """Return the members' stack; it is made anew only when they are others."""
        key = tuple(members)
        if self._stack is None or self._stack[0] != key:
            self._release()
            self._stack = (key, Stack([member.model for member in members]))
        return self._stack[1]

    def _release(self) -> None:
        if self._stack is not None:
            self._stack[1].release()
            self._stack = None

    def _tell(self, bar: tqdm[Any], epoch: int) -> None:
        """Show the mean validation score: at the bar, or now and then in a line."""
        if not self._scores:
            return
        score = self.members[0].task.score
        mean = float(np.mean(list(self._scores.values())))
        bar.set_postfix({f"valid {score}": f"{mean:.3f}"}, refresh=False)
        if bar.disable and time.monotonic() - self._said > _SAYS:
            self._said = time.monotonic()
            done = sum(member.done for member in self.members)
            _LOG.info(
                "epoch %d: mean valid %s %.3f; %d of %d runs over", epoch + 1, score, mean, done, len(self.members)
            )
