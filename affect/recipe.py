"""Recipes: frozen dataclasses that say what to run. Importing them loads no tensor library.

A kind of problem extends `Recipe` with its data and model (affect/tasks/<task>/config.py). A wrong value is an
AffectError that names its field, raised where the recipe is made and so before anything is loaded.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from dataclasses import dataclass, field
from functools import partial
from operator import le, lt
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from affect import config
from affect.config import (
    LARGEST_SEED,
    differences,
    field_names,
    hold,
    refuse_empty,
    require,
    require_each,
    require_most,
    types_in,
)  # fmt: skip
from affect.errors import AffectError, first_line, with_article

__all__ = ["FREE", "LARGEST_SEED", "Optim", "Recipe", "Train", "check_own", "differences", "field_names", "hold",
           "read", "require", "types_in", "whose"]  # fmt: skip

FREE = (
    *(f"train.{name}" for name in ("budget", "mode", "costs", "workers", "trackers", "world", "keep", "timeout")),
    *("train.checkpoint_minutes", "together", "push_to_hub", "hub_private"),
)
"""Fields that may change between the sessions of a run, and differ between runs that are compared: they decide no
result."""


_YEAR = 525_600
"""Minutes of a year."""
_positive, _not_negative = partial(lt, 0), partial(le, 0)


@dataclass(frozen=True, kw_only=True)
class Optim:
    """AdamW or Adam, its rates and their schedule, clipping and averaging."""

    algorithm: Literal["adamw", "adam"] = "adamw"
    """adam adds the weight decay to the gradient (L2), adamw takes it from the weights."""
    lr: float = 1e-4
    """Peak learning rate of everything that is not the encoder."""
    encoder_lr: float | None = None
    """Peak learning rate of the pretrained encoder; as `lr` when not given."""
    weight_decay: float = 1e-4
    """Weight decay; what it leaves out (norms and biases, or nothing) is the task's to say."""
    betas: tuple[float, float] = (0.9, 0.999)
    schedule: Literal["cosine", "constant", "plateau", "onecycle"] = "cosine"
    """After the warm-up: half a cosine to 0, constant, or halved when the validation score stands still; onecycle is
    torch's OneCycleLR, with the warm-up as its rise."""
    warmup: float = 0.1
    """Share of all steps over which the rates rise from 0."""
    plateau_patience: int = 3
    """Evaluations without a better score after which `plateau` halves the rates."""
    plateau_delta: float = 0.0
    """Share of itself by which a score must rise to count as better for `plateau`."""
    floor: float = 0.0
    """Rate that `plateau` does not go below."""
    clip: float | None = 1.0
    """Largest gradient norm; None does not clip."""
    clip_percentile: float | None = None
    """Clip to this percentile of the gradient's norms in the last 500 steps (10 is AutoClip's), in place of `clip`."""
    clip_value: float | None = None
    """Largest absolute value of each element of the gradient, after `clip`; None does not clip."""
    ema: float | None = None
    """Decay of an exponential moving average of the weights that is evaluated and kept; None has none."""

    def __post_init__(self) -> None:
        """Check every field."""
        hold(self, "optim")
        require_most(self, "optim", 1_000, "lr", "encoder_lr", "weight_decay", "floor")
        require_each(self, "optim", "be positive", _positive, "lr", "encoder_lr", "plateau_patience")
        require_each(self, "optim", "be positive (or None)", _positive, "clip", "clip_value")
        require_each(self, "optim", "not be negative", _not_negative, "weight_decay", "plateau_delta", "floor")
        require(all(0 <= b < 1 for b in self.betas), "optim.betas", "lie in [0, 1)", self.betas)
        require(0 <= self.warmup < 1, "optim.warmup", "be a share of the steps in [0, 1)", self.warmup)
        share = self.clip_percentile
        require(share is None or 0 < share <= 100, "optim.clip_percentile", "lie in (0, 100] (or be None)", share)
        require(self.ema is None or 0 < self.ema < 1, "optim.ema", "lie in (0, 1)", self.ema)


