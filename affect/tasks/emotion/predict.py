"""Predicting an utterance: runs' weights under torch, averaged where they are several, or an exported file.

Legend: B utterances, S samples, N utterances that were said before, D channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from affect.config import from_dict
from affect.data import prosody
from affect.data.audio import Samples
from affect.errors import AffectError
from affect.inference import device, windows
from affect.inference.onnx import Session
from affect.inference.opening import Opened
from affect.models import text
from affect.task import Row, Task
from affect.tasks.emotion.config import EMOTION, Signature
from affect.tasks.emotion.model import EmotionModel
from affect.usage import UserInputs

_DIGITS = 4


def infer(task: type[Task], opened: Opened, inputs: UserInputs, *, progress: bool) -> Iterator[Row]:
    """Yield a line for each window or text; see `windows.lines`. Raises AffectError as that does."""
    windows.check(inputs)
    predictors = []
    if (exported := opened.exported) is not None:
        try:
            predictors.append(Predictor(exported, from_dict(Facts, exported.facts)))
        except AffectError as error:
            raise AffectError(f"{exported.path}: was written by another version of affect export: {error}") from error
    for folder in opened.folders:
        graph = Graph(cast(EmotionModel, device.load(folder)))
        predictors.append(Predictor(graph, graph.facts, text.load_tokenizer(folder) if graph.facts.reads else None))
    yield from windows.lines(Average(task, predictors), inputs, progress=progress)


@dataclass(frozen=True, kw_only=True)
class Facts(Signature):
    """What has to be known of a model to feed it and to read it, beside what it knows of the data.

    `remembers` are the branches whose vectors of what was said before are an input too (`said_<branch>`), with their
    widths, for a model with a state over the dialogue.
    """

    sampling_rate: int
    """Hz of the waveform."""
    hears_waveform: bool
    hears_prosody: bool
    reads: bool
    remembers: dict[str, int]

    @classmethod
    def of(cls, model: EmotionModel) -> Facts:
        """Return the facts of a model."""
        parts = {"prosody": model.prosody, "speech": model.speech, "text": model.text}
        widths = {name: part.width for name, part in parts.items() if part is not None}
        # Functionals are of 16 kHz where there is no encoder.
        rate = model.encoder.sampling_rate if model.encoder is not None else 16_000
        return cls(
            **vars(model.data), sampling_rate=rate, hears_waveform=model.speech is not None,
            hears_prosody=model.prosody is not None, reads=model.text is not None,
            remembers=widths if model.dialogue is not None else {},
        )  # fmt: skip


class Graph(nn.Module):
    """A model as it is used: given what was said before, and with outputs on the scale of the labels.

    Of N utterances that were said before it takes `said_<branch>` [N, D], and gives `heard_<branch>` [B, D] of those
    that are said now, where it has a state over the dialogue.
    """

    def __init__(self, model: EmotionModel) -> None:
        super().__init__()
        self.model = model
        self.facts = Facts.of(model)
        self.eval()

    def outputs(self, given: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return each number [B], raw and as `<name>_unit`, the probabilities of `emotion` [B, C], what was heard."""
        low, high = self.facts.scale
        remembered = {name: given[f"said_{name}"] for name in self.facts.remembers}
        perceived = self.model.perceive(given)
        heard = {f"heard_{name}": perceived[name] for name in remembered}
        turns, before = None, 0
        if remembered:
            perceived = {name: torch.cat([remembered[name], value]) for name, value in perceived.items()}
            before, together = (next(iter(vectors.values())).shape[0] for vectors in (remembered, perceived))
            # A graph takes all for one dialogue, and could not hold what follows from a value.
            turns = None if torch.compiler.is_exporting() else torch.tensor([together])
        judged = {name: value[before:] for name, value in self.model.judge(perceived, turns).items()}
        raw = {name: low + judged[name] * (high - low) for name in self.facts.numbers}
        units = {f"{name}_unit": judged[name] for name in self.facts.numbers}
        classes = {EMOTION: judged[EMOTION].softmax(-1)} if EMOTION in judged else {}
        return raw | units | classes | heard

    def forward(self, given: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """Return the values of `outputs`: what an exported file has."""
        return tuple(self.outputs(given).values())

    def run(self, given: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return `outputs` as an open file does."""
        device = next(self.parameters()).device
        with torch.inference_mode():
            outputs = self.outputs({name: torch.from_numpy(value).to(device) for name, value in given.items()})
        return {name: value.cpu().numpy() for name, value in outputs.items()}


class Predictor:
    """A run's weights, with its tokenizer where it reads, or a file that `affect export` wrote."""

    def __init__(self, source: Graph | Session, facts: Facts, tokenizer: text.Tokenizer | None = None) -> None:
        self.source, self.facts, self.tokenizer = source, facts, tokenizer
        self.begin()

    def begin(self) -> None:
        """Forget what was said: the next utterance is the first of another recording."""
        self.said = {name: np.zeros((0, width), np.float32) for name, width in self.facts.remembers.items()}

    def predict(self, wave: Samples | None, text: str | None) -> Row:
        """Return what the model says of samples [S] at its rate and of a text, those that it takes.

        A model with a state over the dialogue takes them for what is said next.
        """
        facts, given = self.facts, {f"said_{name}": vectors for name, vectors in self.said.items()}
        if wave is not None and facts.hears_waveform:
            given |= {"waveform": wave[None], "samples": np.array([len(wave)])}
        if wave is not None and facts.hears_prosody:
            given["prosody"] = prosody.compute(wave, facts.prosody, facts.sampling_rate)[None]
        if self.tokenizer is not None and text is not None:
            given["tokens"], given["token_mask"] = (value.numpy() for value in self.tokenizer([text]))
        outputs = self.source.run(given)
        # A vector an utterance is all that is kept; no state looks ahead, so earlier lines stand.
        self.said = {name: np.concatenate([vectors, outputs[f"heard_{name}"]]) for name, vectors in self.said.items()}
        low, high = facts.scale
        numbers = {name: low + float(outputs[f"{name}_unit"][0]) * (high - low) for name in facts.numbers}
        row: Row = {"id": "", "target": {}, "prediction": numbers}
        if EMOTION in outputs:
            shares = dict(zip(facts.classes, outputs[EMOTION][0].tolist(), strict=True))
            row["prediction"][EMOTION] = max(shares, key=lambda name: shares[name])
            row["probability"] = {EMOTION: shares}
        return row


class Average:
    """Several models of the same data as one `windows.Listener`: their predictions' mean, as the task takes it."""

    def __init__(self, task: type[Task], models: Sequence[Predictor]) -> None:
        """Take over the models; raises AffectError where they take other inputs, or what no file holds."""
        self.task, self.models = task, models
        self.facts = facts = models[0].facts
        if any(model.facts != facts for model in models):
            raise AffectError("the runs are models of other inputs: name one run")
        if facts.speaker_features:
            raise AffectError("this model takes speaker embeddings of the corpus: a file alone can't be predicted")
        self.hears = facts.hears_waveform or facts.hears_prosody
        self.reads, self.sampling_rate = facts.reads, facts.sampling_rate

    def begin(self) -> None:
        """Forget what was said."""
        for model in self.models:
            model.begin()

    def predict(self, wave: Samples | None, text: str | None) -> dict[str, Any]:
        """Return a line's prediction, the order of its targets and the scale of those that are numbers."""
        rows = [[model.predict(wave, text)] for model in self.models]
        (row,) = rows[0] if len(rows) == 1 else self.task.average(rows)
        line: dict[str, Any] = {"prediction": _rounded(row["prediction"])}
        if "probability" in row:
            line["probability"] = {EMOTION: _rounded(row["probability"][EMOTION])}
        scale = {"scale": list(self.facts.scale)} if self.facts.numbers else {}
        return {**line, "order": list(self.facts.targets), **scale}


def _rounded(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: round(value, _DIGITS) if isinstance(value, float) else value for name, value in values.items()}
