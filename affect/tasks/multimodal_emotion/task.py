"""The task of multimodal emotion recognition: corpus, folds, micro-batches, model, loss and measures.

What needs a tensor library is imported where it is needed: reports ask a task without one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from affect.data.conditions import MODALITIES as LETTERS
from affect.data.conditions import NAMES, SUBSETS
from affect.errors import AffectError
from affect.task import TRAIN, VALID, Batch, Evaluation, Key, Measure, Outputs, Row, Task, Term
from affect.tasks.multimodal_emotion.config import MultimodalEmotion
from affect.tasks.multimodal_emotion.measures import MEASURES
from affect.tasks.multimodal_emotion.noise import Noise

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict
    from numpy.typing import NDArray
    from torch import nn

    from affect.data.feature_corpus import FeatureCorpus
    from affect.findings import Flag, Section
    from affect.inference.opening import Opened
    from affect.report.study import Study
    from affect.tasks.multimodal_emotion.examples import Examples
    from affect.usage import Card, UserInputs

MODALITIES = tuple(LETTERS.values())
TESTS = ("test1", "test2", "test3")
INCOMPLETE = tuple(letters for letters in SUBSETS if len(letters) < len(MODALITIES))


class MultimodalEmotionTask(Task):
    """A recipe's corpus and, once `for_fold` has chosen it, one of its seeds and folds."""

    recipe_class = MultimodalEmotion
    recipe: MultimodalEmotion
    unit = "utterances"
    measures: Sequence[Measure] = MEASURES
    takes = ("--audio", "--text", "--video", "--features")

    def __init__(self, recipe: MultimodalEmotion, known: Examples | None = None):
        """Take a recipe; `known` are the utterances where they were read before."""
        super().__init__(recipe)
        self.together = recipe.together
        self._known = known

    @property
    def examples(self) -> Examples:
        """The utterances of the corpus; read once, and shared by all seeds and folds."""
        if self._known is None:
            from affect.tasks.multimodal_emotion.examples import Examples

            self._known = Examples(read_corpus(self.recipe))
        return self._known

    @property
    def corpus(self) -> FeatureCorpus:
        """The corpus as read from disk."""
        return self.examples.corpus

    def folds(self) -> list[int]:
        """Return the folds that the recipe asks for, from 1."""
        data = self.recipe.data
        _ = self.corpus  # a corpus that can't be read is told now
        return list(range(1, data.folds + 1)) if data.fold is None else [data.fold]

    def for_fold(self, seed: int, fold: int) -> MultimodalEmotionTask:
        """Return the task of one seed and fold, on the same corpus."""
        recipe = replace(self.recipe, seed=seed, data=replace(self.recipe.data, fold=fold))
        return MultimodalEmotionTask(recipe, self.examples)

    @cached_property
    def parts(self) -> DatasetDict:
        """Train and valid of the recipe's seed and fold, and the three tests."""
        from datasets import DatasetDict

        from affect.tasks.multimodal_emotion import folds

        data, seed, examples = self.recipe.data, self.recipe.seed, self.examples
        fold = data.fold or 1
        cut = folds.split(self.corpus.indices("train"), data.folds, seed)
        valid = cut[fold - 1]
        folds.check(examples.labels[valid], examples.valence[valid], self.corpus.classes, fold, seed)
        train = np.sort(np.concatenate([mine for k, mine in enumerate(cut) if k != fold - 1]))
        places = {"train": train, "valid": valid, **{name: self.corpus.indices(name) for name in TESTS}}
        return DatasetDict({name: self._part(mine) for name, mine in places.items()})

    def _part(self, places: NDArray[np.intp]) -> Dataset:
        from datasets import Dataset

        ids = [self.examples.ids[place] for place in places]
        return Dataset.from_dict({"id": ids, "row": places.tolist(), "length": [1.0] * len(ids)})

    def datasets(self) -> DatasetDict:
        """Return train, valid and the tests; each utterance costs one."""
        return self.parts

    def batch(self, rows: NDArray[np.intp], condition: str | None = None, key: Key | None = None) -> Batch:
        """Return the utterances at these places, as they are, under a condition, or noisy as they are trained."""
        trained = None if self.recipe.noise is None or key is None else Noise(key, *self.recipe.noise)
        return self.examples.batch(rows, condition, trained)

    def release(self) -> None:
        """Let go of the memory of features read so far."""
        self.corpus.release()

    def collate(self, rows: list[Row], key: Key | None) -> Batch:
        """Return rows as a micro-batch; in training noise is added where the recipe asks for it."""
        return self.batch(np.array([row["row"] for row in rows], np.intp), rows[0].get("condition"), key)

    def build_model(self) -> nn.Module:
        """Return a new model, its features standardised by the training part where the recipe asks for it."""
        import torch

        from affect.tasks.multimodal_emotion.config import Signature
        from affect.tasks.multimodal_emotion.models import build

        choice, corpus = self.recipe.model, self.corpus
        streams = tuple((stream.modality, stream.name, stream.width) for stream in corpus.streams)
        model = build(choice, Signature(streams=streams, classes=corpus.classes))
        if choice.normalise:
            train = np.asarray(self.parts["train"]["row"][:], dtype=np.intp)
            for s, key in enumerate(corpus.keys):
                values = np.asarray(corpus.values(s)[train], np.float32)
                there = torch.from_numpy(self.examples.present[train, s].astype(np.float32))
                model.standardise(key, torch.from_numpy(values), there)
        return model

    def terms(self) -> Sequence[Term]:
        """Return cross entropy and squared error of valence, one to one, and what the model and recipe add."""
        from affect.tasks.multimodal_emotion.models import terms_of

        return terms_of(self.recipe.model, tuple(stream.modality for stream in self.corpus.streams))

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

        The epoch is chosen by the fold as it is, or by the mean over its seven subsets of the modalities.
        """
        found = [
            Evaluation(name=TRAIN, part=TRAIN, most=2000, kept=False),
            Evaluation(name=VALID, part=VALID, when="epoch", selects=True),
            *(Evaluation(name=name, part=name) for name in TESTS),
        ]
        choosing = {f"subset={letters}" for letters in INCOMPLETE} if self.recipe.choose == "subsets" else set()
        for part in (VALID, *TESTS):
            for condition in NAMES:
                chooses = part == VALID and condition in choosing
                found.append(
                    Evaluation(name=f"{part}@{condition}", part=part, condition=condition, selects=chooses,
                               when="epoch" if chooses else "end")
                )  # fmt: skip
        return found

    def rows(self, outputs: Outputs, batch: Batch) -> list[Row]:
        """Return emotion, valence, logits, attention by modality and what was there, an utterance a row."""
        from affect.tasks.multimodal_emotion.rows import rows_of

        return rows_of(outputs, batch, self.corpus.classes, [s.modality for s in self.corpus.streams])

    def model_config(self, model: nn.Module) -> dict[str, Any]:
        """Return the section `model` and what the model knows of the data."""
        from affect.tasks.multimodal_emotion.models.fusion import Fusion

        return cast(Fusion, model).describe()

    @classmethod
    def model_of(cls, config: dict[str, Any]) -> nn.Module:
        """Return the model that a config.json describes, with random weights."""
        from affect.config import from_dict
        from affect.tasks.multimodal_emotion.config import Model, Signature
        from affect.tasks.multimodal_emotion.models import build

        return build(from_dict(Model, config["model"], "model"), from_dict(Signature, config["data"], "data"))

    @classmethod
    def infer(cls, opened: Opened, inputs: UserInputs, *, progress: bool) -> Iterator[Row]:
        """Yield a line for each utterance."""
        from affect.tasks.multimodal_emotion import predict

        return predict.infer(cls, opened, inputs, progress=progress)

    @classmethod
    def preprocessing(cls, config: dict[str, Any]) -> dict[str, Any]:
        """Return the streams of features that the model takes, and what its outputs mean."""
        from affect.tasks.multimodal_emotion import card

        return card.preprocessing(config)

    @classmethod
    def card(cls, config: dict[str, Any], recipe: dict[str, Any], repo: str) -> Card:
        """Return the facts for the model's card on the Hub."""
        from affect.tasks.multimodal_emotion import card

        return card.card(config, recipe, repo)

    def baselines(self) -> dict[str, dict[str, list[Row]]]:
        """Return what always the commonest class and the mean valence of training give, part by part."""
        train = np.asarray(self.parts["train"]["row"][:], dtype=np.intp)
        classes, examples = self.corpus.classes, self.examples
        labels = examples.labels[train]
        shares = np.bincount(labels[labels >= 0], minlength=len(classes)) / max(1, (labels >= 0).sum())
        emotion, valence = classes[int(shares.argmax())], float(np.nanmean(examples.valence[train]))
        found = {}
        for name in ("valid", *TESTS):
            rows = [
                {
                    "id": examples.ids[place],
                    "prediction": {"emotion": emotion, "valence": valence},
                    "target": dict(examples.rows[place]),
                    "probability": {"emotion": dict(zip(classes, shares.tolist(), strict=True))},
                }
                for place in self.parts[name]["row"][:]
            ]
            found[name] = {"majority": rows}
        return found

    def sections(self, study: Study) -> Sequence[Section]:
        """Return what is missing, what that costs, attention, modality dropout and the toolkit's lines."""
        from affect.tasks.multimodal_emotion import report

        return report.sections(study)

    def flags(self, study: Study) -> Iterable[Flag]:
        """Return where the protocol was not kept, or a modality is missing."""
        from affect.tasks.multimodal_emotion import report

        return report.flags(study)

    def summaries(self, evaluations: Sequence[str]) -> dict[str, list[str]]:
        """Return of each part the mean over the subsets that lack a modality."""
        from affect.tasks.multimodal_emotion import report

        return report.summaries(evaluations)

    def advice(self) -> dict[str, str]:
        """Return what report 001 advises about flags."""
        from affect.tasks.multimodal_emotion import report

        return report.advice_of()

    def describe(self) -> dict[str, Any]:
        """Return what is known of the corpus: its features, and by part utterances, classes and what is there."""
        corpus, examples = self.corpus, self.examples
        there = examples.modalities
        parts = {name: np.asarray(part["row"][:], dtype=np.intp) for name, part in self.parts.items()}
        counts = {
            name: {c: int((examples.labels[mine] == k).sum()) for k, c in enumerate(corpus.classes)}
            for name, mine in parts.items()
        }
        presence = {
            name: {m: int(there[mine, k].sum()) for k, m in enumerate(MODALITIES)}
            | {"all": int(there[mine].all(1).sum())}
            for name, mine in parts.items()
        }
        return {
            "corpus": corpus.identity,
            "fingerprint": corpus.fingerprint,
            "scale": list(corpus.scale),
            "classes": list(corpus.classes),
            "features": {stream.name: stream.width for stream in corpus.streams},
            "utterances": {name: len(mine) for name, mine in parts.items()},
            "class_counts": counts,
            "presence": presence,
            "excluded": len(corpus.exclusions),
            "exclusions": dict(Counter(exclusion.reason for exclusion in corpus.exclusions).most_common()),
        }

    def exclusions(self) -> list[dict[str, str]]:
        """Return all that the corpus leaves out: `what` and the `reason`."""
        return [{"what": exclusion.what, "reason": exclusion.reason} for exclusion in self.corpus.exclusions]


def read_corpus(recipe: MultimodalEmotion) -> FeatureCorpus:
    """Return the corpus of a recipe, made first where it is a generated one.

    Raises AffectError for a corpus that can't be read, and for one without labels of valence to train on.
    """
    from affect.data import corpora

    data = recipe.data
    root = Path(data.root)
    own = {name: getattr(data, name) for name in corpora.layout(data.corpus).options}
    corpus = corpora.read_features(
        data.corpus, root, name=data.name, audio=data.audio, text=data.text, video=data.video, labels=data.labels,
        widths=data.widths, **own,
    )  # fmt: skip
    train = corpus.indices("train")
    emotions = set(np.asarray(corpus.utterances["emotion"][:])[train].tolist())
    absent = [name for name in corpus.classes if name not in emotions]
    if absent:
        raise AffectError(f"{root}: no training utterance is labelled {absent[0]}, one of the classes to be learnt")
    if np.isnan(np.asarray(corpus.utterances["valence"], np.float64)[train]).all():
        raise AffectError(f"{root}: no training utterance has a valence, which this task learns and chooses epochs by")
    return corpus
