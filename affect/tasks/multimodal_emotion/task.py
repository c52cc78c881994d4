"""The task of multimodal emotion recognition: corpus, folds, micro-batches, model, loss and measures.

What needs a tensor library is imported where it is needed: reports ask a task without one.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from affect.config import from_dict
from affect.data import conditions, copies
from affect.errors import AffectError
from affect.task import TRAIN, VALID, Batch, Evaluation, Key, Measure, Outputs, Row, Term, evaluations_of
from affect.tasks.multimodal_emotion.card import FusionCard
from affect.tasks.multimodal_emotion.config import MODALITIES, Model, MultimodalEmotion, Signature
from affect.tasks.multimodal_emotion.measures import EMOTION, VALENCE, groups_of, measures_of, rows_of
from affect.tasks.multimodal_emotion.report import FusionReport, partial_of

if TYPE_CHECKING:
    from datasets import DatasetDict
    from numpy.typing import NDArray
    from torch import nn

    from affect.data.feature_corpus import FeatureCorpus
    from affect.inference.opening import Opened
    from affect.tasks.multimodal_emotion.examples import Examples
    from affect.usage import UserInputs

    Places = NDArray[np.intp]

_LOG = logging.getLogger("affect")

FOLDS = 2023
"""Keeps the folds' random numbers apart from those of the plan."""


