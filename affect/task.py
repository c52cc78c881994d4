"""What a kind of problem (a task) tells the rest of affect: its data, model, loss, measures and evaluations.

A task owns its whole life; training, reports, prediction and the Hub ask it and never name it. Importing this module,
or a task's own, loads no tensor library: a task imports what it needs where it needs it. Making a task reads no data.

Legend: B examples of a micro-batch, N examples of the global batch, R predicted rows, n resamples, G groups of rows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, Self, cast, runtime_checkable

from affect.errors import AffectError

if TYPE_CHECKING:
    import numpy as np
    import torch
    from datasets import Dataset, DatasetDict
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from affect.findings import Flag, Section
    from affect.inference.opening import Opened
    from affect.recipe import Recipe
    from affect.report.study import Study
    from affect.usage import Card, UserInputs

Row = dict[str, Any]
Outputs = Mapping[str, "Tensor"]
Targets = Mapping[str, "Tensor"]

TRAIN, VALID = "train", "valid"
"""The parts that every task has; all others are tests, which nothing is chosen by."""

LOG_VARIANCE = "log_variance"
"""The output [B, K] that holds a model's learned log variances, a copy an example."""
SPREAD = "_spread"
"""What follows a target's name in the output [B] that holds its predicted standard deviation."""


@dataclass(frozen=True, kw_only=True)
class Key:
    """What the randomness of an example may depend on, beside its id: the run's seed and the epoch."""

    seed: int
    epoch: int


@dataclass(frozen=True, kw_only=True)
class Batch:
    """A micro-batch: padded inputs [B, ...], targets [B, ...] (NaN or -100 where missing) and who is in it.

    A filler keeps the ranks in step: no loss ever sees its rows.
    """

    ids: tuple[str, ...]
    inputs: dict[str, Tensor]
    targets: dict[str, Tensor]
    rows: list[Row]
    filler: bool = False

    def to(self, device: torch.device) -> Batch:
        """Return the batch with its tensors on `device`."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """Return the batch in page-locked memory (called by the data loader)."""
        return self._map(lambda tensor: tensor.pin_memory())

    def split(self, sizes: Sequence[int]) -> list[Batch]:
        """Return the batch in parts of these many rows, views of it."""
        parts = [slice(end - size, end) for end, size in zip(accumulate(sizes), sizes, strict=True)]
        return [replace(self._map(itemgetter(rows)), ids=self.ids[rows], rows=self.rows[rows]) for rows in parts]

    def _map(self, change: Callable[[Tensor], Tensor]) -> Batch:
        inputs = {name: change(tensor) for name, tensor in self.inputs.items()}
        return replace(self, inputs=inputs, targets={name: change(t) for name, t in self.targets.items()})


@dataclass(frozen=True, kw_only=True)
class Term:
    """One term of the loss, over the whole global batch: of an additive kind, or of the batch kind.

    An additive term has `sum` (over the valid units of some examples, 0 of none, with a graph) and `count` (their
    number, from the targets alone): its value is the sum over the batch divided by the count. A batch term (CCC,
    contrastive: no sum over examples) has `value`, written as if for one batch on one machine; the outputs and targets
    that it reads are gathered from all ranks, so they should be small. Where `defined` says that a batch tells it
    nothing (fewer than two labels, all the same), it takes no part in that step; an additive term takes none where
    its count is 0. Its value must be finite, with a finite gradient, there too.
    """

    name: str
    outputs: tuple[str, ...]
    targets: tuple[str, ...] = ()
    weight: float = 1.0
    log_variance: int | None = None
    """Column of the model's output `log_variance` [B, K] that weighs the term: exp(-s) * weight * value + s."""
    sum: Callable[[Outputs, Targets], Tensor] | None = None
    count: Callable[[Targets], Tensor] | None = None
    value: Callable[[Outputs, Targets], Tensor] | None = None
    defined: Callable[[Targets], Tensor] | None = None

    def __post_init__(self) -> None:
        """Refuse what is neither kind. Raises ValueError."""
        if (self.sum is None) != (self.count is None) or (self.sum is None) == (self.value is None):
            raise ValueError(f"the term {self.name} needs sum and count, or value")

    @property
    def additive(self) -> bool:
        """Whether it is a sum over examples divided by a count."""
        return self.sum is not None


