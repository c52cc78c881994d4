"""The Task and Loss protocols: what a kind of problem tells the training loop, and nothing else.

Legend: B examples of a micro-batch, N examples of the global batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

    from affect.recipe import Recipe

Row = dict[str, Any]
Outputs = Mapping[str, Tensor]
Targets = Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Draw:
    """What the randomness of an example may depend on, beside its id: the run's seed and the epoch."""

    seed: int
    epoch: int


@dataclass(frozen=True, kw_only=True)
class Batch:
    """A micro-batch: padded inputs [B, ...], targets [B, ...] (NaN or -100 where missing) and who is in it.

    `length` is what its examples cost before padding (seconds of audio), `padded` with padding. A filler keeps the
    ranks in step: no loss ever sees its rows.
    """

    ids: tuple[str, ...]
    inputs: dict[str, Tensor]
    targets: dict[str, Tensor]
    rows: list[Row]
    length: float = 0.0
    padded: float = 0.0
    filler: bool = False

    def to(self, device: torch.device) -> Batch:
        """Return the batch with its tensors on `device`."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """Return the batch in page-locked memory (called by the data loader)."""
        return self._map(Tensor.pin_memory)

    def _map(self, change: Callable[[Tensor], Tensor]) -> Batch:
        inputs = {name: change(tensor) for name, tensor in self.inputs.items()}
        return replace(self, inputs=inputs, targets={name: change(t) for name, t in self.targets.items()})


@runtime_checkable
class AdditiveLoss(Protocol):
    """A loss that is a sum over examples divided by a count: total = sum_t weight_t * sum_t / count_t."""

    @property
    def weights(self) -> Mapping[str, float]:
        """The weight of each term."""
        ...

    @property
    def needs(self) -> tuple[str, ...]:
        """The names of the outputs that it reads."""
        ...

    def sums(self, outputs: Outputs, targets: Targets) -> dict[str, Tensor]:
        """Return each term's sum [] over the valid units of these examples (0 examples give 0, with a graph)."""
        ...

    def counts(self, targets: Targets) -> dict[str, Tensor]:
        """Return each term's number of valid units [], from the targets alone."""
        ...


@runtime_checkable
class GatheredLoss(Protocol):
    """A loss that is no sum over examples (CCC, contrastive): total = sum_t weight_t * terms_t of the whole batch.

    The outputs that it needs are gathered, so they should be small.
    """

    @property
    def weights(self) -> Mapping[str, float]:
        """The weight of each term."""
        ...

    @property
    def needs(self) -> tuple[str, ...]:
        """The names of the outputs that it reads."""
        ...

    def terms(self, outputs: Outputs, targets: Targets) -> dict[str, Tensor]:
        """Return each term [] of one batch on one machine, from the outputs named in `needs` [N, ...].

        A term without a valid example is 0 with a gradient of 0, never NaN.
        """
        ...


Loss = AdditiveLoss | GatheredLoss


class Predict(Protocol):
    """What predicts a part by the best weights, as it is or under a condition that the task knows by name."""

    def __call__(self, part: Dataset, condition: str | None = None) -> list[Row]:
        """Return a row an example; a collective where there are several ranks."""
        ...


