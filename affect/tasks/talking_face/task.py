"""The task of talking-face quality: clips, what is held out, model, loss and measures.

What needs a tensor library is imported where it is needed: reports ask a task without one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, cast

from affect.config import from_dict
from affect.task import (
    SPREAD,
    TRAIN,
    VALID,
    Batch,
    Evaluation,
    Key,
    Measure,
    Outputs,
    Row,
    Term,
    Weighting,
    evaluations_of,
)
from affect.tasks.talking_face.card import TalkingFaceCard
from affect.tasks.talking_face.config import DELAY, LATE, OFFSET, SOUND, Feature, Model, Scale, Signature, TalkingFace
from affect.tasks.talking_face.measures import deviations, measures_of
from affect.tasks.talking_face.report import TalkingFaceReport

if TYPE_CHECKING:
    from pathlib import Path

    from datasets import DatasetDict
    from torch import Tensor, nn

    from affect.data.score_corpus import ScoreCorpus
    from affect.inference.opening import Opened
    from affect.tasks.talking_face.clips import Clips
    from affect.tasks.talking_face.end_to_end import EndToEndModel
    from affect.tasks.talking_face.model import TalkingFaceModel
    from affect.usage import UserInputs


class TalkingFaceTask(TalkingFaceReport, TalkingFaceCard):
    """A recipe's clips and, once `for_fold` has chosen it, one of its seeds and folds."""

    recipe_class = TalkingFace
    recipe: TalkingFace
    unit = "frames"
    takes = ("FILES",)
    helps = {
        "predict": (
            "A model of clips takes FILES of features: a .npz of frames [T, D] by the features' names, .npy files "
            "called by them or a folder of those, a folder of clips or one that affect convert wrote, or a table with "
            "a column path. A model of CSV files takes such files, or a folder of them: a line a clip, several (frames "
            "of one), or a file of py-feat or OpenFace a clip. Columns are found by their names, in any order, others "
            "left alone; what several files have of a clip is put together. The first column names the clips, or "
            "another (--options clip=NAME), and decimal=, is for decimal commas. Where a .npz or an older model "
            "names no columns, the order can't be checked, which is said. "
            "One line a clip: each score, its scale, and an interval where validation rows of the "
            "run calibrate one, of a level of .9 or another (--options level=.95), "
            "and of one generator's clips (generator=NAME); of several models "
            "also the deviation of what they say."
        ),
        "export": (
            "onnx, int8 (a graph with weights of 8 bits) and, of models of clips' features alone, pruned (a folder of "
            "weights, with fewer hidden units and heads; encoders of the clip itself are not pruned). Each is held "
            "against the run's own test clips: size, latency, errors, fall of SRCC are printed, and nothing is kept "
            "where one is over its limit. Latency has none unless one is given (--options latency=1: no slower than "
            "the run's model on this machine), nor has the size of onnx."
        ),
    }
    commands = ("affect.tasks.talking_face.commands:convert",)
    exporters = {
        "onnx": "affect.tasks.talking_face.export:onnx",
        "int8": "affect.tasks.talking_face.export:int8",
        "pruned": "affect.tasks.talking_face.export:pruned",
    }

    @cached_property
    def measures(self) -> Sequence[Measure]:
        """SRCC and further measures of each score; first the mean that chooses."""
        return measures_of(self.recipe.data.scores, self.recipe.data.split)

    @property
    def unlabelled(self) -> bool:
        """Whether clips are ranked above themselves made worse, which needs no label."""
        return self.recipe.loss.kind == "corruption"

    @cached_property
    def corpus(self) -> ScoreCorpus:
        """The corpus as read from disk; read once, and shared by all seeds and folds."""
        from affect.tasks.talking_face.corpus import read_corpus

        media = self.recipe.model.media
        corpus = read_corpus(self.recipe.data, seen=bool(media.taken), unlabelled=self.unlabelled)
        if not media.taken:
            return corpus
        from affect.tasks.talking_face.films import timed

        return timed(corpus, media)

    def folds(self) -> list[int]:
        """Return the folds that the recipe asks for, from 1."""
        from affect.tasks.talking_face.corpus import way_of

        count, fold = way_of(self.corpus, self.recipe.data).folds, self.recipe.data.fold
        return list(range(1, count + 1)) if fold is None else [fold]

    def for_fold(self, seed: int, fold: int) -> TalkingFaceTask:
        """Return the task of one seed and fold, on the same corpus."""
        task = TalkingFaceTask(replace(self.recipe, seed=seed, data=replace(self.recipe.data, fold=fold)))
        task.corpus = self.corpus
        return task

    @cached_property
    def parts(self) -> DatasetDict:
        """Train, valid and the tests of the recipe's fold."""
        from affect.tasks.talking_face.corpus import parts_of

        return parts_of(self.corpus, self.recipe.data, self.recipe.continual, unlabelled=self.unlabelled)

    @property
    def tests(self) -> list[str]:
        """The names of the tests."""
        return [part for part in self.parts if part not in (TRAIN, VALID)]

    def datasets(self) -> DatasetDict:
        """Return train, valid and the tests; a clip's length is its frames."""
        return self.parts

    @property
    def features(self) -> list[Feature]:
        """The features of the corpus that the model takes."""
        media = self.recipe.model.media
        names = self.recipe.data.widths or self.corpus.features if media.features or not media.taken else ()
        return [(name, self.corpus.features[name]) for name in names]

    @property
    def scales(self) -> list[Scale]:
        """The scores with their lowest and highest values."""
        return [(score, *self.corpus.scores[score]) for score in self.recipe.data.scores]

    @cached_property
    def clips(self) -> Clips:
        """What makes micro-batches of rows."""
        from affect.tasks.talking_face.clips import Clips

        recipe, corpus = self.recipe, self.corpus
        train = list(self.parts["train"]) if recipe.augment.mixup else []
        facts = (self.features, recipe.data.scores, corpus.groups, recipe.augment, train)
        if recipe.model.media.taken:
            from affect.tasks.talking_face.films import FilmClips

            return FilmClips(corpus.store, *facts, media=recipe.model.media)
        return Clips(corpus.store, *facts, worse=self.unlabelled)

    def collate(self, rows: list[Row], key: Key | None) -> Batch:
        """Return rows as a micro-batch; in training they are changed where the recipe asks for it."""
        return self.clips.batch(rows, key)

    def release(self) -> None:
        """Let go of the memory of features read so far."""
        self.corpus.release()

    def build_model(self) -> nn.Module:
        """Return a new model, its features standardised by the training part where the recipe asks for it."""
        from affect.tasks.talking_face.clips import statistics
        from affect.tasks.talking_face.corpus import columns_of, made_of
        from affect.tasks.talking_face.model import build

        recipe = self.recipe
        learned = len(self.scales) if recipe.loss.weights == "uncertainty" else 0
        facts: dict[str, Any] = {
            "log_variances": learned, "made_by": made_of(self.corpus, self.features),
            "columns": columns_of(self.corpus, self.features),
        }  # fmt: skip
        model: EndToEndModel | TalkingFaceModel
        if recipe.model.media.taken:
            from affect.tasks.talking_face.end_to_end import EndToEndModel

            model = EndToEndModel.build(recipe.model, self.features, self.scales, **facts)
        else:
            model = build(recipe.model, Signature(features=tuple(self.features), scores=tuple(self.scales), **facts))
        if recipe.model.normalise:
            model.standardise(statistics(self.clips, self.parts["train"]["row"]))
        return model

    def model_config(self, model: nn.Module) -> dict[str, Any]:
        """Return what the model is built by, and the shortest and longest clip of training."""
        return {**super().model_config(model), "lengths": self._lengths}

    @cached_property
    def _lengths(self) -> list[float]:
        """The shortest and longest clip of training, in frames of the features that the model takes."""
        train = self.parts["train"]
        lengths = train["length"]
        if not self.recipe.model.media.taken and len(self.features) < len(self.corpus.schema["features"]):
            # A row's length is that of all features.
            given = ([self.clips.frames(row, name) for name, _ in self.features] for row in train["row"])
            lengths = [max(1, *(0 if frames is None else len(frames) for frames in clip)) for clip in given]
        return [float(min(lengths)), float(max(lengths))]

    def terms(self) -> Sequence[Term]:
        """Return a term a score, and what the recipe adds."""
        from affect.tasks.talking_face.losses import terms_of

        labels = {score: self.parts["train"][score] for score in self.recipe.data.scores}
        return terms_of(self.recipe, self.clips.streams, self.scales, labels)

    def param_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """Return the optimiser's groups; encoders of clips have their own rate where the recipe gives one."""
        groups, rate = super().param_groups(model), self.recipe.model.media.lr
        if rate is None:
            return groups
        coders = {id(parameter) for parameter in cast("EndToEndModel", model).coders()}
        split = []
        for group in groups:
            for name, own, lr in (("", False, group["lr"]), ("encoders_", True, rate)):
                params = [parameter for parameter in group["params"] if (id(parameter) in coders) == own]
                split += [{**group, "name": name + group["name"], "params": params, "lr": lr}] if params else []
        return split

    def weighting(self) -> Weighting | None:
        """Return what weighs the scores by their earlier losses, where the recipe asks for it."""
        from affect.tasks.talking_face.losses import weighting_of

        return weighting_of(self.recipe)

    def aggregator(self) -> Callable[[Tensor], Tensor] | None:
        """Return what combines the gradients of the scores, where the recipe asks for it."""
        from affect.tasks.talking_face.losses import aggregator_of

        return aggregator_of(self.recipe)

    def shared_parameters(self, model: nn.Module) -> list[nn.Parameter]:
        """Return the parameters of all but the heads, which are of one score each."""
        own = ("heads.", "lines.", "spreads.", "log_variances")
        # A model of clips themselves has them in its fusion.
        named = ((name.removeprefix("fusion."), p) for name, p in model.named_parameters())
        return [p for name, p in named if p.requires_grad and not name.startswith(own)]

    def evaluations(self) -> Sequence[Evaluation]:
        """Return training, validation and the tests, where there is sound and more also with late sound.

        Validation clips that were trained on, too, are followed while it trains, but tell a report nothing.
        """
        names = self.clips.streams
        kind = DELAY if self.recipe.model.media.taken else OFFSET
        late = LATE[kind] if len(names) > 1 and any(SOUND in name for name in names) else ()
        moved = [(test, f"{kind}={by}") for test in self.tests for by in late]
        conditions = [Evaluation(name=f"{test}@{each}", part=test, condition=each) for test, each in moved]
        unheard = not self.recipe.data.train_all
        usual = [each if each.name != VALID else replace(each, kept=unheard) for each in evaluations_of(self.tests)]
        return [*usual, *conditions]

    def rows(self, outputs: Outputs, batch: Batch) -> list[Row]:
        """Return predictions and labels on the scores' own scales, and where the model has them deviations."""
        rows = super().rows(outputs, batch)
        for score in self.recipe.data.scores if self.recipe.model.heteroscedastic else ():
            for row, spread in zip(rows, outputs[score + SPREAD].float().tolist(), strict=True):
                row.setdefault("spread", {})[score] = spread
        return rows

    @classmethod
    def average(cls, models: Sequence[Sequence[Row]]) -> list[Row]:
        """Return the mean of several models' rows, with the `deviation` of what they predict."""
        rows = super().average(models)
        for row, *same in zip(rows, *models, strict=True) if len(models) > 1 else ():
            row["deviation"] = deviations([each["prediction"] for each in same])
        return rows

    @classmethod
    def model_of(cls, config: dict[str, Any]) -> nn.Module:
        """Return the model that a config.json describes, with random weights."""
        from affect.tasks.talking_face.model import build

        model, data = from_dict(Model, config["model"], "model"), from_dict(Signature, config["data"], "data")
        if not model.media.taken:
            return build(model, data)
        from affect.tasks.talking_face.end_to_end import EndToEndModel

        return EndToEndModel.restore(model, data, config["encoders"])

    @classmethod
    def infer(
        cls, opened: Opened, inputs: UserInputs, *, progress: bool, level: float | None = None,
        generator: str | None = None, clip: str | None = None, decimal: Literal[".", ","] = ".",
    ) -> Iterator[Row]:  # fmt: skip
        """Yield a line for each clip."""
        from affect.tasks.talking_face import predict

        own: dict[str, Any] = {"level": level, "generator": generator, "clip": clip, "decimal": decimal}
        return predict.infer(opened, inputs, **own)

    @staticmethod
    def takes_table(opened: Opened, table: Path) -> bool:
        """Tell whether a table holds features of the model, by the names of its columns."""
        from affect.tasks.talking_face import tabled

        return tabled.takes(tabled.signature(opened), table)

    @classmethod
    def files_in(cls, folder: Path) -> list[Path]:
        """Return the clips of a folder that is none itself: files of features or videos."""
        from affect.tasks.talking_face import predict

        return predict.files_in(folder)

    @classmethod
    def embed(cls, opened: Opened, inputs: UserInputs, *, progress: bool) -> Iterator[Row]:
        """Yield the fused state of each clip."""
        from affect.tasks.talking_face import predict

        return predict.embed(opened, inputs)

    def baselines(self) -> dict[str, dict[str, list[Row]]]:
        """Return the test rows (without such a part validation's) as trivial models predict them.

        They are two means, and a ridge and a forest on pooled features; where no clip need have a label, there is none.
        """
        from affect.tasks.talking_face.baselines import predicted

        if self.unlabelled:
            return {}
        return {part: predicted(self.clips, self.parts["train"], self.parts[part]) for part in self.tests or [VALID]}

    def describe(self) -> dict[str, Any]:
        """Return what is known of the corpus: features, scores with their scales, and by part clips and labels."""
        from affect.tasks.talking_face.continual import batches_of
        from affect.tasks.talking_face.corpus import sound_rate

        corpus, parts, scales = self.corpus, self.parts, self.scales
        stage = self.recipe.continual
        shared = {(low, high) for _, low, high in scales}
        return {
            "corpus": corpus.identity, "fingerprint": corpus.fingerprint,
            **({"scale": [*shared.pop()]} if len(shared) == 1 else {}),
            "scales": {score: [low, high] for score, low, high in scales},
            "scale_inferred": {score: score in corpus.guessed for score, *_ in scales}, "features": dict(self.features),
            "utterances": {name: len(part) for name, part in parts.items()},
            "labelled": {
                name: {score: sum(value == value for value in part[score]) for score, *_ in scales}
                for name, part in parts.items()
            },
            **({"batches": batches_of(corpus, stage)} if stage.by is not None else {}),
            "signs": self._signs(), "sound_rate": sound_rate(corpus, self.features),
            "excluded": len(corpus.exclusions),
            "exclusions": dict(Counter(exclusion.reason for exclusion in corpus.exclusions).most_common()),
        }  # fmt: skip

    def _signs(self) -> list[dict[str, str]]:
        """Return what of the data misleads, but for scales that the model takes out."""
        from affect.data.spread import SCALED

        taken_out = SCALED if self.recipe.model.normalise else None
        return [sign for sign in self.corpus.signs() if sign["kind"] != taken_out]

    def exclusions(self) -> list[dict[str, str]]:
        """Return all that the corpus leaves out: `what` and the `reason`."""
        return [{"what": exclusion.what, "reason": exclusion.reason} for exclusion in self.corpus.exclusions]
