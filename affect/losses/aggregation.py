"""Gradients of terms combined so that none works against another: UPGrad, PCGrad and CAGrad, through TorchJD.

What a task may return as its `aggregator`. The rows are exact, each a term's gradient over the whole global batch, of
one process; they cost a pass a term. Legend: K terms, P values of the shared parameters.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from affect.errors import AffectError

Kind = Literal["upgrad", "pcgrad", "cagrad"]


def aggregator(kind: Kind, *, c: float = 0.5) -> Callable[[Tensor], Tensor]:
    """Return what combines gradients [K, P] to [P]; without a conflict all but CAGrad give their sum.

    `upgrad` projects each onto what harms no other (Quinton and Rey 2024), `pcgrad` takes from each what points against
    others, in an order by lot (Yu et al. 2020), `cagrad` raises the least gain of a term, within `c` of the mean's
    length from the mean (Liu et al. 2021). A row of zeros, which would stop or halve the others, is left out. Raises
    AffectError where TorchJD or what it needs is not installed.
    """
    combine = _torchjd(kind, c)

    def combined(rows: Tensor) -> Tensor:
        # In float32: several of them refuse bfloat16.
        kept = rows[rows.norm(dim=1) > 0].float()
        if len(kept) < 2:
            return kept.sum(0).to(rows.dtype)
        with torch.random.fork_rng(devices=[]):
            # PCGrad's lot is a function of the gradients: a resumed run draws the same.
            torch.manual_seed(zlib.crc32((kept @ kept.T).cpu().numpy().tobytes()))
            aggregate: Tensor = combine(kept)
        # The others are means: as sums they are as long as the gradients of what is not shared.
        return (aggregate if kind == "pcgrad" else aggregate * len(kept)).to(rows.dtype)

    return combined


def _torchjd(kind: Kind, c: float) -> Any:
    try:
        from torchjd.aggregation import CAGrad, PCGrad, UPGrad

        made: dict[Kind, Callable[[], Any]] = {"upgrad": UPGrad, "pcgrad": PCGrad, "cagrad": lambda: CAGrad(c)}
        return made[kind]()
    except ImportError as error:
        raise AffectError(f"{kind} combines gradients through TorchJD: pip install 'affect[aggregation]'") from error
