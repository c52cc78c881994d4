"""What a step computes, in floating-point operations, and the most that a device does in a second.

Operations follow a row's length as level + slope * length + curve * length ** 2, fitted to a few rows that are counted
once, when a run starts, and remembered as costs are. What a step needs is what its rows need, each forward and backward
once at its own length: no cut, padding, filler or replay changes it, and all of them lower the share of the peak.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from affect import cache
from affect.frozen import keeping
from affect.recipe import Recipe
from affect.task import Key, Task
from affect.training import cost_probe, plan
from affect.training.costs import fit
from affect.training.distributed import Engine, is_out_of_memory
from affect.training.flops import Counter
from affect.training.loader import Collated, Order

if TYPE_CHECKING:
    from datasets import Dataset

Floats = NDArray[np.float64]
Curve = tuple[float, float, float]
"""Operations of a row by its length's powers, the highest first."""

_SECONDS = 0.25
"""Seconds that counting may take on a CPU; further rows that would take longer are left out."""
FEWEST = 3
"""Rows that a curve needs."""
_LONG = 0.01
"""Seconds from which a product is long enough to be timed."""
_TIMES = 4
"""Products of a size."""


@dataclass(frozen=True)
class Work:
    """Operations of a training row."""

    once: Curve
    """Forward and backward."""
    again: Curve
    """The forward that a replayed micro-batch takes again, without what frozen parts kept of the first one."""
    peak: float
    """Operations a second of one rank's device, in a large product at the run's precision."""

    def needed(self, lengths: Floats) -> float:
        """Return what rows of these lengths [n] need, each forward and backward once."""
        return float(np.polyval(self.once, lengths).sum())

    def computed(self, lengths: Floats, cut: plan.Cut, held: float) -> float:
        """Return what all ranks compute of a cut: padded, fillers too, and replayed from micro-batch `held` on."""
        total = 0.0
        for rank in cut.ranks:
            longest = np.array([lengths[list(micro.indices)].max() for micro in rank])
            each = np.polyval(self.once, longest) + np.polyval(self.again, longest) * (np.arange(len(rank)) >= held)
            total += float(each @ np.array([len(micro.indices) for micro in rank], dtype=np.float64))
        return total

    def speed(self, operations: float, seconds: float, ranks: int) -> dict[str, float]:
        """Return what timing.jsonl has of `operations` that all ranks' rows needed, done in `seconds`."""
        a_second = operations / max(seconds, 1e-9)
        return {"flops": operations, "tflops_per_second": a_second / 1e12, "peak_share": a_second / self.peak / ranks}

    def words(self, lengths: Floats) -> str:
        """Return it as a log says it, of a part with rows of these lengths [n]."""
        return (
            f"a row needs {self.needed(lengths) / len(lengths) / 1e9:.3g} GFLOP forward and backward; "
            f"a large product here does {self.peak / 1e12:.3g} TFLOP/s"
        )


def measure(engine: Engine, task: Task, model: nn.Module, part: Dataset, recipe: Recipe) -> Work | None:
    """Return what rows of a training part compute, remembered or counted, and this device's peak.

    None where no row could be counted. A collective: the main rank counts.
    """
    lengths = np.asarray(part["length"][:], dtype=np.float64)
    sizes = cost_probe.sizes_of(model)
    data = recipe.to_dict().get("data")
    path = cost_probe.cache_path("flops", task, recipe, engine.device, engine.precision, data, sizes)

    def find() -> Work | None:
        record = cache.read_json(path)
        if not isinstance(record, dict):
            samples = _count(engine, task, model, part, lengths)
            if not samples:
                return None
            counted, once, again, _ = zip(*samples, strict=True)
            record = {"once": _fit(counted, once), "again": _fit(counted, again)}
            cost_probe.keep(path, record, "the operations of a row are counted")
        return Work(once=tuple(record["once"]), again=tuple(record["again"]), peak=peak(engine))

    return engine.on_main(find)