class MultimodalEmotionTask(FusionReport, FusionCard):
    """A recipe's corpus and, once `for_fold` has chosen it, one of its seeds and folds."""

    recipe_class = MultimodalEmotion
    recipe: MultimodalEmotion
    unit = "utterances"
    takes = ("--audio", "--text", "--video", "--features", "--trust-remote-code")
    cuts = True
    helps = {
        "predict": (
            "A model of features takes --audio, --text and --video, any of them, and no FILES but a table with columns "
            "of these names, an utterance a line: one line an utterance, with the probability of each class, the "
            "attention and what was present (ATV). An option "
            "may name several files, one an utterance in the same order ('' for a missing one, as all zeros are), "
            "or a folder of features, matched by file name. Where a modality has several features, NAME=FILE says "
            "which. Raw files and words need the manifest.json that recipes/extract_features.py writes."
        ),
    }

    def __init__(self, recipe: MultimodalEmotion):
        """Take a recipe; reads nothing yet."""
        super().__init__(recipe)
        self.together = recipe.together

    @cached_property
    def examples(self) -> Examples:
        """The utterances of the corpus; read once, and shared by all seeds and folds."""
        from affect.tasks.multimodal_emotion.examples import Examples

        return Examples(read_corpus(self.recipe))

    @cached_property
    def measures(self) -> Sequence[Measure]:
        """Those of the recipe's targets; the first one chooses."""
        return measures_of(self.recipe.targets, own_scale=self.recipe.data.own)

    @property
    def corpus(self) -> FeatureCorpus:
        """The corpus as read from disk."""
        return self.examples.corpus

    def folds(self) -> list[int]:
        """Return the folds that the recipe asks for, from 1; a corpus with its own validation part is one."""
        data = self.recipe.data
        # A corpus that can't be read is told now.
        if VALID not in self.corpus.parts:
            return list(range(1, data.folds + 1)) if data.fold is None else [data.fold]
        if data.fold not in (None, 1):
            raise AffectError(f"data.fold is {data.fold}, and {data.root} has a validation part: its only fold is 1")
        return [1]

    def for_fold(self, seed: int, fold: int) -> MultimodalEmotionTask:
        """Return the task of one seed and fold, on the same corpus."""
        task = MultimodalEmotionTask(replace(self.recipe, seed=seed, data=replace(self.recipe.data, fold=fold)))
        task.examples = self.examples
        return task

    @cached_property
    def parts(self) -> DatasetDict:
        """Train and valid, of the recipe's seed and fold or the corpus's own, and the tests."""
        from datasets import Dataset, DatasetDict

        data, seed, examples = self.recipe.data, self.recipe.seed, self.examples
        train = self.corpus.indices(TRAIN)
        if VALID in self.corpus.parts:
            places = {TRAIN: train, VALID: self.corpus.indices(VALID)}
        else:
            fold = data.fold or 1
            folds = split(train, data.folds, seed, self._speakers(train))
            valid = folds.pop(fold - 1)
            labels = examples.labels[valid] if EMOTION in self.recipe.targets else None
            valence = examples.valence[valid] if VALENCE in self.recipe.targets else None
            check(labels, valence, self.corpus.classes, fold, seed)
            places = {TRAIN: np.sort(np.concatenate(folds)), VALID: valid}
        places |= {name: self.corpus.indices(name) for name in self.tests}

        def part(rows: Places) -> Dataset:
            ids = [examples.ids[place] for place in rows]
            return Dataset.from_dict({"id": ids, "row": rows.tolist(), "length": [1.0] * len(ids)})

        return DatasetDict({name: part(rows) for name, rows in places.items()})

    @property
    def tests(self) -> list[str]:
        """The names of the corpus's tests."""
        return [part for part in self.corpus.parts if part not in (TRAIN, VALID)]

    def _speakers(self, places: Places) -> list[str] | None:
        """Return whose each utterance is; None where not all are known, or all are one's."""
        if "speaker" not in self.corpus.groups:
            return None
        names = self.corpus.utterances["speaker"][:]
        speakers = [names[place] for place in places.tolist()]
        if "" not in speakers and len(set(speakers)) > 1:
            return speakers
        _LOG.warning("%s: folds are of utterances: not all have a speaker, or all have one", self.corpus.name)
        return None

    def _places(self, part: str) -> Places:
        return np.asarray(self.parts[part]["row"][:], dtype=np.intp)

    def datasets(self) -> DatasetDict:
        """Return train, valid and the tests; each utterance costs one."""
        return self.parts

    def batch(self, rows: Places, condition: str | None = None, key: Key | None = None) -> Batch:
        """Return the utterances at these places, as they are, under a condition, or noisy as they are trained."""
        noise = None if self.recipe.noise is None or key is None else (key, self.recipe.noise)
        return self.examples.batch(rows, condition, noise)

    def release(self) -> None:
        """Let go of the memory of features read so far."""
        self.corpus.release()

    def collate(self, rows: list[Row], key: Key | None) -> Batch:
        """Return rows as a micro-batch; in training noise is added where the recipe asks for it."""
        return self.batch(np.array([row["row"] for row in rows], np.intp), rows[0].get("condition"), key)

    def build_model(self) -> nn.Module:
        """Return a new model, its features standardised by the training part where the recipe asks for it."""
        import torch

        from affect.tasks.multimodal_emotion.models import build

        choice, corpus = self.recipe.model, self.corpus
        streams = tuple((stream.modality, stream.name, stream.width) for stream in corpus.streams)
        targets = self.recipe.targets
        classes = corpus.classes if EMOTION in targets else ()
        model = build(choice, Signature(streams=streams, classes=classes, targets=targets, scale=corpus.scale))
        if choice.normalise:
            train = self._places("train")
            for s, key in enumerate(corpus.keys):
                values = np.asarray(corpus.arrays[s][train], np.float32)
                there = torch.from_numpy(self.examples.present[train, s].astype(np.float32))
                model.standardise(key, torch.from_numpy(values), there)
        return model

    def terms(self) -> Sequence[Term]:
        """Return cross entropy and squared error of valence, one to one, and what the model and recipe add."""
        from affect.tasks.multimodal_emotion.models import terms_of

        streams = tuple(stream.modality for stream in self.corpus.streams)
        return terms_of(self.recipe.model, streams, self.recipe.targets, self.corpus.scale)

    def param_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """Return all parameters as one group, weight decay on each as the public toolkit has it."""
        optim = self.recipe.optim
        params = [parameter for parameter in model.parameters() if parameter.requires_grad]
        return [{"name": "all", "params": params, "lr": optim.lr, "weight_decay": optim.weight_decay}]

    def on_step_start(self, model: nn.Module, epoch: int, step: int) -> dict[str, float]:
        """Set modality dropout's probability of the epoch and return it."""
        from affect.tasks.multimodal_emotion.models.fusion import Fusion

        return cast(Fusion, model).begin(epoch)

    def evaluations(self) -> Sequence[Evaluation]:
        """Return training, the fold and the tests as they are, and the fold and the tests under each condition.

        The epoch is chosen by the fold as it is, or by the mean over all subsets of the modalities.
        """
        evaluations = evaluations_of(self.tests)
        chosen = partial_of(self.recipe.data.letters) if self.recipe.choose == "subsets" else []
        choosing = {f"subset={letters}" for letters in chosen}
        for part in (VALID, *self.tests):
            for condition in conditions.names_of(self.recipe.data.letters):
                one = Evaluation(name=f"{part}@{condition}", part=part, condition=condition)
                chooses = part == VALID and condition in choosing
                evaluations.append(replace(one, when="epoch", selects=True) if chooses else one)
        return evaluations

    def rows(self, outputs: Outputs, batch: Batch) -> list[Row]:
        """Return emotion and logits, valence, attention by modality and what was there, an utterance a row."""
        return rows_of(outputs, batch, self.corpus.classes, [s.modality for s in self.corpus.streams])

    @classmethod
    def model_of(cls, config: dict[str, Any]) -> nn.Module:
        """Return the model that a config.json describes, with random weights."""
        from affect.tasks.multimodal_emotion.models import build

        return build(from_dict(Model, config["model"], "model"), from_dict(Signature, config["data"], "data"))

    @classmethod
    def infer(cls, opened: Opened, inputs: UserInputs, *, progress: bool) -> Iterator[Row]:
        """Yield a line for each utterance."""
        from affect.tasks.multimodal_emotion import predict

        return predict.infer(cls, opened, inputs, progress=progress)

    @classmethod
    def embed(cls, opened: Opened, inputs: UserInputs, *, progress: bool) -> Iterator[Row]:
        """Yield the fused state of each utterance."""
        from affect.tasks.multimodal_emotion import predict

        return predict.embed(cls, opened, inputs, progress=progress)

    def baselines(self) -> dict[str, dict[str, list[Row]]]:
        """Return what always the commonest class and the mean valence of training give, part by part."""
        train, classes, examples = self._places(TRAIN), self.corpus.classes, self.examples
        prediction: dict[str, Any] = {}
        further: dict[str, Any] = {}
        if EMOTION in self.recipe.targets:
            labels = examples.labels[train]
            shares = np.bincount(labels[labels >= 0], minlength=len(classes)) / max(1, (labels >= 0).sum())
            prediction[EMOTION] = classes[int(shares.argmax())]
            further["probability"] = {EMOTION: dict(zip(classes, shares.tolist(), strict=True))}
        if VALENCE in self.recipe.targets:
            prediction[VALENCE] = float(np.nanmean(examples.valence[train]))

        def row(place: int) -> Row:
            target = {name: examples.rows[place][name] for name in prediction}
            groups = groups_of(examples.rows[place])
            return {"id": examples.ids[place], "prediction": prediction, "target": target, **further, **groups}

        name = "majority" if EMOTION in prediction else "average"
        return {part: {name: [row(place) for place in self._places(part)]} for part in (VALID, *self.tests)}

    def describe(self) -> dict[str, Any]:
        """Return what is known of the corpus: its features, and by part utterances, classes and what is there."""
        corpus, examples = self.corpus, self.examples
        parts = {name: self._places(name) for name in self.parts}
        valence = {"scale": list(corpus.scale), "scale_inferred": corpus.inferred}
        counts, presence = {}, {}
        for name, places in parts.items():
            labels, there = examples.labels[places], examples.modalities(examples.present[places])
            counts[name] = {c: int((labels == k).sum()) for k, c in enumerate(corpus.classes)}
            own = [m for m, modality in enumerate(MODALITIES) if getattr(self.recipe.data, modality)]
            presence[name] = {MODALITIES[m]: int(there[:, m].sum()) for m in own}
            presence[name]["all"] = int(there[:, own].all(1).sum())
        held_out = {}
        for group in corpus.groups:
            whose = corpus.utterances[group][:]
            held_out = {name: sorted({whose[k] for k in rows.tolist()} - {""}) for name, rows in parts.items()}
        return {
            "corpus": corpus.identity, "fingerprint": corpus.fingerprint,
            **({"held_out": held_out} if held_out else {}),
            **(valence if VALENCE in self.recipe.targets else {}),
            "classes": list(corpus.classes) if EMOTION in self.recipe.targets else [],
            "features": {stream.name: stream.width for stream in corpus.streams},
            "utterances": {name: len(places) for name, places in parts.items()}, "class_counts": counts,
            "presence": presence, "signs": self._signs(),
            "excluded": len(corpus.exclusions),
            "exclusions": dict(Counter(exclusion.reason for exclusion in corpus.exclusions).most_common()),
        }  # fmt: skip

    def _signs(self) -> list[dict[str, str]]:
        """Return what of the data misleads, but for scales that the model takes out."""
        from affect.data import feature_checks, spread

        told = feature_checks.of_classes(self.corpus) if EMOTION in self.recipe.targets else []
        taken_out = spread.SCALED if self.recipe.model.normalise else None
        return [*told, *(sign for sign in self.examples.signs if sign["kind"] != taken_out)]

    def exclusions(self) -> list[dict[str, str]]:
        """Return all that the corpus leaves out: `what` and the `reason`."""
        return [{"what": exclusion.what, "reason": exclusion.reason} for exclusion in self.corpus.exclusions]