@dataclass(frozen=True, kw_only=True)
class Train:
    """The global batch, how long to train, when to stop and what to keep."""

    batch: int = 64
    """Examples of a global batch: every run optimises exactly the loss of these, on one CPU or 64 GPUs."""
    epochs: int = 20
    steps: int | None = None
    """Stop after this many steps, whatever the epochs say."""
    budget: float | Literal["auto"] = "auto"
    """Largest padded cost (seconds of audio) of a micro-batch; auto measures memory before the first step.
    Decides memory and speed, never the result."""
    mode: Literal["auto", "hold", "replay"] | float = "auto"
    """hold keeps a step's graphs, replay forwards twice and keeps one micro-batch's; a share (.5) of the largest step's
    graphs may be kept, too; auto keeps as many as memory allows. A loss of additive terms alone (mse): one pass."""
    costs: Literal["auto", "linear"] | tuple[float, float, float] = "auto"
    """What ranks and micro-batches are balanced by: linear is padded length alone; three numbers are the seconds of a
    micro-batch, of a padded second (or frame, or row) and of a row's second squared. auto measures them where budget
    or mode are measured, and else takes linear. Decides speed, never the result beyond rounding."""
    patience: int | None = None
    """Stop after this many epochs without a better validation score."""
    min_delta: float = 0.0
    """By how much a score must rise to count as better for `patience`; the weights kept are the best ones anyway."""
    choose: Literal["best", "last"] = "best"
    """Keep the weights of the best validation score, or the last ones (where validation is too small to choose by)."""
    evaluate_every: int = 1
    """Epochs between evaluations of the validation part."""
    average_best: int = 1
    """Keep the mean of this many best weights in place of the best ones alone."""
    init_from: str | None = None
    """Start from the weights of another run: its folder, or a model's folder or name on the Hub. What has another name
    or shape there begins anew."""
    precision: Literal["no", "bf16", "fp16"] | None = None
    """Precision of forwards and backwards; as launched when not given. A launch file that says otherwise stops."""
    diagnostics_every: int | None = None
    """Steps between records of the task's diagnostics and (in one process) of each term's gradient."""
    keep: int = 2
    """Checkpoints kept for resuming, beside the best weights: where the newest is damaged, the one before is taken."""
    checkpoint_every: int = 1
    """Epochs between checkpoints."""
    checkpoint_minutes: float = 30.0
    """Minutes after a checkpoint at which one is saved inside an epoch, too: what a kill costs at most."""
    workers: int = 2
    """Processes a rank that decode ahead, as many as it has cores at most; 0 decodes between steps."""
    trackers: tuple[str, ...] = ("tensorboard",)
    """Any trackers of Accelerate."""
    world: int | None = None
    """Number of processes this must run on; stops when the launcher started another number."""
    timeout: float = 30.0
    """Minutes without progress after which a run of several processes stops and names the one that hangs."""

    def __post_init__(self) -> None:
        """Check every field."""
        hold(self, "train")
        require_most(self, "train", 1_024, "workers")
        require_most(self, "train", 100_000, "world")
        require_most(self, "train", _YEAR, "timeout", "checkpoint_minutes")
        require_each(
            self, "train", "be positive", _positive, "batch", "epochs", "evaluate_every", "checkpoint_every", "keep",
            "average_best", "timeout", "checkpoint_minutes",
        )  # fmt: skip
        require_each(
            self, "train", "be positive (or None)", _positive, "steps", "patience", "world", "diagnostics_every"
        )  # fmt: skip
        require_each(self, "train", "not be negative", _not_negative, "workers", "min_delta")
        costs = isinstance(self.costs, str) or (min(self.costs) >= 0 and sum(self.costs) > 0)
        require(costs, "train.costs", "be auto, linear or three numbers, none negative nor all zero", self.costs)
        require(self.budget == "auto" or self.budget > 0, "train.budget", "be positive or 'auto'", self.budget)
        share = isinstance(self.mode, str) or 0 < self.mode < 1
        require(share, "train.mode", "be auto, hold, replay or a share between 0 and 1", self.mode)
        if self.choose == "last":
            why = "with choose=last, which takes the last weights"
            require(self.patience is None, "train.patience", f"be left out {why}", self.patience)
            require(self.average_best == 1, "train.average_best", f"be 1 {why}", self.average_best)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What to run: the base of every task's recipe."""

    task: ClassVar[str]
    """The name of the task in affect/tasks/__init__.py."""

    seed: int = 0
    optim: Optim = field(default_factory=Optim)
    train: Train = field(default_factory=Train)
    push_to_hub: str | None = None
    """Repository on the Hub (user/name) to which the best and the last weights go while the run trains; of several
    folds or seeds each has its own, user/name-seed0-fold1."""
    hub_private: bool = False
    """Whether a repository that is made for it is private."""

    def __post_init__(self) -> None:
        """Check the types of all fields, and the seed."""
        hold(self)
        require(self.seed >= 0, "seed", "not be negative", self.seed)
        require(self.seed <= LARGEST_SEED, "seed", f"be {LARGEST_SEED:,} at most", self.seed)
        named = self.push_to_hub is None or re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", self.push_to_hub) is not None
        require(named, "push_to_hub", "be a repository's name, user/name", self.push_to_hub)
        refuse_empty(self)

    def seeds(self, given: tuple[int, ...] | None) -> tuple[int, ...]:
        """Return the seeds to run: those `given`, or the recipe's own. A kind of problem may ask for more."""
        return given or (self.seed,)

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe as JSON types, with the name of its task."""
        return {"task": self.task, **config.to_dict(self)}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Return the recipe that `to_dict` wrote. Raises AffectError naming an unknown field or a wrong type."""
        # A run's recipe.json names its experiment beside the recipe.
        return config.from_dict(cls, {k: v for k, v in data.items() if k not in ("task", "experiment")})