def _count(
    engine: Engine, task: Task, model: nn.Module, part: Dataset, lengths: Floats
) -> list[tuple[float, int, int, float]]:
    """Return (length, operations, those of a replay's forward, seconds) of single rows, few of them."""
    samples: list[tuple[float, int, int, float]] = []
    data = Collated(task, part)
    now = cost_probe.host_clock(engine)
    ends = math.inf if engine.accelerated else now() + _SECONDS
    order = np.unique(lengths, return_index=True)[1]
    places = dict.fromkeys(round(q * (len(order) - 1)) for q in (0.0, 0.25, 0.5, 1.0, 0.9, 0.75))
    with cost_probe.probing(engine, model):
        for row in (int(order[place]) for place in places):
            length, begun = float(lengths[row]), now()
            if len(samples) >= FEWEST:
                near, _, _, seconds = samples[-1]
                # What is longer takes at most its square (attention), and only what is much longer adds much.
                if length < 2 * near or seconds * (length / near) ** 2 > ends - begun:
                    continue
            try:
                batch = data.batch(Order(plan.Micro((row,)), Key(seed=0, epoch=0))).to(engine.device)
                once, again = _operations(model, batch.inputs)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                continue
            samples.append((length, once, again, now() - begun))
    return samples


class _Frozen(dict[tuple[nn.Module, int], Any]):
    """What `keeping` keeps, which adds up the operations that were counted for it."""

    def __init__(self, counter: Counter):
        super().__init__()
        self.counter, self.total = counter, 0
        self._begun: list[int] = []

    def __contains__(self, call: object) -> bool:
        """Tell whether it is there; if not, it is computed next."""
        if there := super().__contains__(call):
            return there
        self._begun.append(self.counter.total)
        return False

    def __setitem__(self, call: tuple[nn.Module, int], output: Any) -> None:
        """Take what was computed; of one frozen part within another the outer one counts."""
        begun = self._begun.pop()
        self.total += 0 if self._begun else self.counter.total - begun
        super().__setitem__(call, output)


def _operations(model: nn.Module, inputs: dict[str, Tensor]) -> tuple[int, int]:
    """Return the operations of a forward and backward, and of the forward without what frozen parts compute."""
    with Counter() as counter:
        frozen = _Frozen(counter)
        with keeping(frozen):
            outputs = model(**inputs)
        forward = counter.total
        cost_probe.backward_of(outputs)
    return counter.total, forward - frozen.total


def _fit(lengths: Sequence[float], operations: Sequence[int]) -> Curve:
    """Return the curve through what was counted."""
    coefficients, _ = fit([(1, length, max(1, number)) for length, number in zip(lengths, operations, strict=True)])
    return coefficients.square, coefficients.second, coefficients.start


def peak(engine: Engine) -> float:
    """Return the operations a second of a large product on this device at the run's precision, remembered or timed."""
    path = cost_probe.device_path("peak", engine.device, engine.precision)
    rate = cache.read_json(path)
    if not isinstance(rate, float):
        rate = _timed_product(engine)
        if engine.accelerated:
            # What it took is no memory of the run's.
            torch.get_device_module(engine.device).reset_peak_memory_stats(engine.device)
        cost_probe.keep(path, rate, "the peak of a product is measured")
    return rate


def _timed_product(engine: Engine) -> float:
    """Time products of growing size until one takes long enough, and return that one's best."""
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(engine.precision, torch.float32)
    size, now, rate = 128, cost_probe.host_clock(engine), 0.0
    while size < 8192:
        size *= 2
        # Random, for a device computes with zeros and ones faster.
        with engine.seeded(0):
            matrix = torch.randn(size, size, device=engine.device).to(dtype)
        seconds = []
        for _ in range(_TIMES):
            cost_probe.wait(engine)
            begun = now()
            matrix @ matrix
            cost_probe.wait(engine)
            seconds.append(now() - begun)
        rate = 2 * size**3 / min(seconds)
        if min(seconds) > _LONG:
            break
    return rate
