"""The task of valence/arousal regression: corpus, micro-batches, model, loss and scores of one fold.

Legend: B utterances, S samples, P prosodic functionals.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset, DatasetDict
from torch import Tensor, nn

from affect import baselines
from affect.data import audio, corpora, prosody, splits
from affect.data.corpora.utterances import kind
from affect.data.corpus import Corpus, Exclusion
from affect.errors import AffectError
from affect.losses.ccc import CCC
from affect.losses.masked import Masked, squared
from affect.losses.weighting import Sum, Uncertainty
from affect.metrics import regression
from affect.models import valence_arousal as models
from affect.models.encoder import EncoderConfig
from affect.recipe import Recipe
from affect.task import Batch, Draw, Loss, Outputs, Row
from affect.tasks.valence_arousal.recipe import OPTIONS, ValenceArousal

_LOG = logging.getLogger("affect")
_KEYS = ("speaker", "session", "dialogue")
_NAMED = 5
"""Ids that an error names."""


class ValenceArousalTask:
    """A recipe's corpus and, once `at` has chosen it, one of its folds."""

    score = "ccc"
    unit = "s of audio"

    def __init__(self, recipe: ValenceArousal, corpus: Corpus | None = None):
        self.recipe = recipe
        self._corpus = corpus

    @property
    def corpus(self) -> Corpus:
        """The corpus as read from disk, its prosody added; read once."""
        if self._corpus is None:
            self._corpus = read_corpus(self.recipe)
        return self._corpus

    def folds(self) -> list[int]:
        """Return the folds that the recipe asks for, from 1."""
        fold = self.recipe.data.fold
        names = splits.folds(self.corpus.utterances, self.recipe.data.split)
        return list(range(1, len(names) + 1)) if fold is None else [fold]

    def at(self, seed: int, fold: int) -> ValenceArousalTask:
        """Return the task of one seed and fold, on the same corpus."""
        recipe = replace(self.recipe, seed=seed, data=replace(self.recipe.data, fold=fold))
        return ValenceArousalTask(recipe, self.corpus)

    @cached_property
    def parts(self) -> DatasetDict:
        """The parts of the recipe's fold."""
        data = self.recipe.data
        return splits.split(self.corpus.utterances, data.split, data.fold or 1, allow_shared=data.allow_shared)

    def datasets(self) -> DatasetDict:
        """Return train, valid and test; an utterance's length is its duration in seconds."""
        return self.parts

    def collate(self, rows: list[Row], draw: Draw | None) -> Batch:
        """Decode and pad: waveform [B, S] at 16 kHz, samples [B], prosody [B, P]; targets on [0, 1]."""
        inputs: dict[str, Tensor] = {}
        if self.recipe.model.encoder != "none":
            waves = [torch.from_numpy(audio.of_row(row)) for row in rows]
            inputs["waveform"] = nn.utils.rnn.pad_sequence(waves, batch_first=True)
            inputs["samples"] = torch.tensor([len(wave) for wave in waves])
        if self.recipe.model.prosody_dim:
            inputs["prosody"] = torch.tensor([row["prosody"] for row in rows], dtype=torch.float32)
        low, high = self.corpus.scale
        targets: dict[str, Tensor] = {
            name: torch.tensor([(row[name] - low) / (high - low) for row in rows], dtype=torch.float32)
            for name in self.recipe.targets
        }
        kept = [{key: row[key] for key in _KEYS} for row in rows]
        return Batch(ids=tuple(row["id"] for row in rows), inputs=inputs, targets=targets, rows=kept)

    def model(self) -> nn.Module:
        """Return a new model, its prosody standardised by the training part."""
        choice = self.recipe.model
        functionals = self.recipe.data.prosody
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
                targets=self.recipe.targets,
                pooling=choice.pooling,
                prosody=functionals,
                prosody_features=len(prosody.names(functionals)),
                prosody_width=choice.prosody_dim,
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

    def loss(self) -> Loss:
        """Return the loss of the recipe, a term a target."""
        recipe = self.recipe
        given = recipe.weights or [1.0] * len(recipe.targets)
        weights: dict[str, float] = dict(zip(recipe.targets, given, strict=True))
        losses: dict[str, Loss] = {
            "ccc": CCC(weights),
            "weighted": CCC(weights),
            "mse": Masked(squared, weights),
            "ccc_mse": Sum({"ccc": CCC(weights), "mse": Masked(squared, weights)}),
        }
        loss = losses[recipe.loss]
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

    def begin(self, model: nn.Module, epoch: int, step: int) -> None:
        """Follow no schedule."""

    def predictions(self, outputs: Outputs, batch: Batch) -> list[Row]:
        """Return predictions and labels on the corpus's own scale."""
        low, high = self.corpus.scale
        raw = {name: (outputs[name].double() * (high - low) + low).tolist() for name in self.recipe.targets}
        true = {name: (batch.targets[name].double() * (high - low) + low).tolist() for name in self.recipe.targets}
        return [
            {
                "id": name,
                "prediction": {target: raw[target][k] for target in raw},
                "target": {target: true[target][k] for target in true},
                **batch.rows[k],
            }
            for k, name in enumerate(batch.ids)
        ]

    def metrics(self, rows: list[Row]) -> dict[str, float]:
        """Return CCC, Pearson and RMSE of each target, and `ccc`, the mean over targets.

        Raises AffectError naming the first ids whose prediction is NaN or infinite.
        """
        scores: dict[str, float] = {}
        for target in self.recipe.targets:
            predicted = np.array([row["prediction"][target] for row in rows])
            true = np.array([row["target"][target] for row in rows])
            wrong = [row["id"] for row, value in zip(rows, predicted, strict=True) if not np.isfinite(value)]
            if wrong:
                first = ", ".join(wrong[:_NAMED]) + (" ..." if len(wrong) > _NAMED else "")
                raise AffectError(f"{len(wrong)} of {len(rows)} predictions of {target} are not finite: {first}")
            scores[f"ccc_{target}"] = regression.ccc(predicted, true)
            scores[f"pearson_{target}"] = regression.pearson(predicted, true)
            scores[f"rmse_{target}"] = regression.rmse(predicted, true)
        return {"ccc": float(np.mean([scores[f"ccc_{t}"] for t in self.recipe.targets])), **scores}

    def save(self, model: nn.Module, folder: Path) -> None:
        """Write model.safetensors and config.json."""
        assert isinstance(model, models.VAModel)
        models.save(model, folder)

    def baselines(self) -> dict[str, list[Row]]:
        """Return the test rows as the mean, a ridge and an SVR on the functionals predict them."""
        train, test = self.parts["train"], self.parts["test"]
        x, new = np.asarray(train["prosody"]), np.asarray(test["prosody"])
        y = np.stack([np.asarray(train[t], dtype=np.float64) for t in self.recipe.targets], axis=1)
        found: dict[str, list[Row]] = {}
        for name in baselines.NAMES:
            predicted = baselines.predict(name, x, y, new, groups=train["speaker"])
            found[name] = [
                {
                    "id": row["id"],
                    "prediction": dict(zip(self.recipe.targets, values.tolist(), strict=True)),
                    "target": {t: row[t] for t in self.recipe.targets},
                    **{key: row[key] for key in _KEYS},
                }
                for row, values in zip(test.remove_columns("prosody"), predicted, strict=True)
            ]
        return found

    def describe(self) -> dict[str, Any]:
        """Return what is known of the corpus, and the groups of each part."""
        corpus, data = self.corpus, self.recipe.data
        group = {"session": "session", "speaker": "speaker"}.get(data.split, "speaker")
        return {
            "corpus": corpus.name,
            "fingerprint": corpus.fingerprint,
            "scale": list(corpus.scale),
            "mapped": corpus.mapped,
            "utterances": {name: len(part) for name, part in self.parts.items()},
            "held_out": {name: sorted({str(value) for value in part[group]}) for name, part in self.parts.items()},
            "excluded": len(corpus.exclusions),
            "exclusions": dict(Counter(kind(exclusion) for exclusion in corpus.exclusions).most_common()),
        }

    def exclusions(self) -> list[dict[str, str]]:
        """Return all that the corpus leaves out, of every part: `what` and the `reason`."""
        return [{"what": exclusion.what, "reason": exclusion.reason} for exclusion in self.corpus.exclusions]


