"""The task of valence/arousal regression: corpus, micro-batches, model, loss and scores of one fold."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import DatasetDict
from numpy.typing import NDArray
from torch import nn

from affect.data import augment, noise, prosody, splits
from affect.data.corpora.utterances import kind
from affect.data.corpus import Corpus
from affect.losses.ccc import CCC
from affect.losses.masked import CrossEntropy, Masked, squared
from affect.losses.weighting import Sum, Uncertainty
from affect.models import text
from affect.models import valence_arousal as models
from affect.models.encoder import EncoderConfig
from affect.recipe import Recipe
from affect.task import Batch, Draw, Loss, Outputs, Predict, Row
from affect.tasks.valence_arousal import scores
from affect.tasks.valence_arousal.classes import Classes
from affect.tasks.valence_arousal.corpus import read_corpus
from affect.tasks.valence_arousal.inputs import Inputs
from affect.tasks.valence_arousal.prepared import Prepared
from affect.tasks.valence_arousal.recipe import EMOTION, ValenceArousal
from affect.tasks.valence_arousal.references import references
from affect.tasks.valence_arousal.segments import segments


class ValenceArousalTask:
    """A recipe's corpus and, once `at` has chosen it, one of its folds."""

    def __init__(self, recipe: ValenceArousal, known: tuple[Corpus, Classes | None] | None = None):
        self.recipe = recipe
        self._known = known
        self._prepared = Prepared({})
        self.score = scores.chosen_by(recipe.targets)
        self.tests: tuple[str, ...] = ("test",)
        self.unit = "s of audio" if recipe.data.layout.has_audio else "words"

    @property
    def known(self) -> tuple[Corpus, Classes | None]:
        """The corpus as read from disk, its features added, and the classes of `emotion`; read once."""
        if self._known is None:
            self._known = read_corpus(self.recipe)
        return self._known

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
        fold = self.recipe.data.fold
        names = splits.folds(self.corpus.utterances, self.recipe.data.split)
        return list(range(1, len(names) + 1)) if fold is None else [fold]

    def at(self, seed: int, fold: int) -> ValenceArousalTask:
        """Return the task of one seed and fold, on the same corpus."""
        recipe = replace(self.recipe, seed=seed, data=replace(self.recipe.data, fold=fold))
        return ValenceArousalTask(recipe, self.known)

    @cached_property
    def parts(self) -> DatasetDict:
        """The utterances of the parts of the recipe's fold."""
        data = self.recipe.data
        return splits.split(self.corpus.utterances, data.split, data.fold or 1, allow_shared=data.allow_shared)

    @cached_property
    def units(self) -> DatasetDict:
        """The rows of the plan: utterances, or with a dialogue model segments (train) and whole dialogues."""
        model, stretch = self.recipe.model, self.recipe.augment.stretch
        parts = DatasetDict(self.parts)
        if model.dialogue != "none":
            places = {name: k for k, name in enumerate(self.corpus.utterances["id"])}
            sizes = {"train": model.segment, "valid": None, "test": None}
            parts = DatasetDict({name: segments(part, places, sizes[name]) for name, part in self.parts.items()})
        if stretch:
            # A slower recording costs more memory than the one on disk: the plan counts the longest it may become.
            longest = np.asarray(parts["train"]["length"], dtype=np.float64) * (1 + stretch)
            parts["train"] = parts["train"].remove_columns("length").add_column("length", longest)
        return parts

    def datasets(self) -> DatasetDict:
        """Return train, valid and test; an utterance's length is its duration in seconds (a text's, its words)."""
        return self.units

    @cached_property
    def inputs(self) -> Inputs:
        """What makes micro-batches of rows."""
        recipe = self.recipe
        ids = list(self.parts["train"]["id"])

        def partner(name: str, draw: Draw) -> Row:
            row: Row = self.parts["train"][augment.partner(ids, draw.seed, draw.epoch, name)]
            return row

        return Inputs(
            recipe,
            self.corpus.scale,
            self.known[1],
            prepared=self._prepared,
            tokenizer=self._tokenizer,
            noise_files=noise.recordings(recipe.augment.noise_files) if recipe.augment.noise_files else (),
            partner=partner,
        )

    def collate(self, rows: list[Row], draw: Draw | None) -> Batch:
        """Decode, augment and pad utterances, or all utterances of segments one after another."""
        if self.recipe.model.dialogue == "none":
            return self.inputs.batch(rows, draw)
        columns = self.corpus.utterances[[place for row in rows for place in row["rows"]]]
        count = len(columns["id"])
        utterances = [{name: column[k] for name, column in columns.items()} for k in range(count)]
        return self.inputs.batch(utterances, draw, [len(row["rows"]) for row in rows])

    def _text(self) -> text.TextConfig | None:
        model = self.recipe.model
        if model.text == "none":
            return None
        return text.TextConfig(name=model.text, train=model.train_text, dropout=model.text_dropout)

    @cached_property
    def _tokenizer(self) -> text.Tokenizer | None:
        config = self._text()
        return text.read_tokenizer(config) if config is not None else None

    def model(self) -> nn.Module:
        """Return a new model, its prosody standardised by the training part."""
        choice = self.recipe.model
        functionals = self.recipe.data.prosody
        embedding = self.corpus.utterances[0]["speaker_embedding"] if choice.speaker == "embedding" else ()
        model = models.VAModel(
            models.VAConfig(
                encoder=EncoderConfig(
                    name=choice.encoder,
                    train=choice.train_encoder,
                    layers=choice.layers,
                    gradient_checkpointing=choice.checkpointing,
                    dropout=choice.encoder_dropout,
                    layerdrop=choice.layerdrop,
                    spec_augment=choice.spec_augment,
                ),
                lora=choice.lora,
                targets=self.recipe.targets,
                classes=self.classes,
                pooling=choice.pooling,
                temporal=choice.temporal,
                prosody=functionals,
                prosody_features=len(prosody.names(functionals)),
                prosody_width=choice.prosody_dim,
                prosody_attention=choice.prosody_attention,
                speaker=choice.speaker,
                speaker_features=len(embedding),
                text=self._text(),
                dialogue=choice.dialogue,
                mamba_width=choice.mamba_dim,
                mamba_layers=choice.mamba_layers,
                state_width=choice.state_dim,
                state_decay=choice.state_decay,
                gates=choice.gates,
                hidden=(choice.hidden, choice.hidden // 2),
                dropout=choice.dropout,
                sigmoid=choice.sigmoid,
                uncertainty=choice.uncertainty,
                scale=self.corpus.scale,
            )
        )
        if model.prosody is not None:
            features = torch.from_numpy(np.asarray(self.parts["train"]["prosody"], dtype=np.float64))
            model.prosody.set_statistics(features.mean(0), features.std(0, correction=0))
        return model

    def prepare(self, model: nn.Module, rank: int, world: int) -> None:
        """Compute the states of a frozen encoder (model.cache) and x-vectors, where they aren't on disk yet."""
        assert isinstance(model, models.VAModel)
        if self.recipe.model.cache == "none" and (model.speech is None or model.speech.xvector is None):
            return
        self._prepared = Prepared.fill(self.recipe, model, self.corpus.utterances, rank, world)
        self.__dict__.pop("inputs", None)

    def loss(self) -> Loss:
        """Return the loss of the recipe, a term a target."""
        recipe = self.recipe
        given = recipe.weights or [1.0] * len(recipe.targets)
        weights: dict[str, float] = dict(zip(recipe.targets, given, strict=True))
        numbers = {name: weight for name, weight in weights.items() if name != EMOTION}
        parts: dict[str, Loss] = {}
        if numbers and recipe.loss != "mse":
            parts["ccc"] = CCC(numbers)
        if numbers and recipe.loss in ("mse", "ccc_mse"):
            parts["mse"] = Masked(squared, numbers)
        if EMOTION in weights:
            parts["class"] = CrossEntropy({EMOTION: weights[EMOTION]})
        loss = next(iter(parts.values())) if len(parts) == 1 else Sum(parts)
        return Uncertainty(loss) if recipe.model.uncertainty else loss

    def parameter_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """Return up to four groups: encoder and head, each with and without weight decay."""
        assert isinstance(model, models.VAModel)
        optim = self.recipe.optim
        encoder = {id(parameter) for parameter in model.encoder_parameters()}
        undecayed = models.undecayed(model)
        groups: dict[str, dict[str, Any]] = {}
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad:
                continue
            part = "encoder" if id(parameter) in encoder else "head"
            rate = optim.encoder_lr or optim.lr if part == "encoder" else optim.lr
            key = f"{part}_no_decay" if name in undecayed else part
            decay = 0.0 if name in undecayed else optim.weight_decay
            group = groups.setdefault(key, {"name": key, "params": [], "lr": rate, "weight_decay": decay})
            group["params"].append(parameter)
        return list(groups.values())

    def begin(self, model: nn.Module, epoch: int, step: int) -> dict[str, float]:
        """Follow no schedule."""
        return {}

    def predictions(self, outputs: Outputs, batch: Batch) -> list[Row]:
        """Return predictions and labels on the corpus's own scale."""
        return scores.rows_of(outputs, batch, self.recipe.targets, self.classes, self.corpus.scale)

    def metrics(self, rows: list[Row]) -> dict[str, float]:
        """Return CCC, Pearson and RMSE of each number, UA, WA and F1 of `emotion`, and the mean that chooses."""
        return scores.metrics(rows, self.recipe.targets)

    def validate(self, predict: Predict) -> dict[str, float]:
        """Return the scores of the validation part."""
        return self.metrics(predict(self.units["valid"]))

    def save(self, model: nn.Module, folder: Path) -> None:
        """Write model.safetensors, config.json and, of a model that reads, its tokenizer."""
        assert isinstance(model, models.VAModel)
        models.save(model, folder)
        if self._tokenizer is not None:
            text.save_tokenizer(self._tokenizer, folder)

    def baselines(self) -> dict[str, dict[str, list[Row]]]:
        """Return the test rows as trivial models predict them, from the functionals and from the words."""
        return {"test": references(self.recipe, self.parts, self.known[1])}

    def examine(self, predict: Predict) -> dict[str, NDArray[Any]]:
        """Examine nothing beyond the parts."""
        return {}

    def describe(self) -> dict[str, Any]:
        """Return what is known of the corpus, and the groups of each part."""
        corpus, data = self.corpus, self.recipe.data
        # Of a split by scripts or by a column of parts the speakers are told.
        group = data.split if data.split in corpus.utterances.column_names and data.split != "script" else "speaker"
        return {
            "corpus": corpus.identity,
            "fingerprint": corpus.fingerprint,
            "scale": list(corpus.scale),
            "scale_inferred": corpus.inferred,
            "mapped": corpus.mapped,
            "utterances": {name: len(part) for name, part in self.parts.items()},
            "held_out": {name: sorted({str(value) for value in part[group]}) for name, part in self.parts.items()},
            "excluded": len(corpus.exclusions),
            "exclusions": dict(Counter(kind(exclusion) for exclusion in corpus.exclusions).most_common()),
        }

    def exclusions(self) -> list[dict[str, str]]:
        """Return all that the corpus leaves out, of every part: `what` and the `reason`."""
        return [{"what": exclusion.what, "reason": exclusion.reason} for exclusion in self.corpus.exclusions]


def make(recipe: Recipe) -> ValenceArousalTask:
    """Return the task of a valence/arousal recipe."""
    assert isinstance(recipe, ValenceArousal)
    return ValenceArousalTask(recipe)
