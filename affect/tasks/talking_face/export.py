"""Export of a run's best weights: an ONNX graph, one with int8 weights, or a model with fewer units and heads.

Each is scored on clips of the run beside the model that it is made of, and kept where it is within the limits; it has
intervals of its own, calibrated by the run's validation clips. Legend: B clips, T frames of a feature.
"""

from __future__ import annotations

import json
import math
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from affect import tasks
from affect.config import to_dict
from affect.data.clip import Clip
from affect.errors import AffectError
from affect.inference import onnx as graphs
from affect.models import saving
from affect.task import SPREAD, TRAIN
from affect.tasks.talking_face import films, intervals
from affect.tasks.talking_face.clips import padded
from affect.tasks.talking_face.config import TalkingFace
from affect.tasks.talking_face.end_to_end import EndToEndModel
from affect.tasks.talking_face.gate import Limits, RunClips, judge
from affect.tasks.talking_face.media import SOUND_RATE, Media
from affect.tasks.talking_face.model import TalkingFaceModel
from affect.tasks.talking_face.predict import score, score_exported
from affect.tasks.talking_face.prune import Shares
from affect.tasks.talking_face.prune import pruned as prune
from affect.usage import Exported

TOLERANCE = 1e-4
"""The largest difference from torch that a graph in float32 may have, as a share of a score's scale."""
_EXAMPLE = (9, 5)
"""Frames of the example's clips: what is 1 in it would be 1 in every graph."""
_CHECKED = ((1,), (0,), (40, 1, 7), (2, 130, 0, 8))
"""Frames of the clips of each batch that a graph is held against torch with; 0: the clip has no feature at all."""
_SEEN = 128
"""Training clips by which it is chosen what is cut out, and what is left is fitted."""


Exportable = TalkingFaceModel | EndToEndModel


class Graph(nn.Module):
    """A model as the exporter wants it: of a dictionary to a tuple."""

    def __init__(self, model: Exportable) -> None:
        super().__init__()
        self.model = model
        scores = [name for name, _, _ in model.data.scores]
        self.outputs = scores + [name + SPREAD for name in scores if model.config.heteroscedastic]

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """Return the `outputs` [B] of what the model takes."""
        outputs = self.model(**batch)
        return tuple(outputs[name] for name in self.outputs)


def onnx(
    folder: Path, path: Path, opset: int, *, max_error: float = TOLERANCE, mean_error: float = TOLERANCE,
    srcc_drop: float = 1e-3, size: float = math.inf, latency: float = math.inf,
    level: float = intervals.LEVEL,
) -> Exported:  # fmt: skip
    """Write the model in `folder` as ONNX to `path`, for any B and T.

    Its inputs are each feature [B, T, W] and its number of frames [B] (NAME_frames, 0: missing), its outputs the scores
    [B] on their scales; of a model of clips itself it has the encoders in it, and takes images and sound as that does.
    Its intervals are of `level`. Raises AffectError where it differs from torch or exceeds a limit: nothing is left.
    """
    limits = Limits(max_error=max_error, mean_error=mean_error, srcc_drop=srcc_drop, size=size, latency=latency)
    return _graph(folder, path, opset, limits, level, integers=False)


def int8(
    folder: Path, path: Path, opset: int, *, max_error: float = 0.05, mean_error: float = 0.01,
    srcc_drop: float = 0.02, size: float = 1.0, latency: float = math.inf,
    level: float = intervals.LEVEL,
) -> Exported:  # fmt: skip
    """Write what `onnx` does with weights of 8 bits a channel, and products of 8 bits, to `path`.onnx.

    A clip's activations share their steps with those of its batch: its scores are the same only where it is alone.
    """
    limits = Limits(max_error=max_error, mean_error=mean_error, srcc_drop=srcc_drop, size=size, latency=latency)
    path = path if path.suffix == ".onnx" else path.with_name(f"{path.name}.onnx")
    return _graph(folder, path, opset, limits, level, integers=True)


