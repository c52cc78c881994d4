"""Export of a run's best weights as one ONNX graph, for every batch and length, held against torch before it is kept.

Legend: B batch, S samples, P functionals, N utterances that were said before, C classes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from affect import tasks
from affect.config import to_dict
from affect.errors import AffectError
from affect.inference import onnx
from affect.inference.onnx import Session
from affect.models.saving import CONFIG
from affect.tasks.emotion.config import EMOTION, PROBABILITY, UNIT, Emotion
from affect.tasks.emotion.model import EmotionModel
from affect.tasks.emotion.predict import Facts, Graph
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


def export(folder: Path, path: Path, opset: int = onnx.OPSET) -> Exported:
    """Write the model in `folder` as ONNX to `path`, config.json beside, and return what was written.

    Its inputs are those of `inputs_of` that the model takes, for any B, S and N; its outputs those of `outputs_of`. A
    frozen x-vector model is in the graph. The B utterances of a model with a state over the dialogue are those that
    follow the N whose vectors it is given. The file is run by onnxruntime on batches of other sizes and lengths; one
    that differs from torch by more than `TOLERANCE` is not kept. Raises AffectError then, where the extra `[onnx]` is
    missing, the model reads a text, or the place is taken.
    """
    onnx.check_opset(opset)
    onnx.check_name(path)
    _check_place(path)
    model = cast(EmotionModel, tasks.load(folder))
    if model.text is not None:
        raise AffectError("a model with a text branch (model.text) can't be exported: a tokenizer is no graph")
    if model.speech is not None and model.config.lora:
        # Imported here: peft takes a second.
        from affect.models import lora

        model.speech.encoder = lora.merge(model.speech.encoder)
    graph = Graph(model)
    facts = to_dict(graph.facts)
    inputs, outputs = inputs_of(graph.facts), outputs_of(graph.facts)
    batch = _example(graph, _CAPTURED, remembered=_SAID[0], seed=0)
    sizes: dict[str, dict[int, Any]] = {name: {0: torch.export.Dim.DYNAMIC} for name in batch}
    if graph.facts.hears_waveform:
        sizes["waveform"][1] = torch.export.Dim.DYNAMIC
    with onnx.draft(path) as draft:
        onnx.write(graph, batch, sizes, list(outputs), {"task": Emotion.task, **facts}, draft, opset)
        difference = compare(graph, Session(draft))
        size = sum(entry.stat().st_size for entry in draft.parent.iterdir())
        described = {"file": path.name, **facts, "inputs": inputs, "outputs": outputs, "opset": opset}
        described["largest_difference"] = difference
        (draft.parent / CONFIG).write_text(json.dumps(described, indent=2) + "\n")
    return Exported(path=path, size=size, difference=difference)


def inputs_of(facts: Facts) -> dict[str, str]:
    """Return the names of a graph's inputs and what each means."""
    inputs: dict[str, str] = {}
    if facts.hears_waveform:
        inputs |= {"waveform": "[B, S] float32", "samples": "[B] int64, the valid samples of each"}
    if facts.hears_prosody:
        inputs["prosody"] = f"[B, P] float32, the raw functionals {facts.prosody!r}"
    if facts.speaker_features:
        inputs["speaker"] = f"[B, {facts.speaker_features}] float32, embeddings"
    for name, width in facts.remembers.items():
        inputs[f"said_{name}"] = f"[N, {width}] float32, heard_{name} of the N utterances that were said before"
    return inputs


def outputs_of(facts: Facts) -> dict[str, str]:
    """Return the names of a graph's outputs, in the order of `Graph.outputs`, and what each means."""
    raw = {name: "[B], the scale of the labels" for name in facts.numbers}
    unit = {name + UNIT: "[B], 0 the scale's lowest label and 1 its highest" for name in facts.numbers}
    classes = {
        EMOTION: "[B, C], logits of `classes`",
        EMOTION + PROBABILITY: "[B, C], the probability of each of `classes`",
    }
    meanings = raw | unit | classes
    heard = {f"heard_{name}": f"[B, {width}], to be given as said_{name}" for name, width in facts.remembers.items()}
    return {name: meanings[name] for name in facts.outputs} | heard


def compare(graph: Graph, exported: Session) -> float:
    """Return the largest difference of a file from torch; raises AffectError where it is over `TOLERANCE`."""
    worst = 0.0
    for number, seconds in enumerate(_CHECKED if graph.facts.hears_waveform else _CHECKED[:4], 1):
        batch = {name: value.numpy() for name, value in _example(graph, seconds, _SAID[number], seed=number).items()}
        outputs = exported.run(batch)
        for name, value in graph.run(batch).items():
            difference = float(np.abs(outputs[name] - value).max())
            if not difference <= TOLERANCE:
                lengths = ", ".join(f"{s:g}" for s in seconds)
                raise AffectError(
                    f"the graph's {name} differs from torch by {difference:.2g} at {lengths} s: nothing is kept"
                )
            worst = max(worst, difference)
    return worst


def _example(graph: Graph, seconds: tuple[float, ...], remembered: int, seed: int) -> dict[str, Tensor]:
    """Return a batch of noise that swells, its padding full of garbage, and functionals, one of them missing."""
    facts = graph.facts
    branch: Any = graph.model.prosody
    generator = torch.Generator().manual_seed(seed)
    batch: dict[str, Tensor] = {}
    if facts.hears_waveform:
        samples = torch.tensor([round(s * facts.sampling_rate) for s in seconds])
        time = torch.arange(int(samples.max())) / facts.sampling_rate
        noise = torch.randn(len(samples), len(time), generator=generator)
        batch["waveform"] = noise * 0.1 * (1.1 + torch.sin(6 * time + torch.arange(len(samples))[:, None]))
        batch["samples"] = samples
    if branch is not None:
        drawn = torch.randn(len(seconds), branch.features, generator=generator)
        batch["prosody"] = branch.mean + drawn * branch.deviation
        batch["prosody"][0, 0] = torch.nan
    if facts.speaker_features:
        batch["speaker"] = torch.randn(len(seconds), facts.speaker_features, generator=generator)
    for name, width in facts.remembers.items():
        batch[f"said_{name}"] = torch.randn(remembered, width, generator=generator)
    return batch


def _check_place(path: Path) -> None:
    """Raise AffectError where the folder has a config.json that tells of something else."""
    config = path.parent / CONFIG
    try:
        file = json.loads(config.read_text()).get("file")
    except (FileNotFoundError, NotADirectoryError):
        return
    except (OSError, ValueError, AttributeError):
        file = None
    if file != path.name:
        raise AffectError(f"{config} tells of something else: give --output another folder")
