"""Export of a run's best weights as one ONNX graph, for every batch and length, held against torch before it is kept.

Legend: B batch, S samples, P functionals, N utterances that were said before, C classes.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from affect import tasks
from affect.config import to_dict
from affect.errors import AffectError, first_line
from affect.inference import onnx
from affect.inference.onnx import Session
from affect.models.saving import CONFIG
from affect.tasks.emotion.config import EMOTION, Emotion
from affect.tasks.emotion.model import EmotionModel
from affect.tasks.emotion.predict import Facts
from affect.usage import Exported

TOLERANCE = 1e-4
"""The largest difference from torch, on the raw scale, that a file may have."""
_CHECKED: tuple[tuple[float, ...], ...] = ((0.01,), (0.3,), (2.7,), (1.3, 0.4, 3.1), (20.0,), (30.4,))
"""Seconds of the batches a file is held against torch with: far shorter and longer than the example, padded, a
batch of one, and beyond what one window of Whisper or WavLM's distances hold."""
_CAPTURED = (31.0, 20.0)
"""Seconds of the example. Whatever is 1 there (utterances, frames, Whisper's windows) would be 1 in every graph."""
_SAID = (5, 0, 1, 7, 0, 2, 100)
"""How many utterances were said before those of the example, and of each batch that a file is checked with."""


class _Graph(nn.Module):
    """A model with its inputs in a fixed order and its outputs as a tuple, in the order of `outputs_of`."""

    def __init__(self, model: EmotionModel, facts: Facts) -> None:
        super().__init__()
        self.model = model
        self.facts = facts
        self.low, self.high = facts.scale

    def forward(self, given: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """Return the outputs that `outputs_of` names, of the inputs that `inputs_of` names."""
        said = {name: given[f"said_{name}"] for name in self.facts.remembers}
        perceived = self.model.perceive(given)
        heard = [perceived[name] for name in said]
        turns, before = None, 0
        if said:
            perceived = {name: torch.cat([said[name], value]) for name, value in perceived.items()}
            before = next(iter(said.values())).shape[0]
            # A graph takes all for one dialogue, and could not hold what follows from a value.
            turns = None if torch.compiler.is_exporting() else torch.tensor([before + heard[0].shape[0]])
        outputs = {name: value[before:] for name, value in self.model.judge(perceived, turns).items()}
        numbers = [outputs[target] for target in self.facts.numbers]
        classes = [outputs[EMOTION].softmax(-1)] if EMOTION in outputs else []
        return (*(self.low + value * (self.high - self.low) for value in numbers), *numbers, *classes, *heard)


def export(folder: Path, path: Path, opset: int = onnx.OPSET) -> Exported:
    """Write the model in `folder` as ONNX to `path`, config.json beside, and return what was written.

    Its inputs are those of `inputs_of` that the model takes, for any B, S and N; its outputs those of `outputs_of`. A
    frozen x-vector model is in the graph. The B utterances of a model with a state over the dialogue are those that
    follow the N whose vectors it is given. The file is run by onnxruntime on batches of other sizes and lengths; one
    that differs from torch by more than `TOLERANCE` is not kept. Raises AffectError then, where the extra `[onnx]` is
    missing, the model reads a text, or the place is taken.
    """
    onnx.check_opset(opset)
    if path.suffix != ".onnx":
        raise AffectError(f"output is {path}: its name has to end in .onnx")
    _check_place(path)
    model = cast(EmotionModel, tasks.load(folder))
    if model.text is not None:
        raise AffectError("a model with a text branch (model.text) can't be exported: a tokenizer is no graph")
    if model.speech is not None and model.config.lora:
        # Imported here: peft takes a second.
        from affect.models import lora

        model.speech.encoder = lora.merge(model.speech.encoder)
    facts = Facts.of(model)
    graph = _Graph(model, facts).eval()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Beside its place, so that moving it there is one step and a failure leaves nothing.
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".export-") as made:
            draft = Path(made) / path.name
            _write(graph, facts, draft, opset)
            difference = compare(graph, facts, Session(draft))
            size = sum(entry.stat().st_size for entry in draft.parent.iterdir())
            _describe(draft.parent / CONFIG, path, facts, opset, difference)
            for entry in draft.parent.iterdir():
                os.replace(entry, path.parent / entry.name)
    except OSError as error:
        raise AffectError(f"{path}: cannot be written ({error.strerror or first_line(error)})") from error
    return Exported(path=path, size=size, difference=difference)


