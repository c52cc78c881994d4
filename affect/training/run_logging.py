"""The journal of a run: metrics.jsonl, timing.jsonl, the log, the trackers and the progress bar, on the main rank."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from tqdm import tqdm

from affect.errors import AffectError
from affect.tables import flat, hours
from affect.training import run_dir
from affect.training.distributed import Engine

_LOG = logging.getLogger("affect")
_SAYS = 60.0
"""Seconds between lines on how far a run is, where no bar shows it."""
_SPEED = 1.0
"""Seconds between two points of speed that trackers get: a number takes 25 us, which a small model's steps feel."""


class Journal:
    """What a run says of itself. Only the main rank writes; the others call the same methods to no effect."""

    def __init__(
        self, engine: Engine, folder: Path, *, steps: int, done: int, epochs: int, label: str, settings: dict[str, Any],
        alone: bool = True,
    ):  # fmt: skip
        """Open the journal; what an earlier process wrote past step `done` is dropped, for it will come again.

        A run that is not `alone` in its process shows no bar and tells the trackers of evaluations only; its log has
        the lines that name its folder as `run`.
        """
        self.engine, self.folder, self.alone, self.steps, self.epochs = engine, folder, alone, steps, epochs
        self._begun, self._done, self._told = time.monotonic(), done, time.monotonic()
        self._files: dict[str, TextIO] = {}
        self._sped = -math.inf
        self._handler: logging.Handler | None = None
        if not engine.main:
            return
        paths = {name: folder / f"{name}.jsonl" for name in ("metrics", "timing")}
        # Both are read before either is written: a damaged one stops here, and nothing is changed.
        kept = {
            name: [line for line in run_dir.read_lines(path) if line["step"] <= done] for name, path in paths.items()
        }
        for name, path in paths.items():
            run_dir.write_lines(path, kept[name])
            self._files[name] = path.open("a", encoding="utf-8")
        self._handler = logging.FileHandler(folder / "train.log", encoding="utf-8")
        self._handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        if not alone:
            self._handler.addFilter(lambda record: getattr(record, "run", folder) == folder)
        _LOG.addHandler(self._handler)
        plain = {n: v if isinstance(v, (bool, int, float, str)) else str(v) for n, v in flat(settings).items()}
        with self._guarded("a tracker's file"):
            engine.track(plain, folder, done)
        self._bar = tqdm(
            total=steps, initial=done, desc=label, unit="step", dynamic_ncols=True, leave=False,
            disable=None if alone else True,
        )  # fmt: skip

    def close(self) -> None:
        """Close its files, log and bar."""
        for name, file in self._files.items():
            with self._guarded(f"{name}.jsonl"):
                file.close()
        if self._handler is not None:
            _LOG.removeHandler(self._handler)
            self._handler.close()
            self._bar.close()

    def write(self, name: str, line: dict[str, Any]) -> None:
        """Add a line to metrics.jsonl or timing.jsonl. Raises AffectError when the disk is full."""
        if name in self._files:
            with self._guarded(f"{name}.jsonl"):
                self._files[name].write(json.dumps(run_dir.plain(line)) + "\n")
                self._files[name].flush()

    @contextlib.contextmanager
    def _guarded(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise AffectError(f"could not write {what} in {self.folder}: {error.strerror or error}") from error

    def step(self, step: int, metrics: dict[str, Any], timing: Mapping[str, float]) -> None:
        """Record a training step: what is reproducible to metrics, the rest to timing."""
        self.write("metrics", {"event": "step", "step": step, **metrics})
        if timing:
            self.write("timing", {"step": step, **timing})
        if not self.alone:
            return
        losses = {"loss": metrics["loss"], "grad_norm": metrics["grad_norm"], **metrics["terms"]}
        groups = {"train": losses, "lr": metrics["lr"], "diagnostics": metrics.get("diagnostics", {})}
        if (now := time.monotonic()) - self._sped > _SPEED:
            groups["speed"], self._sped = timing, now
        with self._guarded("a tracker's file"):
            self.engine.log({f"{group}/{name}": v for group, part in groups.items() for name, v in part.items()}, step)
        if self._files:
            self._bar.update()
            self._bar.set_postfix(loss=f"{metrics['loss']:.3f}", refresh=False)
            if self._bar.disable and time.monotonic() - self._told > _SAYS:
                self._told = time.monotonic()
                _LOG.info(
                    "epoch %d of %d, step %d of %d: loss %.3f, %s",
                    metrics["epoch"] + 1, self.epochs, step, self.steps, metrics["loss"], self.left(step),
                )  # fmt: skip

    def left(self, step: int) -> str:
        """Return the time that the steps after `step` will take, in words, as long as those of this session took."""
        taken, now = step - self._done, time.monotonic()
        return f"{hours((now - self._begun) / taken * (self.steps - step))} left" if taken > 0 else ""

    def evaluation(self, step: int, epoch: int, name: str, scores: Mapping[str, float]) -> None:
        """Record the scores of an evaluation by its name."""
        self._told = time.monotonic()
        line = {"event": "eval", "evaluation": name, "step": step, "epoch": epoch, "scores": dict(scores)}
        self.write("metrics", line)
        with self._guarded("a tracker's file"):
            self.engine.log({f"{name}/{m}": value for m, value in scores.items() if math.isfinite(value)}, step)
