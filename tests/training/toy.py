"""A small model with every kind of output that a term reads, batches for it, and mixes of terms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from affect import keyed
from affect.losses.alignment import contrastive
from affect.losses.arcface import arcface
from affect.losses.ccc import ccc_term
from affect.losses.consistency import consistency
from affect.losses.focal import focal
from affect.losses.gaussian import gaussian
from affect.losses.label_distribution import LabelWeights
from affect.losses.masked import absolute_error, binary_cross_entropy, cross_entropy, huber, squared_error
from affect.losses.plcc import plcc_term
from affect.losses.rank import rank_term
from affect.losses.slots import slot_activity
from affect.losses.speaker_contrastive import speaker_contrastive
from affect.models.dropout import Dropout
from affect.task import Batch, Term

WIDTH, SPEAKERS = 6, 5
SLOTS, FRAMES, VOICES = 3, 4, 2
BCE = partial(F.binary_cross_entropy_with_logits, reduction="none")
TARGETS = ("valence", "arousal")
MAKE: dict[str, Callable[[], Term]] = {
    "ccc_valence": lambda: ccc_term("valence"),
    "ccc_arousal": lambda: ccc_term("arousal", weight=0.7),
    "plcc_valence": lambda: plcc_term("valence"),
    "rank_arousal": lambda: rank_term("arousal", weight=0.7),
    "speakers": lambda: speaker_contrastive("one", "other", "voice", weight=0.5),
    "contrastive": lambda: contrastive("first", "second"),
    "mse_valence": lambda: squared_error("valence"),
    "mse_arousal": lambda: squared_error("arousal", weight=0.7),
    "bce_smile": lambda: binary_cross_entropy("smile", weight=2.0),
    "ce_label": lambda: cross_entropy("label"),
    "arcface_speaker": lambda: arcface("speaker"),
    "mae_valence": lambda: absolute_error("valence", weigh=LabelWeights(1.0, 5.0, (2.0, 1.0, 0.5, 1.5))),
    "huber_arousal": lambda: huber("arousal", delta=0.5),
    "focal_smile": lambda: focal("smile"),
    "slots_turns": lambda: slot_activity("turns", "new", BCE, first=2, first_weight=1.5, arrival=0.25),
    "nll_valence": lambda: gaussian("valence", beta=0.25),
    "consistency": lambda: consistency({"valence": (1.0, 5.0), "arousal": (0.0, 6.0)}, weight=3.0),
}
"""Terms by name: six of the batch, eleven additive."""
GATHERED, ADDITIVE = tuple(MAKE)[:6], tuple(MAKE)[6:]
VARIED, LABELLED = GATHERED[:5], ADDITIVE[:-1]
"""Those that need two labels that differ, and those that need one."""


def terms(chosen: dict[str, bool]) -> list[Term]:
    """Return the terms that are named, with learned weights where their name holds True."""
    columns = {name: k for k, name in enumerate(MAKE)}
    return [replace(MAKE[name](), log_variance=columns[name] if learned else None) for name, learned in chosen.items()]


def mix(names: Sequence[str], *learned: str) -> dict[str, bool]:
    return {name: name in learned for name in names}


MIXES: dict[str, dict[str, bool]] = {
    **{name: mix([name]) for name in MAKE},
    "all": mix(tuple(MAKE)),
    "all learned": mix(tuple(MAKE), *MAKE),
    "both kinds": mix(tuple(MAKE), "ccc_valence", "mse_arousal", "arcface_speaker"),
    "additive": mix(ADDITIVE, "mse_valence", "ce_label"),
    "gathered": mix(GATHERED, "ccc_arousal", "contrastive"),
    "learned beside fixed": mix(["ccc_valence", "mse_valence"], "mse_valence"),
    "fixed beside learned": mix(["mse_valence", "ccc_valence"], "ccc_valence"),
}
"""Mixes by name: each term alone, all of them, and each way in which a fixed and a learned weight meet."""

ANY_MIX = st.dictionaries(st.sampled_from(tuple(MAKE)), st.booleans(), min_size=1)


class Toy(nn.Module):
    def __init__(self, dropout: float = 0.0):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(WIDTH, 16), nn.Tanh(), Dropout(dropout), nn.Linear(16, 16), nn.Tanh())
        self.heads = nn.ModuleDict({name: nn.Linear(16, 1) for name in (*TARGETS, "smile")})
        self.spread = nn.Linear(16, 1)
        self.first, self.second = nn.Linear(16, 4), nn.Linear(16, 4)
        self.slots = nn.Linear(16, SLOTS * FRAMES)
        self.one, self.other = nn.Linear(16, VOICES * 3), nn.Linear(16, VOICES * 3)
        self.table = nn.Parameter(torch.randn(SPEAKERS, 16))
        self.log_variance = nn.Parameter(torch.linspace(-0.3, 0.4, len(MAKE)))
        self.forwards = 0
        keyed.name_places(self)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        self.forwards += 1
        h = self.body(x)
        scalars = {name: head(h).squeeze(-1) for name, head in self.heads.items()}
        cosine = F.normalize(h, dim=-1) @ F.normalize(self.table, dim=-1).T
        scalars["valence_spread"] = F.softplus(self.spread(h).squeeze(-1))
        slots = self.slots(h).view(-1, SLOTS, FRAMES)
        views = {name: getattr(self, name)(h).view(-1, VOICES, 3) for name in ("one", "other")}
        rest = {"first": self.first(h), "second": self.second(h), "speaker": cosine, "label": 5 * cosine}
        rest |= {"turns": slots, **views}
        # A zero for every parameter: DDP wants each to take part, whichever loss is asked for.
        unused = sum(p.sum() for p in self.parameters()) * 0.0
        return {
            **{name: value + unused for name, value in (scalars | rest).items()},
            "log_variance": self.log_variance.expand(len(x), -1) + unused,
        }


def data(n: int, seed: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
    """Return inputs [N, WIDTH] and targets [N], about a third of each missing."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, WIDTH, generator=g)
    targets = {name: x[:, k] * 0.5 + torch.randn(n, generator=g) + 3.0 for k, name in enumerate(TARGETS)}
    targets["smile"] = (x[:, 2] > 0).float()
    for name in targets:
        targets[name][torch.rand(n, generator=g) < 0.3] = float("nan")
    for name, shape in {"turns": (SLOTS, FRAMES), "new": (2, FRAMES)}.items():
        targets[name] = (torch.rand(n, *shape, generator=g) < 0.5).float()
        targets[name][torch.rand(n, shape[0], generator=g) < 0.3] = float("nan")
    targets["voice"] = torch.randint(-1, 4, (n, VOICES), generator=g)
    targets["voice"][targets["voice"] < 0] = -100
    for name in ("speaker", "label"):
        index = torch.randint(SPEAKERS, (n,), generator=g)
        index[torch.rand(n, generator=g) < 0.3] = -100
        targets[name] = index
    return x, targets


def labelled(targets: dict[str, Tensor], labels: int, value: float | None = None) -> dict[str, Tensor]:
    """Return targets of which the first `labels` rows have labels, all the same where `value` is given."""
    found = {}
    for name, target in targets.items():
        whole = target.dtype == torch.int64
        given = torch.arange(len(target)) % 2 if value is None else torch.full((len(target),), int(value))
        rows = torch.where(torch.arange(len(target)) < labels, given, -100 if whole else float("nan"))
        found[name] = rows.to(target.dtype).view(-1, *[1] * (target.ndim - 1)).expand(target.shape)
    return found


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