def read_corpus(recipe: MultimodalEmotion) -> FeatureCorpus:
    """Return the corpus of a recipe, made first where it is a generated one.

    Raises AffectError for a corpus that can't be read, for one without labels or a feature to train on, and, unless
    the recipe allows it, for utterances that training or validation shares with a test.
    """
    from affect.data import corpora
    from affect.data.feature_corpus import SAME

    data, targets = recipe.data, recipe.targets
    root = Path(data.root)
    own = {name: getattr(data, name) for name in corpora.layout(data.corpus).options}
    if "columns" in own:
        own["columns"] = corpora.mapping(data.columns)
    corpus = corpora.read(
        corpora.FEATURES, data.corpus, root, name=data.name, audio=data.audio, text=data.text, video=data.video,
        widths=data.widths, **own,
    )  # fmt: skip
    train = corpus.indices(TRAIN)
    for part in (part for part in (TRAIN, VALID) if part in corpus.parts):
        rows = corpus.indices(part)
        emotions = set(np.asarray(corpus.utterances["emotion"][:])[rows].tolist())
        absent = [name for name in corpus.classes if name not in emotions]
        if EMOTION in targets and part == TRAIN and absent:
            raise AffectError(f"{root}: no training utterance is labelled {absent[0]}, one of the classes to be learnt")
        if EMOTION in targets and (len(corpus.classes) < 2 or not emotions - {""}):
            raise AffectError(f"{root}: the part {part} has no two emotions, which targets name (--targets valence)")
        if VALENCE in targets and np.isnan(np.asarray(corpus.utterances["valence"], np.float64)[rows]).all():
            raise AffectError(f"{root}: no utterance of {part} has a valence, which targets name (--targets emotion)")
    for s, stream in enumerate(corpus.streams):
        if not corpus.present[train, s].any():
            raise AffectError(f"{root}: no training utterance has the {stream.modality} feature {stream.name!r}")
    refuse = None if data.allow_shared else copies.ACCEPTED
    copies.check(corpus.name, copies.by_part(corpus.utterances), SAME, refuse=refuse)
    _tell(corpus, targets)
    return corpus