class Task(Protocol):
    """One kind of problem: its data, model, loss and scores. Knows nothing of processes or devices."""

    recipe: Recipe
    """The recipe that it was made from."""

    score: str
    """The metric that chooses checkpoints, on the validation part; larger is better."""

    unit: str
    """What lengths are counted in, in words ("s of audio")."""

    tests: tuple[str, ...]
    """The parts that are predicted once, at the end of a run, by the weights that validation chose."""

    def folds(self) -> list[int]:
        """Return the folds that the recipe asks for, from 1."""
        ...

    def at(self, seed: int, fold: int) -> Task:
        """Return the task of one seed and fold, which shares what was read; what follows speaks of that one."""
        ...

    def datasets(self) -> DatasetDict:
        """Return the parts `train`, `valid` and `tests`; rows have `id` and `length` (what an example costs).

        A row that stands for several examples (a segment of a dialogue) names them in `members`.
        """
        ...

    def collate(self, rows: list[Row], draw: Draw | None) -> Batch:
        """Decode, augment (only where `draw` is given, a function of it and the id alone) and pad rows.

        A row under a condition (see `examine`) names it as `condition`.
        """
        ...

    def model(self) -> nn.Module:
        """Return a new model: `model(**batch.inputs)` gives outputs [B, ...] by name."""
        ...

    def prepare(self, model: nn.Module, rank: int, world: int) -> None:
        """Compute once what all epochs need of the rows (a frozen encoder's states).

        `rank` and `world` are those of this machine, whose ranks share the work.
        """
        ...

    def loss(self) -> Loss:
        """Return the loss of a global batch."""
        ...

    def parameter_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """Return the optimiser's groups (`params`, `lr`, `weight_decay`, `name`) over trainable parameters."""
        ...

    def begin(self, model: nn.Module, epoch: int, step: int) -> dict[str, float]:
        """Set what follows a schedule before a training step (masking, dropout ramps) and return it by name."""
        ...

    def predictions(self, outputs: Outputs, batch: Batch) -> list[Row]:
        """Return a row an example: id, prediction and target by name on the raw scale, group keys."""
        ...

    def metrics(self, rows: list[Row]) -> dict[str, float]:
        """Return the scores of predicted rows; pure."""
        ...

    def validate(self, predict: Predict) -> dict[str, float]:
        """Return the scores of the part `valid`, with the one that chooses (`score`); reached by every rank."""
        ...

    def save(self, model: nn.Module, folder: Path) -> None:
        """Write the weights (model.safetensors) and all that a prediction needs to an existing folder."""
        ...

    def baselines(self) -> dict[str, dict[str, list[Row]]]:
        """Return the rows of parts as trivial models predict them, by part and by the model's name."""
        ...

    def examine(self, predict: Predict) -> dict[str, NDArray[Any]]:
        """Return what the best weights make of inputs under other conditions (missing, noisy), as named arrays.

        A task that examines nothing returns none. Reached by every rank.
        """
        ...

    def describe(self) -> dict[str, Any]:
        """Return what the run folder should say of the data: fingerprint, scale, number of exclusions by reason."""
        ...

    def exclusions(self) -> list[dict[str, str]]:
        """Return all that the data leaves out: `what` (a file, an example or a line) and the `reason`."""
        ...


@runtime_checkable
class Stackable(Protocol):
    """A task with a model so small that several seeds and folds train together in one process.

    Its model takes what is random inside as an input: `model.draw(rows)` gives the masks [B, ...] of one micro-batch
    from torch's generator, and `model(**inputs, noise=masks)` is a pure function of both. Its parts have the column
    `row`: the place of an example among all.
    """

    together: int | None
    """Runs trained together; None decides by size."""

    def batch(self, rows: NDArray[np.intp], condition: str | None = None) -> Batch:
        """Return the examples at these places, as they are or as they would be under a condition."""
        ...

    def release(self) -> None:
        """Let go of the memory of inputs read so far; called between one stretch of reading and the next."""
        ...


def terms_of(loss: Loss, outputs: Outputs, targets: Targets) -> dict[str, Tensor]:
    """Return a loss's terms [] for one whole batch on one machine; a term without a valid unit is 0."""
    if isinstance(loss, GatheredLoss):
        return loss.terms(outputs, targets)
    counts = loss.counts(targets)
    return {name: total / counts[name].clamp(min=1) for name, total in loss.sums(outputs, targets).items()}


def total_of(loss: Loss, outputs: Outputs, targets: Targets) -> Tensor:
    """Return a loss [] for one whole batch on one machine: the reference that every cut must equal."""
    terms = terms_of(loss, outputs, targets)
    return torch.stack([loss.weights[name] * value for name, value in terms.items()]).sum()
