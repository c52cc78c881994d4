"""What predicts an utterance: a run's weights under torch, or an exported file under onnxruntime.

Legend: S samples.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from affect.data import prosody
from affect.data.audio import Samples
from affect.errors import AffectError, first_line
from affect.hub import load
from affect.models import text
from affect.models import valence_arousal as models
from affect.models.va_config import EMOTION

METADATA = "affect"
"""The entry of an exported file's metadata that holds its `Facts`."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What has to be known of a model to feed it and to read it.

    `targets` is the order of its outputs, `scale` the lowest and highest raw label, `sampling_rate` in Hz,
    `prosody` the kind of functionals it takes or None, `audio` and `text` whether it takes the waveform and a text.
    `classes` are those of the target `emotion`, none where it is no target. `speaker` is the width of the embeddings
    that it takes beside the waveform, 0 where it takes none; `remembers` the branches whose vectors of what was said
    before are an input too (`said_<branch>`), with their widths, for a model with a state over the dialogue.
    """

    targets: tuple[str, ...]
    scale: tuple[float, float]
    sampling_rate: int
    audio: bool
    prosody: str | None
    text: bool
    classes: tuple[str, ...]
    speaker: int
    remembers: dict[str, int]

    @property
    def numbers(self) -> tuple[str, ...]:
        """The targets that are numbers, in order."""
        return tuple(target for target in self.targets if target != EMOTION)

    @classmethod
    def of(cls, model: models.VAModel) -> Facts:
        """Return the facts of a model."""
        config = model.config
        return cls(
            targets=tuple(config.targets),
            scale=config.scale,
            sampling_rate=model.sampling_rate,
            audio=config.uses_audio,
            prosody=config.prosody if config.uses_prosody else None,
            text=config.text is not None,
            classes=tuple(config.classes) if EMOTION in config.targets else (),
            speaker=config.speaker_features if config.speaker == "embedding" else 0,
            remembers=_branches(model) if model.dialogue is not None else {},
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        facts: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return facts

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> Facts:
        """Return the facts that `to_dict` described; raises KeyError or TypeError where they are others."""
        values: dict[str, Any] = {field.name: facts[field.name] for field in fields(cls)}
        lists: dict[str, Any] = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
        return cls(**values | lists)


def _branches(model: models.VAModel) -> dict[str, int]:
    """Return the width of each vector that `VAModel.perceive` returns, by branch."""
    parts = {"prosody": model.prosody, "speech": model.speech, "text": model.text}
    return {name: part.width for name, part in parts.items() if part is not None}


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Of one utterance: the numbers on the raw scale by target, and the probability of each class of `emotion`."""

    numbers: dict[str, float]
    probability: dict[str, float]

    def to_line(self) -> dict[str, Any]:
        """Return `prediction`, with the likeliest class where there are classes, and then their `probability`."""
        found: dict[str, Any] = {name: round(value, 4) for name, value in self.numbers.items()}
        if not self.probability:
            return {"prediction": found}
        found[EMOTION] = max(self.probability, key=lambda name: self.probability[name])
        shares = {name: round(value, 4) for name, value in self.probability.items()}
        return {"prediction": found, "probability": {EMOTION: shares}}


class Predictor(Protocol):
    """An utterance in, its `Prediction` out."""

    facts: Facts

    def begin(self) -> None:
        """Forget what was said: the next utterance is the first of another recording."""
        ...

    def predict(self, wave: Samples | None, text: str | None) -> Prediction:
        """Return what the model says of samples [S] at its rate and of a text, those that it takes."""
        ...


def open_predictor(run: Path) -> Predictor:
    """Return what a run's folder, a folder of weights, an exported file or its folder predicts with.

    Raises AffectError naming the runs there are when it is none of them, and where its model needs what no file holds.
    """
    exported = _exported(run)
    found: Predictor
    if exported is not None:
        found = ExportedModel(exported)
    else:
        folder = weights(run)
        model = models.load(folder)
        found = TorchModel(model, text.load_tokenizer(folder) if model.config.text is not None else None)
    if found.facts.speaker:
        raise AffectError("this model takes speaker embeddings of the corpus: a file alone can't be predicted")
    return found


def weights(run: Path) -> Path:
    """Return the folder of a run's best weights, or `run` itself where it holds weights, or of user/name on the Hub.

    Raises AffectError naming the runs there are when it is none of them.
    """
    run = load.folder_of(run)
    for folder in (run / "checkpoints" / "best", run):
        if (folder / models.WEIGHTS).is_file():
            return folder
    below = sorted(str(path.parents[2]) for path in run.glob("**/checkpoints/best/" + models.WEIGHTS))
    if below:
        raise AffectError(f"{run} holds several runs: name one, such as {below[0]}")
    raise AffectError(f"{run} holds no weights: a run's folder is runs/<experiment>/seed<S>/fold<F>")