def read(path: Path, what: str = "recipe") -> dict[str, Any]:
    """Return a recipe.json (or another object, `what` it is) as a dictionary. Raises AffectError where it is none."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise AffectError(f"{path} is not a readable {what}: {first_line(error)}") from error
    if not isinstance(data, dict):
        raise AffectError(f"{path} is not {with_article(what)}: it holds no object")
    return data


def whose(document: dict[str, Any]) -> dict[str, Any]:
    """Return whose weights are by a run's recipe.json: seed, fold (None: the only one) and the digest of its fields.

    Those of `FREE`, which may change between the sessions of a run, are not in it, nor where the data lay.
    """
    held = config.without(document, (*FREE, "data.root"))
    digest = hashlib.sha256(json.dumps(held, sort_keys=True).encode()).hexdigest()
    return {"seed": document.get("seed"), "fold": _fold(document), "recipe": digest}


def check_own(folder: Path) -> None:
    """Raise AffectError where a run's folder is a copy of another run's, or its best weights are another run's.

    By its place seed<S>/fold<F>, its recipe.json and what the weights say of themselves, as far as they are there.
    """
    path = folder / "recipe.json"
    if not path.exists():
        return
    document = read(path)
    place = re.fullmatch(r"seed(\d+)/fold(\d+)", "/".join(folder.absolute().parts[-2:]))
    if place is not None and "members" not in document:
        seed, fold = document.get("seed", int(place[1])), _fold(document) or int(place[2])
        if (seed, fold) != (int(place[1]), int(place[2])):
            raise AffectError(
                f"{folder} holds seed {seed}, fold {fold} by its recipe.json: it was copied there, and its weights may "
                "have seen this fold's test part; name the one it is of, or rename it"
            )
    best = folder / "checkpoints" / "best"
    with contextlib.suppress(OSError, ValueError, RecursionError, AttributeError):
        # What is damaged is told of by whoever reads the weights.
        of = json.loads((best / "place.json").read_text(encoding="utf-8")).get("of")
        if of is not None and of != whose(document):
            raise AffectError(f"{best} holds weights of another run than {path} tells of: they were copied there")


def _fold(document: dict[str, Any]) -> int | None:
    data = document.get("data")
    fold = data.get("fold") if isinstance(data, dict) else None
    return fold if isinstance(fold, int) else None
