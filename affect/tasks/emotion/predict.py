"""Predicting an utterance: runs' weights under torch, averaged where they are several, or an exported file.

Legend: S samples, N utterances that were said before, D channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch

from affect import tasks
from affect.config import from_dict, to_dict
from affect.data import prosody
from affect.data.audio import Samples
from affect.errors import AffectError
from affect.inference import windows
from affect.inference.onnx import Session
from affect.inference.opening import Opened
from affect.models import text
from affect.task import Row, Task
from affect.tasks.emotion.config import EMOTION, Signature
from affect.tasks.emotion.model import EmotionModel
from affect.usage import UserInputs

_DIGITS = 4


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
        facts = {
            "sampling_rate": model.sampling_rate,
            "hears_waveform": model.speech is not None,
            "hears_prosody": model.prosody is not None,
            "reads": model.text is not None,
            "remembers": widths if model.dialogue is not None else {},
        }
        return from_dict(cls, {**to_dict(model.data), **facts})


def infer(task: type[Task], opened: Opened, inputs: UserInputs, *, progress: bool) -> Iterator[Row]:
    """Yield a line for each window or text; see `windows.lines`. Raises AffectError as that does."""
    windows.check(inputs)
    models: list[TorchModel | ExportedModel] = []
    if opened.exported is not None:
        models.append(ExportedModel(opened.exported))
    for folder in opened.folders:
        model = cast(EmotionModel, tasks.load(folder))
        models.append(TorchModel(model, text.load_tokenizer(folder) if model.text is not None else None))
    yield from windows.lines(Average(task, models), inputs, progress=progress)


def model_inputs(facts: Facts, wave: Samples | None) -> dict[str, np.ndarray]:
    """Return what a model takes of one recording [S], by name, each with a batch dimension of 1."""
    given: dict[str, np.ndarray] = {}
    if wave is not None and facts.hears_waveform:
        given |= {"waveform": wave[None], "samples": np.array([len(wave)])}
    if wave is not None and facts.hears_prosody:
        given["prosody"] = prosody.compute(wave, facts.prosody, facts.sampling_rate)[None]
    return given


def row_of(facts: Facts, numbers: Mapping[str, float], shares: Sequence[float]) -> Row:
    """Return a predicted row of raw `numbers` by target and the probability of each class of `emotion`, if any."""
    if not shares:
        return {"id": "", "target": {}, "prediction": dict(numbers)}
    probability = dict(zip(facts.classes, shares, strict=True))
    likeliest = max(probability, key=lambda name: probability[name])
    prediction = {**numbers, EMOTION: likeliest}
    return {"id": "", "target": {}, "prediction": prediction, "probability": {EMOTION: probability}}


class TorchModel:
    """A run's weights, and its tokenizer where it reads."""

    def __init__(self, model: EmotionModel, tokenizer: text.Tokenizer | None = None) -> None:
        """Take over the model."""
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.said: dict[str, torch.Tensor] = {}
        self.facts = Facts.of(model)

    def begin(self) -> None:
        """Forget what was said: the next utterance is the first of another recording."""
        self.said = {}

    def predict(self, wave: Samples | None, text: str | None) -> Row:
        """Return what the model says of samples [S] at its rate and of a text, those that it takes.

        A model with a state over the dialogue takes them for what is said next.
        """
        given = {name: torch.from_numpy(value) for name, value in model_inputs(self.facts, wave).items()}
        if self.tokenizer is not None and text is not None:
            given["tokens"], given["token_mask"] = self.tokenizer([text])
        with torch.inference_mode():
            perceived = self.model.perceive(given)
            turns = None
            if self.model.dialogue is not None:
                # A vector an utterance is all that is kept; no state looks ahead, so earlier lines stand.
                known = self.said or {name: value[:0] for name, value in perceived.items()}
                perceived = self.said = {name: torch.cat([known[name], perceived[name]]) for name in perceived}
                turns = torch.tensor([len(next(iter(perceived.values())))])
            outputs = {name: value[-1:] for name, value in self.model.judge(perceived, turns).items()}
        low, high = self.facts.scale
        numbers = {name: low + float(outputs[name]) * (high - low) for name in self.facts.numbers}
        return row_of(self.facts, numbers, outputs[EMOTION][0].softmax(-1).tolist() if EMOTION in outputs else [])


class ExportedModel:
    """A file that `affect export` wrote; it reads no text."""

    def __init__(self, session: Session) -> None:
        """Take over an open file; raises AffectError where another version wrote it."""
        self.session = session
        try:
            self.facts = from_dict(Facts, session.facts)
        except AffectError as error:
            raise AffectError(f"{session.path}: was written by another version of affect export: {error}") from error
        self.begin()

    def begin(self) -> None:
        """Forget what was said: the next utterance is the first of another recording."""
        self.said = {name: np.zeros((0, width), np.float32) for name, width in self.facts.remembers.items()}

    def predict(self, wave: Samples | None, text: str | None) -> Row:
        """Return what the model says of samples [S] at its rate, which are what is said next in a dialogue."""
        said = {f"said_{name}": vectors for name, vectors in self.said.items()}
        outputs = self.session.run(model_inputs(self.facts, wave) | said)
        self.said = {name: np.concatenate([vectors, outputs[f"heard_{name}"]]) for name, vectors in self.said.items()}
        numbers = {name: float(outputs[name][0]) for name in self.facts.numbers}
        return row_of(self.facts, numbers, outputs[EMOTION][0].tolist() if EMOTION in outputs else [])


class Average:
    """Several models of the same data as one `windows.Listener`: their predictions' mean, as the task takes it."""

    def __init__(self, task: type[Task], models: Sequence[TorchModel | ExportedModel]) -> None:
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
