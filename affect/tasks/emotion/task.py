"""The task of emotion in speech and words: corpus, micro-batches, model, loss and measures of one fold.

What needs a tensor library is imported where it is needed: reports ask a task without one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from affect.task import TRAIN, VALID, Batch, Evaluation, Key, Measure, Outputs, Row, Term, evaluations_of
from affect.tasks.emotion.card import EmotionCard
from affect.tasks.emotion.config import EMOTION, UNIT, Emotion, Signature
from affect.tasks.emotion.measures import measures_of, rows_of
from affect.tasks.emotion.report import EmotionReport

if TYPE_CHECKING:
    from collections.abc import Mapping

    from datasets import DatasetDict
    from torch import Tensor, nn

    from affect.data.corpus import Corpus
    from affect.inference.opening import Opened
    from affect.models import text
    from affect.tasks.emotion.corpus import Classes
    from affect.tasks.emotion.inputs import Inputs
    from affect.usage import UserInputs


class EmotionTask(EmotionReport, EmotionCard):
    """A recipe's corpus and, once `for_fold` has chosen it, one of its folds."""

    recipe_class = Emotion
    recipe: Emotion
    takes = ("FILES", "--text", "--window", "--hop", "--rate", "--raw")
    cuts = True
    helps = {
        "predict": (
            "A model of sound takes FILES (or folders of them, or a table with columns path and text): one "
            "line a window, scale and order stated. Files are read bit by bit and each window is printed at once: a "
            "recording may be of any length."
        ),
        "export": (
            "onnx, of models of speech: a graph for any batch and length, checked against torch by onnxruntime. "
            "Inputs: waveform [B, S] float32, samples [B] int64 (valid samples), prosody [B, P] float32 (the raw "
            "functionals), speaker [B, E] float32 (embeddings of the corpus; an x-vector model is in the graph), "
            "those that the model takes. Outputs, named as the model's own: each number on the scale of the "
            "labels, and as NAME_unit from 0 to 1; logits of emotion and emotion_probability. A model "
            "with a state over the dialogue also takes said_speech and said_prosody [N, D], "
            "the outputs heard_speech and heard_prosody of the N utterances before (N is "
            "0 at the start). A file that differs from torch by more than 1e-4 is not kept. Its metadata hold "
            "what affect predict has to know (targets, scale, rate, classes), so it can be moved alone (from 1.8 "
            "GB of weights on with model.onnx.data beside it); config.json says the same to people. Models of "
            "text can't be exported. Needs pip install 'affect[onnx]'."
        ),
    }
    exporters = {"onnx": "affect.tasks.emotion.export:export"}

    def __init__(self, recipe: Emotion):
        """Take a recipe; reads nothing yet."""
        super().__init__(recipe)
        self.unit = "s of audio" if recipe.data.layout.has_audio else "words"

    @cached_property
    def measures(self) -> Sequence[Measure]:
        """CCC, Pearson and RMSE of each number, UA, WA and F1 of `emotion`; first the mean that chooses."""
        return measures_of(self.recipe.targets)

    @cached_property
    def known(self) -> tuple[Corpus, Classes | None]:
        """The corpus as read from disk, its features added, and the classes of `emotion`; read once."""
        from affect.tasks.emotion.corpus import read_corpus

        return read_corpus(self.recipe)

    @property
    def corpus(self) -> Corpus:
        """The corpus as read from disk, its features added."""
        return self.known[0]

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes of `emotion`, none where it is no target."""
        return self.known[1].names if self.known[1] is not None else ()

    def folds(self) -> list[int]:
        """Return the folds that the recipe asks for, from 1."""
        from affect.data import splits

        fold = self.recipe.data.fold
        names = splits.folds(self.corpus.utterances, self.recipe.data.split)
        return list(range(1, len(names) + 1)) if fold is None else [fold]

    def for_fold(self, seed: int, fold: int) -> EmotionTask:
        """Return the task of one seed and fold, on the same corpus."""
        task = EmotionTask(replace(self.recipe, seed=seed, data=replace(self.recipe.data, fold=fold)))
        task.known = self.known
        return task

    @cached_property
    def parts(self) -> DatasetDict:
        """The utterances of the parts of the recipe's fold."""
        from affect.data import splits

        data = self.recipe.data
        return splits.split(self.corpus.utterances, data.split, data.fold or 1, allow_shared=data.allow_shared)

    @cached_property
    def units(self) -> DatasetDict:
        """The rows of the plan: utterances, or with a dialogue model segments (train) and whole dialogues."""
        from datasets import DatasetDict

        from affect.tasks.emotion.corpus import segments

        model, stretch = self.recipe.model, self.recipe.augment.stretch
        parts = DatasetDict(self.parts)
        if model.dialogue != "none":
            places = {name: k for k, name in enumerate(self.corpus.utterances["id"])}
            sizes = {TRAIN: model.segment}
            parts = DatasetDict({name: segments(part, places, sizes.get(name)) for name, part in self.parts.items()})
        if stretch:
            # A slower recording costs more memory than the one on disk: the plan counts the longest it may become.
            longest = np.asarray(parts["train"]["length"], dtype=np.float64) * (1 + stretch)
            parts["train"] = parts["train"].remove_columns("length").add_column("length", longest)
        return parts

    def datasets(self) -> DatasetDict:
        """Return train, valid and tests; an utterance's length is its duration in seconds (a text's, its words)."""
        return self.units

    @cached_property
    def inputs(self) -> Inputs:
        """What makes micro-batches of rows."""
        from affect.tasks.emotion.inputs import Inputs

        corpus, classes = self.known
        return Inputs(self.recipe, corpus.scale, classes, train=self.parts["train"], tokenizer=self._tokenizer)

    def collate(self, rows: list[Row], key: Key | None) -> Batch:
        """Decode, augment and pad utterances, or all utterances of segments one after another."""
        if self.recipe.model.dialogue == "none":
            return self.inputs.batch(rows, key)
        columns = self.corpus.utterances[[place for row in rows for place in row["rows"]]]
        count = len(columns["id"])
        utterances = [{name: column[k] for name, column in columns.items()} for k in range(count)]
        return self.inputs.batch(utterances, key, [len(row["rows"]) for row in rows])

    @cached_property
    def _tokenizer(self) -> text.Tokenizer | None:
        from affect.models import text
        from affect.tasks.emotion.model import text_options

        model = self.recipe.model
        return text.read_tokenizer(text_options(model)) if model.text != "none" else None

    def build_model(self) -> nn.Module:
        """Return a new model, its prosody standardised by the training part."""
        import torch

        from affect.data import prosody
        from affect.tasks.emotion.model import EmotionModel

        data, choice = self.recipe.data, self.recipe.model
        embedding = self.corpus.utterances[0]["speaker_embedding"] if choice.speaker == "embedding" else ()
        signature = Signature(
            targets=self.recipe.targets, classes=self.classes, scale=self.corpus.scale, prosody=data.prosody,
            prosody_version=prosody.VERSION if choice.prosody_dim else 1,
            prosody_features=len(prosody.names(data.prosody)), speaker_features=len(embedding),
        )  # fmt: skip
        train = self.parts["train"]
        heard = choice.encoder != "none" or choice.prosody_dim
        sizes = train["length"] if heard else [len(words.split()) for words in train["transcript"]]
        model = EmotionModel(choice, signature, lengths=(float(min(sizes)), float(max(sizes))))
        if model.prosody is not None:
            features = torch.from_numpy(np.asarray(train["prosody"], dtype=np.float64))
            model.prosody.set_statistics(features.mean(0), features.std(0, correction=0))
        return model

    def on_train_start(self, model: nn.Module, rank: int, world: int) -> None:
        """Compute the states of a frozen encoder (model.cache) and x-vectors, where they aren't on disk yet."""
        from affect.tasks.emotion.model import EmotionModel
        from affect.tasks.emotion.prepared import Prepared

        speech = cast(EmotionModel, model).speech
        if speech is None or (self.recipe.model.cache == "none" and speech.xvector is None):
            return
        device = next(model.parameters()).device
        self.inputs.prepared = Prepared.fill(self.recipe, speech, device, self.corpus.utterances, rank, world)

    def terms(self) -> Sequence[Term]:
        """Return the terms of the recipe's loss, one or two a target."""
        from affect.losses.ccc import ccc_term
        from affect.losses.masked import cross_entropy, squared_error

        recipe, terms = self.recipe, []
        numbers: list[Callable[..., Term]] = [squared_error] if recipe.loss == "mse" else [ccc_term]
        numbers += [squared_error] if recipe.loss == "ccc_mse" else []
        for k, target in enumerate(recipe.targets):
            kinds: list[Callable[..., Term]] = [cross_entropy] if target == EMOTION else numbers
            weight = recipe.weights[k] if recipe.weights else 1.0
            column = k if recipe.model.uncertainty else None
            # The labels of a batch are from 0 to 1.
            output = target if target == EMOTION else target + UNIT
            terms += [kind(target, output=output, weight=weight, log_variance=column) for kind in kinds]
        return terms

    def param_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """Return up to four groups: encoder and head, each with and without weight decay."""
        from affect.tasks.emotion.model import EmotionModel, undecayed

        optim = self.recipe.optim
        encoder = {id(parameter) for parameter in cast(EmotionModel, model).encoder_parameters()}
        spared = undecayed(model)
        groups: dict[str, dict[str, Any]] = {}
        for name, parameter in model.named_parameters():
            part = "encoder" if id(parameter) in encoder else "head"
            rate = optim.encoder_lr or optim.lr if part == "encoder" else optim.lr
            key, decay = (f"{part}_no_decay", 0.0) if name in spared else (part, optim.weight_decay)
            if parameter.requires_grad:
                group = groups.setdefault(key, {"name": key, "params": [], "lr": rate, "weight_decay": decay})
                group["params"].append(parameter)
        return list(groups.values())

    def evaluations(self) -> Sequence[Evaluation]:
        """Return training, validation and the tests, of which an official split may have several."""
        return evaluations_of(self._tests if self.recipe.data.split == "column" else ["test"])

    @property
    def _tests(self) -> list[str]:
        return [name for name in self.parts if name not in (TRAIN, VALID)]

    def rows(self, outputs: Outputs, batch: Batch) -> list[Row]:
        """Return predictions and labels on the corpus's own scale."""
        return rows_of(outputs, batch, self.recipe.targets, self.classes, self.corpus.scale)

    def save(self, model: nn.Module, weights: Mapping[str, Tensor], folder: Path) -> None:
        """Write weights and configuration, and of a model that reads its tokenizer."""
        from affect.models import text

        super().save(model, weights, folder)
        if self._tokenizer is not None:
            text.save_tokenizer(self._tokenizer, folder)

    @classmethod
    def model_of(cls, config: dict[str, Any]) -> nn.Module:
        """Return the model that a config.json describes, with random weights and without the Hub."""
        from affect.tasks.emotion.model import build

        return build(config)

    @classmethod
    def infer(cls, opened: Opened, inputs: UserInputs, *, progress: bool) -> Iterator[Row]:
        """Yield a line for each window of a recording, or for each text."""
        from affect.tasks.emotion import predict

        return predict.infer(cls, opened, inputs, progress=progress)

    @classmethod
    def files_in(cls, folder: Path) -> list[Path]:
        """Return the recordings of a folder."""
        from affect.data.files import readable

        return readable(folder)

    @classmethod
    def embed(cls, opened: Opened, inputs: UserInputs, *, progress: bool) -> Iterator[Row]:
        """Yield the pooled states of each window of a recording, or of each text."""
        from affect.tasks.emotion import predict

        return predict.embed(opened, inputs, progress=progress)

    def baselines(self) -> dict[str, dict[str, list[Row]]]:
        """Return the rows of the tests as the mean, a ridge and an SVR on the functionals predict them.

        A class is the most frequent one, or a ridge or support vector classifier's. Where the transcripts are used,
        `tfidf` is a ridge on their words; a corpus of texts has no functionals.
        """
        from datasets import concatenate_datasets

        from affect.baselines import classes as of_classes
        from affect.baselines import features, text
        from affect.tasks.emotion.inputs import KEYS

        tests = {name: self.parts[name] for name in self._tests}
        # Each is fitted once, for all tests.
        train, test = self.parts[TRAIN], concatenate_datasets([*tests.values()])
        numbers, classes = self.recipe.numbers, self.known[1]
        heard = self.recipe.data.layout.has_audio
        x, new = (np.asarray(part["prosody"]) if heard else np.zeros((len(part), 1)) for part in (train, test))
        labels = np.array([np.asarray(train[target], dtype=np.float64) for target in numbers]).T
        predicted: dict[str, dict[str, Any]] = {}
        for name in features.NAMES if heard else ("constant",):
            columns = predicted[name] = {}
            if numbers:
                values = features.predict(name, x, labels, new, groups=train["speaker"])
                columns |= zip(numbers, values.T.tolist(), strict=True)
            if classes is not None:
                emotions = [classes.name(emotion) for emotion in train["emotion"]]
                columns[EMOTION] = of_classes.predict(name, x, emotions, new, groups=train["speaker"])
        if self.recipe.model.text != "none" and numbers:
            values = text.predict(train["transcript"], labels, test["transcript"], groups=train["dialogue"])
            predicted["tfidf"] = dict(zip(numbers, values.T.tolist(), strict=True))
        rows = []
        for row in test.select_columns(["id", *KEYS, *numbers, EMOTION]):
            target = {name: row[name] for name in numbers}
            if classes is not None:
                target[EMOTION] = classes.name(row[EMOTION])
            rows.append({"id": row["id"], "prediction": {}, "target": target, **{key: row[key] for key in KEYS}})
        by_name = {
            name: [row | {"prediction": {t: values[k] for t, values in columns.items()}} for k, row in enumerate(rows)]
            for name, columns in predicted.items()
        }
        ends = np.cumsum([len(part) for part in tests.values()])
        return {
            name: {model: each[end - len(tests[name]) : end] for model, each in by_name.items()}
            for name, end in zip(tests, ends.tolist(), strict=True)
        }

    def _signs(self) -> list[dict[str, str]]:
        """Return what of the fold's data misleads."""
        from affect.data import signs, splits

        (corpus, classes), parts = self.known, self.parts
        used = {name for part in parts.values() for name in part["id"]}
        signed = signs.still([name for name in corpus.still if name in used], len(used))
        if classes is not None:
            # Whoever joins two spellings takes them for one.
            several = (name for name in corpus.utterances[EMOTION] if classes.name(name) == name)
            signed += signs.classes_alike(several)
            named = {part: [classes.name(name) or "" for name in rows[EMOTION]] for part, rows in parts.items()}
            signed += signs.classes_untrained(named)
        unknown = splits.unnamed(corpus.utterances, range(len(corpus.utterances)))
        return [*signed, *signs.unnamed(unknown)]

    def describe(self) -> dict[str, Any]:
        """Return what is known of the corpus, and the groups of each part."""
        from affect.data.corpus import kind

        corpus, data = self.corpus, self.recipe.data
        # Of a split by scripts or by a column of parts the speakers are told.
        group = data.split if data.split in corpus.utterances.column_names and data.split != "script" else "speaker"
        return {
            "corpus": corpus.identity, "fingerprint": corpus.fingerprint, "scale": list(corpus.scale),
            "scale_inferred": corpus.inferred, "mapped": corpus.mapped,
            "signs": self._signs(), "ratings": None if corpus.ratings is None else str(corpus.ratings),
            "utterances": {name: len(part) for name, part in self.parts.items()},
            "held_out": {name: sorted({str(value) for value in part[group]}) for name, part in self.parts.items()},
            "excluded": len(corpus.exclusions),
            "exclusions": dict(Counter(kind(exclusion) for exclusion in corpus.exclusions).most_common()),
        }  # fmt: skip

    def exclusions(self) -> list[dict[str, str]]:
        """Return all that the corpus leaves out, of every part: `what` and the `reason`."""
        return [{"what": exclusion.what, "reason": exclusion.reason} for exclusion in self.corpus.exclusions]