def _tell(corpus: FeatureCorpus, targets: Sequence[str]) -> None:
    """Log labels that are no targets, and a scale that nobody gave."""
    emotions, values = corpus.utterances["emotion"][:], np.asarray(corpus.utterances["valence"], np.float64)
    given = values[~np.isnan(values)]
    for name, labelled in ((EMOTION, any(emotions)), (VALENCE, len(given))):
        if labelled and name not in targets:
            _LOG.info("%s has labels of %s, which targets do not name: it is not learned", corpus.name, name)
    if VALENCE in targets and corpus.inferred:
        _LOG.warning(
            "%s: no scale was given: %g to %g is taken, valence goes from %g to %g (--data.scale says another)",
            *(corpus.name, *corpus.scale, given.min(), given.max()),
        )


def split(places: Places, folds: int, seed: int, speakers: Sequence[str] | None = None) -> list[Places]:
    """Return the places [N] in as many folds, each in the corpus's order; what is left over goes to the last.

    Where the speakers [N] are known each fold has some of them alone: they are dealt in random order, to the smallest
    fold. Raises AffectError for fewer places, or speakers, than folds.
    """
    if speakers is not None:
        return _by_speaker(places, folds, seed, np.asarray(speakers))
    size = len(places) // folds
    if size < 1:
        raise AffectError(f"data.folds is {folds}, and the training part has {len(places)} utterances: give fewer")
    order = np.random.default_rng((seed, FOLDS)).permutation(places)
    bounds = [size * k for k in range(1, folds)]
    return [np.sort(part) for part in np.split(order, bounds)]


def _by_speaker(places: Places, folds: int, seed: int, speakers: NDArray[np.str_]) -> list[Places]:
    names, counts = np.unique(speakers, return_counts=True)
    if len(names) < folds:
        raise AffectError(f"data.folds is {folds}, and the training part has {len(names)} speakers: give fewer")
    dealt: list[list[str]] = [[] for _ in range(folds)]
    sizes = [0] * folds
    for k in np.random.default_rng((seed, FOLDS)).permutation(len(names)).tolist():
        least = sizes.index(min(sizes))
        dealt[least].append(names[k])
        sizes[least] += int(counts[k])
    return [places[np.isin(speakers, own)] for own in dealt]


def check(
    labels: NDArray[np.int64] | None, valence: NDArray[np.float32] | None, classes: Sequence[str], fold: int, seed: int
) -> None:
    """Raise AffectError where a fold can't be judged: by `labels` [N] (-100: none) that lack a class, or no `valence`.

    Of `valence` [N] what is missing is NaN. What is no target is None.
    """
    absent = [name for k, name in enumerate(classes) if labels is not None and k not in labels]
    if absent:
        raise AffectError(
            f"fold {fold} of seed {seed} has no utterance of the class {absent[0]}: "
            "give fewer data.folds, a validation part, or more utterances (of a generated corpus, data.train)"
        )
    if valence is not None and np.isnan(valence).all():
        raise AffectError(f"fold {fold} of seed {seed} has no utterance with a valence: give fewer data.folds")