class Weighting(Protocol):
    """Weights of terms that follow the terms' earlier values of whole global batches (DWA, RLW, FAMO)."""

    def weights(self, names: Sequence[str], epoch: int) -> dict[str, float]:
        """Return what the own weight of each term that takes part in the next step is multiplied by."""

    def observe(self, values: Mapping[str, float], epoch: int) -> None:
        """Take in a step's values of those terms that took part."""

    def state(self) -> dict[str, Any]:
        """Return what the weights depend on, as JSON types: a checkpoint holds it."""

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` gave."""


Replicates = Callable[[Sequence[Row], "NDArray[np.intp]"], "NDArray[np.float64]"]


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A score of predicted rows, the same one in training, in reports and in comparisons."""

    name: str
    """As metrics.jsonl and files of reported numbers have it: ccc_valence."""
    score: Callable[[Sequence[Row]], float]
    """The score of rows; NaN where they don't define one (no label, all the same)."""
    title: str = ""
    """As tables show it: CCC-V."""
    better: Literal["higher", "lower"] = "higher"
    chance: float | None = None
    """What guessing reaches."""
    groups: tuple[str, ...] = ("dialogue", "speaker", "session")
    """Keys of rows, the first of which that joins rows is what a bootstrap draws; without any, rows."""
    replicates: Replicates | None = None
    """Scores of n resamples [n] of rows by groups [R] (`metrics.bootstrap.draws`); n calls of `score` if not given."""
    headline: bool = True
    """Whether it stands in the main tables; the others are told further below."""
    aliases: tuple[str, ...] = ()
    """Further names by which a goal may call it (V)."""
    parts: tuple[Measure, ...] = ()
    """The measures that it is made of, where its value follows from theirs by `combine`."""
    combine: Callable[[Sequence[Any]], Any] | None = None

    @property
    def shown(self) -> str:
        """The name in tables."""
        return self.title or self.name

    @property
    def sign(self) -> int:
        """1 where higher is better, else -1."""
        return 1 if self.better == "higher" else -1


def measured(measures: Iterable[Measure], rows: Sequence[Row]) -> dict[str, float]:
    """Return the scores of rows by the measures' names."""
    return {measure.name: measure.score(rows) for measure in measures}


def perfect(rows: Sequence[Row]) -> list[Row]:
    """Return rows as a model would predict them that knows the labels; where there is none they are as they were."""
    labels = ({k: v for k, v in row["target"].items() if v not in (None, "") and v == v} for row in rows)
    return [{**row, "prediction": {**row["prediction"], **own}} for row, own in zip(rows, labels, strict=True)]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """A part that is predicted, as it is or under a condition (less given, noisy, shifted), and when."""

    name: str
    """As files and scores call it: test, or test@snr=10."""
    part: str
    condition: str | None = None
    when: Literal["epoch", "end"] = "end"
    """epoch: after every epoch that is evaluated, and at the end; end: once, by the best weights."""
    selects: bool = False
    """The checkpoint is chosen by the mean of the first measure over the evaluations that select."""
    most: int | None = None
    """Predict this many rows at most, evenly spread over the part."""
    kept: bool = True
    """Whether the predicted rows are written to the run's folder."""


def evaluations_of(tests: Iterable[str]) -> list[Evaluation]:
    """Return what is usually predicted: training rows (some), validation each epoch, and the tests at the end."""
    return [
        Evaluation(name=TRAIN, part=TRAIN, most=2000, kept=False),
        Evaluation(name=VALID, part=VALID, when="epoch", selects=True),
        *(Evaluation(name=name, part=name) for name in tests),
    ]


@runtime_checkable
class StackableModel(Protocol):
    """A model so small that several runs' models take their steps as one.

    What is random inside is an input: `draw(rows)` gives the masks [B, ...] of a micro-batch from torch's generator,
    and `model(**inputs, noise=masks)` is a pure function of both, without a branch on a value.
    """

    def draw(self, rows: int) -> dict[str, Tensor]:
        """Return the noise of a micro-batch by name."""

    def __call__(self, *, noise: Mapping[str, Tensor], **inputs: Tensor) -> dict[str, Tensor]:
        """Return the outputs by name."""


class Task(ABC):
    """One kind of problem: its data, model, loss and measures. Knows nothing of processes or devices.

    A subclass gives `datasets`, `collate`, `build_model`, `terms` and `measures`; all else has a default.
    """

    recipe_class: ClassVar[type[Recipe]]
    """The class of its recipes, whose `task` is its name."""

    unit: str = "examples"
    """What lengths are counted in, in words ("s of audio")."""

    def __init__(self, recipe: Recipe):
        """Take a recipe; reads nothing yet."""
        self.recipe = recipe

    # What a task has to say.

    @abstractmethod
    def datasets(self) -> DatasetDict:
        """Return the parts `train`, `valid` and tests; rows have `id` and `length` (what an example costs).

        A row that stands for several examples (a segment of a dialogue) names them in `members`.
        """

    @abstractmethod
    def collate(self, rows: list[Row], key: Key | None) -> Batch:
        """Decode, augment (only where `key` is given, a function of it and the id alone) and pad rows.

        A row that is evaluated under a condition names it as `condition`.
        """

    @abstractmethod
    def build_model(self) -> nn.Module:
        """Return a new model: `model(**batch.inputs)` gives outputs [B, ...] by name."""

    def new_model(self) -> nn.Module:
        """Return a new model whose dropout, wherever it stands, follows the examples (`affect.keyed`)."""
        from affect import keyed
        from affect.models.dropout import replace_dropout

        model = self.build_model()
        replace_dropout(model)
        keyed.name_places(model)
        return model

    @abstractmethod
    def terms(self) -> Sequence[Term]:
        """Return the terms of the loss of a global batch."""

    @property
    @abstractmethod
    def measures(self) -> Sequence[Measure]:
        """The scores of predicted rows, of the recipe alone; the first one chooses checkpoints."""

    def folds(self) -> list[int]:
        """Return the folds that the recipe asks for, from 1."""
        return [1]

    def for_fold(self, seed: int, fold: int) -> Self:
        """Return the task of one seed and fold, which shares what was read; what follows speaks of that one."""
        return type(self)(replace(self.recipe, seed=seed))

    def rows_of_epoch(self, train: Dataset, epoch: int) -> Dataset:
        """Return the training rows of an epoch, equally many in each: those given, or others drawn anew."""
        return train

    def on_train_start(self, model: nn.Module, rank: int, world: int) -> None:  # noqa: B027
        """Compute once what all epochs need of the rows (a frozen encoder's states).

        `rank` and `world` are those of this machine, whose ranks share the work.
        """

    def on_step_start(self, model: nn.Module, epoch: int, step: int) -> dict[str, float]:
        """Set what follows a schedule before a training step (masking, dropout ramps) and return it by name."""
        return {}

    def param_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """Return the optimiser's groups (`params`, `lr`, `weight_decay`, `name`) over trainable parameters.

        Here biases, gains and whatever else has one dimension are not decayed.
        """
        optim = self.recipe.optim
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        parts = {"decayed": [p for p in trained if p.ndim > 1], "not_decayed": [p for p in trained if p.ndim <= 1]}
        return [
            {"name": name, "params": params, "lr": optim.lr, "weight_decay": optim.weight_decay * (name == "decayed")}
            for name, params in parts.items()
            if params
        ]

    def weighting(self) -> Weighting | None:
        """Return what weighs the terms by their earlier values; None leaves their own weights."""
        return None

    def shared_parameters(self, model: nn.Module) -> list[nn.Parameter]:
        """Return the parameters that all terms share, whose gradients by term are looked at or combined."""
        return [parameter for parameter in model.parameters() if parameter.requires_grad]

    def aggregator(self) -> Callable[[Tensor], Tensor] | None:
        """Return what combines the terms' gradients of the shared parameters, [K, P] to [P]; None adds them up.

        K are the terms that take part in the step.
        """
        return None

    def diagnostics(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor | tuple[Tensor, Tensor]]:
        """Return sums [] or means' (sum [], count []) of a micro-batch: every diagnostics_every steps, no grad."""
        return {}

    def conclusions(self, means: Mapping[str, float], share: float) -> tuple[Mapping[str, float], Sequence[Flag]]:
        """Return more to record of its diagnostics and terms, and what is wrong (told once), `share` of the way on."""
        return {}, ()

    def evaluations(self) -> Sequence[Evaluation]:
        """Return what is predicted, without reading data where it can; here `evaluations_of` all tests."""
        return evaluations_of([name for name in self.datasets() if name not in (TRAIN, VALID)])

    def predict(self, model: Callable[..., Any], batch: Batch) -> list[Row]:
        """Return the predicted rows of a batch, in evaluation mode and without gradients; here of one forward."""
        return self.rows(model(**batch.inputs), batch)

    def rows(self, outputs: Outputs, batch: Batch) -> list[Row]:
        """Return a row an example: id, prediction and target by name on the raw scale, group keys.

        Here predictions are the outputs that bear a target's name.
        """
        named = [name for name in batch.targets if name in outputs]
        predicted = {name: outputs[name].detach().float().cpu().tolist() for name in named}
        wanted = {name: batch.targets[name].cpu().tolist() for name in named}

        def at(k: int, columns: Mapping[str, list[Any]]) -> dict[str, Any]:
            return {name: values[k] for name, values in columns.items()}

        return [
            {"id": name, "prediction": at(k, predicted), "target": at(k, wanted), **batch.rows[k]}
            for k, name in enumerate(batch.ids)
        ]

    @classmethod
    def average(cls, models: Sequence[Sequence[Row]]) -> list[Row]:
        """Return the mean of several models' rows of the same examples, in the same order.

        Of numbers, lists of them and classes (logits or probabilities). Raises AffectError for what has no mean.
        """
        from affect.metrics.average_predictions import mean_rows

        return mean_rows(models)

    def release(self) -> None:  # noqa: B027
        """Let go of the memory of inputs read so far; called between one stretch of reading and the next."""

    def save(self, model: nn.Module, weights: Mapping[str, Tensor], folder: Path) -> None:
        """Write a model's weights, given whole, and all that a prediction needs to an existing folder."""
        from affect.models import saving

        saving.save(weights, {"task": self.recipe.task, **self.model_config(model)}, folder)

    def model_config(self, model: nn.Module) -> dict[str, Any]:
        """Return what the model is built by again, as JSON types: what its `describe` says, or recipe sections."""
        if (describe := getattr(model, "describe", None)) is not None:
            return cast("dict[str, Any]", describe())
        return {name: part for name, part in self.recipe.to_dict().items() if name in ("model", "data")}

    def baselines(self) -> dict[str, dict[str, list[Row]]]:
        """Return the rows of evaluations as trivial models predict them, by evaluation and by the model's name."""
        return {}

    # The use of its trained models, told by their config.json.

    takes: ClassVar[tuple[str, ...]] = ()
    """The options of `affect predict` that its models take (FILES, --text), none where it has no `infer`."""
    cuts: ClassVar[bool] = False
    """Whether it takes the part of a recording that a table asks for (`UserInputs.listed`)."""
    exporters: ClassVar[Mapping[str, str]] = {}
    """What exports a folder of weights, "module:function", by the format's name: a function of the folder, the file to
    write and `opset`, which returns what was `Exported`; its keyword-only numbers are what `--options` may set."""
    helps: ClassVar[Mapping[str, str]] = {}
    """A paragraph about its models in the help of `predict`, what they take and give, and one in that of `export`."""
    commands: ClassVar[tuple[str, ...]] = ()
    """The subcommands that it adds to `affect`, as "module:function" of modules that load no torch."""

    @classmethod
    def model_of(cls, config: dict[str, Any]) -> nn.Module:
        """Return the model that `model_config` described, with random weights and without the Hub.

        Here by a recipe with the sections `model` and `data`, for tasks whose `build_model` reads no data.
        """
        sections = {name: part for name, part in config.items() if name in ("model", "data")}
        return cls(cls.recipe_class.from_dict(sections)).build_model()

    @classmethod
    def pushed_config(cls, config: dict[str, Any], run: Path) -> dict[str, Any]:
        """Return config.json as the best weights of the run in a folder are pushed with it; here as it is."""
        return config

    @classmethod
    def infer(cls, opened: Opened, inputs: UserInputs, *, progress: bool) -> Iterator[Row]:
        """Yield a line of JSON types for each prediction of a user's inputs; of a bad one with `error`.

        `progress` tells whether to show some; further keyword-only arguments are options of the task alone, which
        `affect predict --options NAME=VALUE` sets. Raises AffectError where the inputs are not what the models take.
        """
        raise AffectError(f"models of {cls.recipe_class.task} can't be predicted from files")

    @classmethod
    def files_in(cls, folder: Path) -> list[Path]:
        """Return what its models take of a folder among FILES; of none it is given to them as it is."""
        return []

    @staticmethod
    def takes_table(opened: Opened, table: Path) -> bool:
        """Tell whether a table among FILES holds what a model itself takes; any other lists files and texts."""
        return False

    @classmethod
    def embed(cls, opened: Opened, inputs: UserInputs, *, progress: bool) -> Iterator[Row]:
        """Yield what `infer` does with the vector [D] that a prediction is made of, `embedding`, in its place."""
        raise AffectError(f"models of {cls.recipe_class.task} have no pooled state of what they hear and see")

    @classmethod
    def preprocessing(cls, config: dict[str, Any]) -> dict[str, Any]:
        """Return what inputs have to be and what outputs mean, for preprocessor_config.json."""
        return {"task": cls.recipe_class.task}

    @classmethod
    def card(cls, config: dict[str, Any], recipe: dict[str, Any], repo: str) -> Card:
        """Return the facts for the card of a model that is pushed to `repo`; `recipe` is without paths."""
        from affect.usage import Card

        name = cls.recipe_class.task.replace("_", " ")
        program = f'from affect.hub import from_pretrained\n\nmodel = from_pretrained("{repo}")'
        return Card(title=f"A model of {name}", task_type=name.replace(" ", "-"), task_name=name, program=program)

    # What it says of itself.

    def describe(self) -> dict[str, Any]:
        """Return what the run folder should say of the data: `corpus` (its identity), counts, scale."""
        return {}

    def exclusions(self) -> list[dict[str, str]]:
        """Return all that the data leaves out: `what` (a file, an example or a line) and the `reason`."""
        return []

    # What a report shows of it, beyond its measures. None of these may import a tensor library.

    def sections(self, study: Study) -> Sequence[Section]:
        """Return what the report's page shows beyond its core."""
        return []

    def flags(self, study: Study) -> Iterable[Flag]:
        """Return what looks wrong of a kind that the report does not know."""
        return []

    def summaries(self, evaluations: Sequence[str]) -> dict[str, list[str]]:
        """Return means of evaluations that are told and compared as one, by a name of their own."""
        return {}

    def advice(self) -> dict[str, str]:
        """Return what to try about the report's flags, by their kind, where the task knows better than the report."""
        return {}


@runtime_checkable
class Stackable(Protocol):
    """A task whose examples are read by place (its parts' column `row`), so that several runs train as one."""

    together: int | None
    """Runs trained together; None decides by size."""

    def batch(self, rows: NDArray[np.intp], condition: str | None = None, key: Key | None = None) -> Batch:
        """Return the examples at these places, as they are, under a condition, or (with a key) as they are trained."""
