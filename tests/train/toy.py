"""A small model with every kind of output that a loss reads, and batches for it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from affect.losses.arcface import ArcFace
from affect.losses.ccc import CCC
from affect.losses.contrastive import Contrastive
from affect.losses.masked import CrossEntropy, Masked, binary, squared
from affect.losses.weighting import Sum, Uncertainty
from affect.task import Batch, Loss

WIDTH, SPEAKERS = 6, 5


class Toy(nn.Module):
    def __init__(self, dropout: float = 0.0):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(WIDTH, 16), nn.Tanh(), nn.Dropout(dropout), nn.Linear(16, 16), nn.Tanh())
        self.heads = nn.ModuleDict({name: nn.Linear(16, 1) for name in ("valence", "arousal", "smile")})
        self.first, self.second = nn.Linear(16, 4), nn.Linear(16, 4)
        self.table = nn.Parameter(torch.randn(SPEAKERS, 16))
        self.log_variance = nn.Parameter(torch.tensor([0.3, -0.2, 0.1, 0.4]))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        h = self.body(x)
        scalars = {name: head(h).squeeze(-1) for name, head in self.heads.items()}
        cosine = F.normalize(h, dim=-1) @ F.normalize(self.table, dim=-1).T
        rest = {"first": self.first(h), "second": self.second(h), "speaker": cosine, "label": 5 * cosine}
        # A zero for every parameter: DDP wants each to take part, whichever loss is asked for.
        unused = sum(p.sum() for p in self.parameters()) * 0.0
        return {
            **{name: value + unused for name, value in (scalars | rest).items()},
            "log_variance": self.log_variance.expand(len(x), -1) + unused,
        }


V_A = {"valence": 1.0, "arousal": 0.7}


def losses() -> dict[str, Loss]:
    each: dict[str, Loss] = {
        "ccc": CCC(V_A),
        "contrastive": Contrastive("first", "second"),
        "mse": Masked(squared, V_A),
        "bce": Masked(binary, {"smile": 2.0}),
        "cross_entropy": CrossEntropy({"label": 1.0}),
        "arcface": ArcFace("speaker"),
    }
    some = {name: each[name] for name in ("ccc", "mse", "bce", "arcface")}
    both = Sum({**some, "contrastive": each["contrastive"]})
    four = Sum({"ccc": CCC({"valence": 1.0}), "mse": Masked(squared, {"arousal": 0.5}), "a": ArcFace("speaker"),
                "bce": Masked(binary, {"smile": 1.0})})  # fmt: skip
    return {**each, "sum": both, "uncertainty": Uncertainty(four), "uncertain_mse": Uncertainty(Masked(squared, V_A))}


def data(n: int, seed: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
    """Return inputs [N, WIDTH] and targets [N], about a third of each missing."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, WIDTH, generator=g)
    targets = {name: x[:, k] * 0.5 + torch.randn(n, generator=g) + 3.0 for k, name in enumerate(V_A)}
    targets["smile"] = (x[:, 2] > 0).float()
    for name in targets:
        targets[name][torch.rand(n, generator=g) < 0.3] = float("nan")
    for name in ("speaker", "label"):
        index = torch.randint(SPEAKERS, (n,), generator=g)
        index[torch.rand(n, generator=g) < 0.3] = -100
        targets[name] = index
    return x, targets


def batches(x: Tensor, targets: dict[str, Tensor], sizes: Sequence[int], start: int = 0) -> list[Batch]:
    """Return micro-batches of these sizes from row `start` on; a size of 0 is a filler."""
    made = []
    for size in sizes:
        rows = slice(start, start + max(1, size))
        made.append(
            Batch(
                ids=tuple(map(str, range(*rows.indices(len(x))))),
                inputs={"x": x[rows]},
                targets={name: t[rows] for name, t in targets.items()},
                rows=[{}] * max(1, size),
                filler=size == 0,
            )
        )
        start += size
    return made


def gradient(model: nn.Module) -> Tensor:
    return torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in model.parameters()])


def relative(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())
