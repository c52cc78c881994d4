"""The task of speaker diarization: voices and recordings, blocks to train on, a loop over each recording to predict.

What needs a tensor library is imported where it is needed: reports and commands ask a task without one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from affect.config import to_dict
from affect.errors import AffectError
from affect.task import TRAIN, VALID, Batch, Evaluation, Key, Measure, Outputs, Row, Term
from affect.tasks.diarization.card import DiarizationCard
from affect.tasks.diarization.config import Diarization, signature
from affect.tasks.diarization.measures import MEASURES
from affect.tasks.diarization.report import DiarizationReport

if TYPE_CHECKING:
    from pathlib import Path

    from datasets import DatasetDict
    from torch import Tensor, nn

    from affect.findings import Flag
    from affect.inference.opening import Opened
    from affect.tasks.diarization.blocks import Blocks
    from affect.tasks.diarization.corpus import DiarizationCorpus
    from affect.usage import UserInputs

_SOME = 20
"""Training conversations that are diarized after each epoch."""


class DiarizationTask(DiarizationReport, DiarizationCard):
    """Who speaks when: conversations simulated of voices, and recordings."""

    recipe_class = Diarization
    recipe: Diarization
    unit = "s of audio"
    measures: Sequence[Measure] = MEASURES
    takes = ("FILES",)
    cuts = True
    helps = {
        "predict": (
            "A model of diarization takes FILES, recordings of any length (folders of them, or a table with a column "
            "path): one line each, with its turns (start, end, speaker), speakers numbered as they are heard; with "
            "--options offline=True it decodes once more when all is heard. `affect diarize` writes RTTM of the same."
        ),
    }
    commands = (
        "affect.tasks.diarization.commands:score",
        "affect.tasks.diarization.commands:diarize",
    )

    @cached_property
    def corpus(self) -> DiarizationCorpus:
        """Voices and recordings as read from disk; read once, and shared by all seeds."""
        from affect.tasks.diarization.corpus import read

        return read(self.recipe.data)

    def folds(self) -> list[int]:
        """Return the one fold; raises AffectError, before anything is written, where voices don't do for the parts."""
        return [1] if self.parts else []

    def for_fold(self, seed: int, fold: int) -> DiarizationTask:
        """Return the task of a seed, on the same corpus."""
        task = DiarizationTask(replace(self.recipe, seed=seed))
        task.corpus = self.corpus
        return task

    @cached_property
    def parts(self) -> DatasetDict:
        """Training examples, conversations of validation and tests, and recordings."""
        from affect.tasks.diarization.corpus import parts_of

        return parts_of(self.corpus, self.recipe)

    def datasets(self) -> DatasetDict:
        """Return all parts; the length of a row is its seconds."""
        return self.parts

    @cached_property
    def blocks(self) -> Blocks:
        """What makes micro-batches of rows."""
        from affect.tasks.diarization.blocks import Blocks

        return Blocks(self.corpus, self.recipe)

    def collate(self, rows: list[Row], key: Key | None) -> Batch:
        """Return training rows as blocks; without a key rows are whole recordings."""
        return self.blocks.batch(rows, key)

    def build_model(self) -> nn.Module:
        """Return a new model."""
        from affect.tasks.diarization.models import build

        recipe = self.recipe
        facts = {"frames": self.blocks.frames, "speakers": len(self.corpus.training)}
        return build(recipe.model, signature(recipe.model, recipe.loss, **facts))

    def terms(self) -> Sequence[Term]:
        """Return the terms of activity and of speakers' embeddings."""
        from affect.tasks.diarization.losses import terms_of

        return terms_of(self.recipe.model, self.recipe.loss)

    def param_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """Return the optimiser's groups; learned weights of the loss and a pretrained encoder have their own rates."""
        from affect.tasks.diarization.losses import param_groups
        from affect.tasks.diarization.models import Diarizer

        return param_groups(cast(Diarizer, model), self.recipe.optim, self.recipe.loss)

    def diagnostics(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor | tuple[Tensor, Tensor]]:
        """Return statistics of labels and predictions, and losses by what chance can be held against."""
        from affect.tasks.diarization.diagnostics import sums

        return sums(outputs, batch.targets, self.recipe.model, self.recipe.loss)

    def conclusions(self, means: Mapping[str, float], share: float) -> tuple[dict[str, float], list[Flag]]:
        """Return what losses come to by chance, and losses that are there, or a constant output."""
        from affect.tasks.diarization import diagnostics

        return diagnostics.conclusions(means, self.recipe, len(self.corpus.training), share)

    def evaluations(self) -> Sequence[Evaluation]:
        """Return training conversations and validation after each epoch, the tests at the end."""
        return [
            Evaluation(name=TRAIN, part=TRAIN, when="epoch", most=_SOME, kept=False),
            Evaluation(name=VALID, part=VALID, when="epoch", selects=True),
            *(Evaluation(name=name, part=name) for name in self.parts if name not in (TRAIN, VALID)),
        ]

    def predict(self, model: Callable[..., Any], batch: Batch) -> list[Row]:
        """Return a row a recording, with its turns: each is diarized as a stream by itself."""
        from affect.data.activity import in_seconds
        from affect.tasks.diarization.online import diarize, whole
        from affect.tasks.diarization.trivial import instead

        diarizer, rows = whole(model), []
        sizes = batch.inputs["samples"].tolist()
        for waveform, size, row in zip(batch.inputs["waveform"], sizes, batch.rows, strict=True):
            turns = diarize(diarizer, waveform[:size].cpu().numpy(), self.recipe.online)
            rows.append(instead(row, in_seconds(turns)))
        return rows

    def baselines(self) -> dict[str, dict[str, list[Row]]]:
        """Return the tests' rows as silence, one speaker always, and one whenever somebody speaks give them."""
        from affect.tasks.diarization.trivial import predicted

        return {name: predicted(self.blocks, part) for name, part in self.parts.items() if name not in (TRAIN, VALID)}

    def model_config(self, model: nn.Module) -> dict[str, Any]:
        """Return what the model is built by, and how it diarizes."""
        return {**super().model_config(model), "online": to_dict(self.recipe.online)}

    @classmethod
    def model_of(cls, config: dict[str, Any]) -> nn.Module:
        """Return the model that a config.json describes, with random weights."""
        from affect.tasks.diarization.models import restore

        return restore(config)

    @classmethod
    def infer(cls, opened: Opened, inputs: UserInputs, *, progress: bool, offline: bool | None = None) -> Iterator[Row]:
        """Yield a line for each recording; `offline` decodes again when all is heard, as trained when not given."""
        from affect.tasks.diarization import predict

        return predict.infer(opened, inputs, offline=offline)

    def _signs(self) -> list[dict[str, str]]:
        """Return what of the recordings misleads."""
        from affect.data import signs

        recorded = self.corpus.recordings
        return [] if recorded is None else signs.still(recorded.still, len(recorded.recordings))

    @classmethod
    def files_in(cls, folder: Path) -> list[Path]:
        """Return the recordings of a folder."""
        from affect.data.files import readable

        return readable(folder)

    @classmethod
    def embed(cls, opened: Opened, inputs: UserInputs, *, progress: bool) -> Iterator[Row]:
        """Raise AffectError: what a model keeps is of speakers, not of recordings."""
        raise AffectError("a model of diarization has a vector a speaker: affect diarize RUN FILES --embeddings x.npz")

    def describe(self) -> dict[str, Any]:
        """Return what is known of the voices and recordings."""
        corpus = self.corpus
        kinds = {"training": corpus.training, "validation": corpus.validation, "test": corpus.test}
        return {
            "corpus": corpus.identity, "fingerprint": corpus.fingerprint,
            "voices": {name: len(each) for name, each in kinds.items() if each is not None},
            "utterances": {name: len(part) for name, part in self.parts.items()},
            "excluded": len(corpus.exclusions), "signs": self._signs(),
        }  # fmt: skip

    def exclusions(self) -> list[dict[str, str]]:
        """Return all that is left out: `what` and the `reason`."""
        return [{"what": exclusion.what, "reason": exclusion.reason} for exclusion in self.corpus.exclusions]