def pruned(
    folder: Path, path: Path, opset: int, *, hidden: float = 0.25, heads: float = 0.5, encoders: float = 0.5,
    fused: float = 1.0, max_error: float = 0.2, mean_error: float = 0.03, srcc_drop: float = 0.02, size: float = 1.0,
    latency: float = math.inf, level: float = intervals.LEVEL,
) -> Exported:  # fmt: skip
    """Write a smaller model to the folder `path`, of which these shares are kept: see `prune.Shares`.

    Only a model of features is pruned, none of clips themselves. It is loaded and predicted with as any folder of
    weights. Raises AffectError for an `opset`, which is of ONNX's files, and where nothing is cut.
    """
    if opset != graphs.OPSET:
        raise AffectError("opset is of ONNX's files: a pruned model is a folder of weights, leave it out")
    shares = Shares(hidden=hidden, heads=heads, encoders=encoders, fused=fused)
    limits = Limits(max_error=max_error, mean_error=mean_error, srcc_drop=srcc_drop, size=size, latency=latency)
    if path.exists() and not (path / saving.WEIGHTS).is_file():
        raise AffectError(f"{path} is there and holds no model: give --output another folder")
    model, clips = _of_features(folder), RunClips(folder)
    data = model.data
    seen = (clips.inputs(row) for row in clips.rows(TRAIN, most=_SEEN))
    small = prune(model, seen, shares)
    after = partial(score, small)
    with graphs.draft(path) as draft:
        config = {"task": TalkingFace.task, **small.describe(), "lengths": saving.read_config(folder).get("lengths")}
        saving.save(small.state_dict(), config, draft)
        sizes = ((folder / saving.WEIGHTS).stat().st_size, (draft / saving.WEIGHTS).stat().st_size)
        judged = judge(clips, data, partial(score, model), after, sizes, limits)
        config[intervals.FIELD] = clips.intervals(after, data, level)
        (draft / saving.CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    return Exported(path=path, size=sizes[1], difference=judged.difference, lines=judged.lines)


def _of_features(folder: Path) -> TalkingFaceModel:
    model = tasks.load(folder)
    if not isinstance(model, TalkingFaceModel):
        raise AffectError(
            "a model that sees or hears clips itself is exported as onnx or int8, its encoders are not pruned; for "
            "pruned train one on features that recipes/extract_features.py makes (the experiment extracted)"
        )
    return model


def _graph(folder: Path, path: Path, opset: int, limits: Limits, level: float, *, integers: bool) -> Exported:
    graphs.check_opset(opset)
    graphs.check_name(path)
    model = cast(Exportable, tasks.load(folder))
    clips, data = RunClips(folder), model.data
    with graphs.draft(path) as draft:
        write(model, draft, opset)
        if integers:
            quantize(draft)
        after = partial(score_exported, graphs.Session(draft))
        sizes = ((folder / saving.WEIGHTS).stat().st_size, draft.stat().st_size)
        judged = judge(clips, data, partial(score, model), after, sizes, limits)
        _describe(draft, model, clips.intervals(after, data, level), saving.read_config(folder).get("lengths"))
    return Exported(path=path, size=path.stat().st_size, difference=judged.difference, lines=judged.lines)


def write(model: Exportable, path: Path, opset: int) -> None:
    """Write a model as an ONNX graph in float32.

    Raises AffectError where torch can't, where it is too large for one file, and where the graph differs from torch.
    """
    graph, batch = Graph(model), example(model, _EXAMPLE, seed=0)
    size = torch.export.Dim.DYNAMIC
    sizes: dict[str, dict[int, Any]] = {
        name: {0: size, 1: size} if value.ndim > 1 else {0: size} for name, value in batch.items()
    }
    graphs.write(graph, batch, sizes, graph.outputs, {"task": TalkingFace.task}, path, opset)
    if any(other != path for other in path.parent.iterdir()):
        raise AffectError("the model is too large for one ONNX file")
    _describe(path, model, {})
    session, scales = graphs.Session(path), {name: high - low for name, low, high in model.data.scores}
    for seed, frames in enumerate(_CHECKED, 1):
        batch = example(model, frames, seed)
        outputs = session.run({name: value.numpy() for name, value in batch.items()})
        with torch.inference_mode():
            wanted = model(**batch)
        for name, scale in scales.items():
            difference = float(np.abs(outputs[name] - wanted[name].numpy()).max()) / scale
            if not difference <= TOLERANCE:
                raise AffectError(f"the graph's {name} differs from torch by {difference:.2g} of its scale: not kept")


def example(model: Exportable, frames: tuple[int, ...], seed: int) -> dict[str, Tensor]:
    """Return a batch of noise, features of a clip one frame shorter than those before them, down to none.

    Of what is seen and heard, images are as many as frames and sound lasts as long, up to what is taken of a clip.
    """
    random, media = np.random.default_rng(seed), model.config.media
    batch: dict[str, Tensor] = {}
    given = [feature for feature in model.data.features if feature[0] not in media.taken]
    for k, (name, width) in enumerate(given):
        clips = [random.normal(size=(max(0, length - k), width)).astype(np.float32) for length in frames]
        batch |= padded(name, width, clips)
    return batch | films.inputs_of([_noise(media, length, random) for length in frames], media)


def _noise(media: Media, frames: int, random: np.random.Generator) -> Clip:
    """Return a clip of noise; of no frames one without images and sound."""
    count = min(frames, math.ceil(media.rate * media.seconds))
    images = random.integers(0, 256, (count, media.side, media.side, 3), np.uint8)
    sound = random.normal(0, 0.1, math.ceil(count / media.rate * SOUND_RATE)).astype(np.float32)
    return Clip(images, sound) if count else Clip(None, None)


def quantize(path: Path) -> None:
    """Make a graph one whose products of weights are of 8 bits, a scale a channel; convolutions and metadata stay."""
    onnx_module, quantization = graphs.require("onnx"), graphs.require("onnxruntime.quantization")
    model = onnx_module.load(path)
    kept = {entry.key: entry.value for entry in model.metadata_props}
    # Shapes that the exporter inferred are of the model before, and stop onnxruntime.
    del model.graph.value_info[:]
    # Those of integers take longer than those of floats, and hold few of an encoder's weights.
    left = [node.name for node in model.graph.node if node.op_type == "Conv"]
    own = {"per_channel": True, "weight_type": quantization.QuantType.QInt8, "nodes_to_exclude": left}
    with graphs.quiet():
        quantization.quantize_dynamic(model, path, **own)
    _set(path, kept)


def _describe(path: Path, model: Exportable, calibration: dict[str, Any], lengths: list[float] | None = None) -> None:
    facts: dict[str, Any] = {"task": TalkingFace.task, "data": to_dict(model.data)}
    facts["media"] = to_dict(model.config.media)
    facts["lengths"] = lengths
    facts[intervals.FIELD] = calibration
    _set(path, {graphs.METADATA: json.dumps(facts)})


def _set(path: Path, facts: dict[str, str]) -> None:
    """Let a file's metadata say `facts`."""
    onnx_module = graphs.require("onnx")
    model = onnx_module.load(path)
    for node in model.graph.node:
        # Where in the source each came from: more than the weights of a small model.
        del node.metadata_props[:]
    onnx_module.helper.set_model_props(model, facts)
    onnx_module.save(model, path)
