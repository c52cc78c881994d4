"""What losses of vectors by modality have to stand: `of` is the loss of outputs [N, H] and `present` [N, M]."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import grad, vmap

from affect.training.terms import Loss

Of = Callable[[dict[str, Tensor], Tensor], Loss]


def padding_changes_nothing(of: Of, outputs: dict[str, Tensor], padding: int, filling: float, atol: float) -> None:
    """Hold that rows [7, 4] give what they give with others of no modality behind them."""
    present = (torch.rand(7, 3) < 0.7).float()
    longer = {name: torch.cat([x, torch.full((padding, 4), filling)]) for name, x in outputs.items()}
    plain = of(outputs, present).values
    padded = of(longer, torch.cat([present, torch.zeros(padding, 3)])).values
    for name, value in plain.items():
        torch.testing.assert_close(padded[name], value, rtol=1e-5, atol=atol)


def each_is_one_alone(of: Of, outputs: dict[str, Tensor]) -> None:
    """Hold that three models' rows [3, 7, H] give at once what each gives alone, and the same gradients."""
    present = (torch.rand(3, 7, 3, generator=torch.Generator().manual_seed(1)) < 0.7).float()
    present[:, 6] = 0

    def loss(outputs: dict[str, Tensor], present: Tensor) -> Tensor:
        return of(outputs, present).total

    together, slopes = vmap(loss)(outputs, present), vmap(grad(loss))(outputs, present)
    for k in range(3):
        alone = {name: x[k] for name, x in outputs.items()}
        torch.testing.assert_close(together[k], loss(alone, present[k]))
        for name, slope in grad(loss)(alone, present[k]).items():
            torch.testing.assert_close(slopes[name][k], slope)
            assert bool((slope[6] == 0).all())