def read_corpus(recipe: ValenceArousal) -> Corpus:
    """Return the corpus that a recipe names, with columns `length` (seconds) and `prosody` added.

    Raises AffectError when it is not there, or holds no utterance with a label.
    """
    data = recipe.data
    options: dict[str, Any] = {}
    if data.corpus == "synthetic":
        options = {"dialogues": data.dialogues, "utterances": data.utterances, "seconds": data.seconds}
    for name in OPTIONS.get(data.corpus, ()):
        if getattr(data, name) is not None:
            options[name] = corpora.mapping(data.columns) if name == "columns" else getattr(data, name)
    corpus = corpora.read(data.corpus, data.root, **options)
    rows: Dataset = corpus.utterances
    labelled = np.isfinite(np.stack([np.asarray(rows[t], dtype=np.float64) for t in recipe.targets])).any(0)
    if not labelled.any():
        raise AffectError(f"no utterance of {data.root or data.corpus} has a label for {' or '.join(recipe.targets)}")
    reason = f"no label: neither {' nor '.join(recipe.targets)}" if len(recipe.targets) > 1 else "no label"
    unlabelled = [Exclusion(what=rows[int(k)]["id"], reason=reason) for k in np.flatnonzero(~labelled)]
    if unlabelled:
        _LOG.warning(
            "%s: %d utterances have no label for %s", data.corpus, len(unlabelled), " or ".join(recipe.targets)
        )
    rows = rows.select(np.flatnonzero(labelled))
    rows = prosody.add(rows, data.prosody).add_column("length", np.asarray(rows["duration"], dtype=np.float64))
    return Corpus(
        name=corpus.name, utterances=rows, exclusions=[*corpus.exclusions, *unlabelled], scale=corpus.scale,
        mapped=corpus.mapped, fingerprint=corpus.fingerprint,
    )  # fmt: skip


def make(recipe: Recipe) -> ValenceArousalTask:
    """Return the task of a valence/arousal recipe."""
    assert isinstance(recipe, ValenceArousal)
    return ValenceArousalTask(recipe)
