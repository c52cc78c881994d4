"""A loss of outputs that bear a prefix: another look at the same examples, with the same labels."""

from __future__ import annotations

from torch import Tensor

from affect.task import AdditiveLoss, Outputs, Targets


class Renamed:
    """An additive loss that reads the outputs `<prefix><name>`; its terms bear the prefix, its weights are scaled."""

    def __init__(self, loss: AdditiveLoss, prefix: str, weight: float = 1.0):
        self.loss, self.prefix = loss, prefix
        self.weights = {prefix + name: weight * value for name, value in loss.weights.items()}
        self.needs = tuple(prefix + name for name in loss.needs)

    def sums(self, outputs: Outputs, targets: Targets) -> dict[str, Tensor]:
        """Return each term's sum [] over its valid units."""
        mine = {name: outputs[self.prefix + name] for name in self.loss.needs}
        return {self.prefix + name: value for name, value in self.loss.sums(mine, targets).items()}

    def counts(self, targets: Targets) -> dict[str, Tensor]:
        """Return each term's number of valid units []."""
        return {self.prefix + name: count for name, count in self.loss.counts(targets).items()}