def inputs_of(facts: Facts) -> dict[str, str]:
    """Return the names of a graph's inputs and what each means."""
    audio = (
        {"waveform": "[B, S] float32", "samples": "[B] int64, the valid samples of each"}
        if facts.hears_waveform
        else {}
    )
    prosody = {"prosody": f"[B, P] float32, the raw functionals {facts.prosody!r}"} if facts.hears_prosody else {}
    speaker = {"speaker": f"[B, {facts.speaker_features}] float32, embeddings"} if facts.speaker_features else {}
    said = {
        f"said_{name}": f"[N, {width}] float32, heard_{name} of the N utterances that were said before"
        for name, width in facts.remembers.items()
    }
    return audio | prosody | speaker | said


def outputs_of(facts: Facts) -> dict[str, str]:
    """Return the names of a graph's outputs, in order, and what each means."""
    raw = {name: "[B], the scale of the labels" for name in facts.numbers}
    unit = {f"{name}_unit": "[B], 0 the scale's lowest label and 1 its highest" for name in facts.numbers}
    classes = {EMOTION: "[B, C], the probability of each of `classes`"} if EMOTION in facts.targets else {}
    heard = {f"heard_{name}": f"[B, {width}], to be given as said_{name}" for name, width in facts.remembers.items()}
    return raw | unit | classes | heard


def compare(graph: nn.Module, facts: Facts, exported: Session) -> float:
    """Return the largest difference of a file from torch; raises AffectError where it is over `TOLERANCE`."""
    worst = 0.0
    for number, seconds in enumerate(_CHECKED if facts.hears_waveform else _CHECKED[:4]):
        batch = _example(graph, facts, seconds, said=_SAID[number + 1], seed=number + 1)
        with torch.inference_mode():
            expected = dict(zip(exported.outputs, graph(batch), strict=True))
        found = exported.run({name: value.numpy() for name, value in batch.items()})
        for name, value in expected.items():
            difference = float(np.abs(found[name] - value.numpy()).max())
            if not difference <= TOLERANCE:
                lengths = ", ".join(f"{s:g}" for s in seconds)
                raise AffectError(
                    f"the graph's {name} differs from torch by {difference:.2g} at {lengths} s: nothing is kept"
                )
            worst = max(worst, difference)
    return worst


def _example(graph: Any, facts: Facts, seconds: tuple[float, ...], said: int, seed: int) -> dict[str, Tensor]:
    """Return a batch of noise that swells, its padding full of garbage, and functionals, one of them missing."""
    generator = torch.Generator().manual_seed(seed)
    batch: dict[str, Tensor] = {}
    if facts.hears_waveform:
        samples = torch.tensor([round(s * facts.sampling_rate) for s in seconds])
        time = torch.arange(int(samples.max())) / facts.sampling_rate
        noise = torch.randn(len(samples), len(time), generator=generator)
        batch["waveform"] = noise * 0.1 * (1.1 + torch.sin(6 * time + torch.arange(len(samples))[:, None]))
        batch["samples"] = samples
    if facts.hears_prosody:
        branch = graph.model.prosody
        drawn = torch.randn(len(seconds), branch.features, generator=generator)
        batch["prosody"] = branch.mean + drawn * branch.deviation
        batch["prosody"][0, 0] = torch.nan
    if facts.speaker_features:
        batch["speaker"] = torch.randn(len(seconds), facts.speaker_features, generator=generator)
    for name, width in facts.remembers.items():
        batch[f"said_{name}"] = torch.randn(said, width, generator=generator)
    return batch


def _write(graph: nn.Module, facts: Facts, path: Path, opset: int) -> None:
    batch = _example(graph, facts, _CAPTURED, said=_SAID[0], seed=0)
    sizes: dict[str, dict[int, Any]] = {name: {0: torch.export.Dim.DYNAMIC} for name in batch}
    if facts.hears_waveform:
        sizes["waveform"][1] = torch.export.Dim.DYNAMIC
    told = {"task": Emotion.task, **to_dict(facts)}
    onnx.write(graph, batch, sizes, list(outputs_of(facts)), told, path, opset)


def _check_place(path: Path) -> None:
    """Raise AffectError where the folder has a config.json that tells of something else."""
    taken = path.parent / CONFIG
    if not taken.exists():
        return
    try:
        mine = json.loads(taken.read_text()).get("file") == path.name
    except (OSError, ValueError, AttributeError):
        mine = False
    if not mine:
        raise AffectError(f"{taken} tells of something else: give --output another folder")


def _describe(path: Path, exported: Path, facts: Facts, opset: int, difference: float) -> None:
    described = {
        "file": exported.name,
        **to_dict(facts),
        "inputs": inputs_of(facts),
        "outputs": outputs_of(facts),
        "opset": opset,
        "largest_difference": difference,
    }
    path.write_text(json.dumps(described, indent=2) + "\n")