def _exported(run: Path) -> Path | None:
    if run.suffix == ".onnx":
        return run
    found = sorted(run.glob("*.onnx")) if run.is_dir() and not (run / models.WEIGHTS).is_file() else []
    if len(found) > 1:
        raise AffectError(f"{run} holds several exported models: name one, such as {found[0]}")
    return found[0] if found else None


def inputs(facts: Facts, wave: Samples | None) -> dict[str, np.ndarray]:
    """Return what a model takes of one recording [S], by name, each with a batch dimension of 1."""
    given: dict[str, np.ndarray] = {}
    if wave is None:
        return given
    if facts.audio:
        given["waveform"] = wave[None]
        given["samples"] = np.array([len(wave)])
    if facts.prosody is not None:
        given["prosody"] = prosody.compute(wave, facts.prosody, facts.sampling_rate)[None]
    return given


class TorchModel:
    """A run's weights, and its tokenizer where it reads."""

    def __init__(self, model: models.VAModel, tokenizer: text.Tokenizer | None = None) -> None:
        """Take over the model."""
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.said: dict[str, torch.Tensor] = {}
        self.facts = Facts.of(model)

    def begin(self) -> None:
        """Forget what was said: the next utterance is the first of another recording."""
        self.said = {}

    def predict(self, wave: Samples | None, text: str | None) -> Prediction:
        """Return what the model says of samples [S] at its rate and of a text, those that it takes.

        A model with a state over the dialogue takes them for what is said next.
        """
        given = {name: torch.from_numpy(value) for name, value in inputs(self.facts, wave).items()}
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
        shares = outputs[EMOTION][0].softmax(-1).tolist() if self.facts.classes else []
        return Prediction(
            numbers={name: low + float(outputs[name]) * (high - low) for name in self.facts.numbers},
            probability=dict(zip(self.facts.classes, shares, strict=True)),
        )


class ExportedModel:
    """A file that `affect export` wrote."""

    def __init__(self, path: Path) -> None:
        """Open the file; raises AffectError where it is missing, damaged, or not from `affect export`."""
        if not path.is_file():
            raise AffectError(f"{path}: no such file")
        self.path = path
        runtime = require("onnxruntime")
        options = runtime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = torch.get_num_threads()
        try:
            self.session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        # onnxruntime's own exceptions share no base but Exception, and RuntimeError for what they wrap.
        except Exception as error:
            reason = " ".join(str(error).split())
            raise AffectError(f"{path}: is no model that onnxruntime can run: {reason[:200]}") from error
        text = self.session.get_modelmeta().custom_metadata_map.get(METADATA)
        if text is None:
            raise AffectError(f"{path}: was not written by affect export: it does not say what its numbers mean")
        try:
            self.facts = Facts.from_dict(json.loads(text))
        except (ValueError, KeyError, TypeError) as error:
            raise AffectError(f"{path}: was written by another version of affect export: export it again") from error
        self.begin()

    def begin(self) -> None:
        """Forget what was said: the next utterance is the first of another recording."""
        self.said = {name: np.zeros((0, width), np.float32) for name, width in self.facts.remembers.items()}

    def run(self, given: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return all outputs of a batch's inputs, by name; raises AffectError where onnxruntime can't."""
        names = [output.name for output in self.session.get_outputs()]
        try:
            return dict(zip(names, self.session.run(names, dict(given)), strict=True))
        # Its own kinds of exception have no other base.
        except Exception as error:
            raise AffectError(f"{self.path}: onnxruntime cannot run it: {first_line(error)[:200]}") from error

    def predict(self, wave: Samples | None, text: str | None) -> Prediction:
        """Return what the model says of samples [S] at its rate; no exported model takes a text.

        A model with a state over the dialogue takes them for what is said next.
        """
        said = {f"said_{name}": vectors for name, vectors in self.said.items()}
        outputs = self.run(inputs(self.facts, wave) | said)
        self.said = {name: np.concatenate([vectors, outputs[f"heard_{name}"]]) for name, vectors in self.said.items()}
        shares = outputs[EMOTION][0].tolist() if self.facts.classes else []
        return Prediction(
            numbers={name: float(outputs[name][0]) for name in self.facts.numbers},
            probability=dict(zip(self.facts.classes, shares, strict=True)),
        )


def require(name: str) -> Any:
    """Return a module of the extra `[onnx]`; raises AffectError where it is not installed."""
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise AffectError(f"{name} is not installed: pip install 'affect[onnx]'") from error
