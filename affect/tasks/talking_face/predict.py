"""Predicting clips from their features: scores on their scales with intervals, the mean of several models'.

Legend: T frames, W numbers of a frame.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from affect import tasks
from affect.config import from_dict
from affect.data.corpora import score_folder
from affect.data.pickle_file import SUFFIXES
from affect.data.score_samples import FEATURES
from affect.data.store import Store
from affect.errors import AffectError, first_line
from affect.inference.opening import Opened
from affect.models import saving
from affect.task import Row, Task
from affect.tasks.talking_face import intervals
from affect.tasks.talking_face.clips import padded
from affect.tasks.talking_face.config import SPREAD, Signature
from affect.tasks.talking_face.corruptions import Frames
from affect.usage import UserInputs

if TYPE_CHECKING:
    from affect.inference.onnx import Session

_DIGITS = 4

Clip = Mapping[str, Frames | None]
"""Frames [T, W] by feature; what a clip lacks is None or not there."""
Inputs = Mapping[str, torch.Tensor]
"""What a model takes of one clip."""
Scorer = Callable[[Inputs], dict[str, float]]
"""The outputs of one model for one clip."""


def infer(task: type[Task], opened: Opened, inputs: UserInputs, *, progress: bool) -> Iterator[Row]:
    """Yield a line for each clip: its scores, the scale of each, and an interval where validation rows calibrate it.

    What a clip is, `clips_of` says; what it lacks is missing. One that can't be read gives a line with `error`. Raises
    AffectError where no file is given, or a pickle.
    """
    if not inputs.files:
        raise AffectError("this model takes files of a clip's features: .npz, .npy, or a folder")
    _refuse_pickles(inputs.files)
    data, scorers, stored = _models(opened)
    scales = {name: [low, high] for name, low, high in data.scores}
    for name, read in clips_of(inputs.files, data):
        try:
            clip = read()
        except AffectError as error:
            yield {"id": name, "error": str(error)}
            continue
        given = inputs_of(data, clip)
        each = [score(given) for score in scorers]
        mean = {output: float(np.mean([found[output] for found in each])) for output in each[0]}
        spread = {score: mean[score + SPREAD] for score in scales if score + SPREAD in mean}
        within = intervals.bounds(stored, mean, spread)
        line: Row = {"id": name, "prediction": {score: round(mean[score], _DIGITS) for score in scales}}
        line |= {"scale": scales, "features": sorted(clip)}
        if within:
            line["interval"] = {score: [round(value, _DIGITS) for value in pair] for score, pair in within.items()}
            line["level"] = next(iter(stored.values()))["level"]
        yield line


def _models(opened: Opened) -> tuple[Signature, list[Scorer], dict[str, Any]]:
    """Return what models take, what asks each of them, and the stored intervals of their mean."""
    if opened.exported is not None:
        facts = opened.exported.facts
        data = from_dict(Signature, facts["data"], "data")
        return data, [partial(score_exported, opened.exported)], facts[intervals.FIELD]
    models = [tasks.load(folder) for folder in opened.folders]
    data = cast(Signature, models[0].data)
    stored = intervals.of_folders(opened.folders, saving.read_config(opened.folders[0]))
    return data, [partial(score, model) for model in models], stored


def score(model: torch.nn.Module, given: Inputs) -> dict[str, float]:
    """Return a model's outputs of a number a clip."""
    with torch.inference_mode():
        outputs = model(**given)
    return {name: float(value) for name, value in outputs.items() if value.ndim == 1}


def score_exported(session: Session, given: Inputs) -> dict[str, float]:
    """Return an exported model's outputs of a clip."""
    found = session.run({name: value.numpy() for name, value in given.items()})
    return {name: float(value[0]) for name, value in found.items()}


def inputs_of(data: Signature, clip: Clip) -> dict[str, torch.Tensor]:
    """Return what the model takes of a clip's features."""
    given: dict[str, torch.Tensor] = {}
    for name, width in data.features:
        given |= padded(name, width, [clip.get(name)])
    return given


def _refuse_pickles(files: Sequence[Path]) -> None:
    for file in files:
        if file.suffix in SUFFIXES and not file.is_dir():
            out = file.with_suffix("")
            words = f"convert it once (affect convert {file} {out}) and give {out}"
            raise AffectError(f"{file} is a pickle, which is not predicted from: {words}")


def clips_of(files: Sequence[Path], data: Signature) -> Iterator[tuple[str, Callable[[], Clip]]]:
    """Yield the name of each clip and what reads it.

    A clip is a .npz file with frames [T, W] by the names of features; or the .npy files NAME.npy of one folder, which
    is given or whose files are. A folder that `affect convert` wrote has many; of other files each is a clip.
    """
    alone: dict[Path, list[Path]] = {}
    for file in files:
        if file.suffix == ".npy" and not file.is_dir():
            alone.setdefault(file.parent, []).append(file)
    for file in files:
        if file.is_dir() and score_folder.holds(file):
            store = Store(file / FEATURES)
            yield from ((id, partial(_stored, store, row, data)) for row, id in enumerate(store.ids))
        elif file.is_dir():
            yield file.name, partial(_arrays, sorted(file.glob("*.npy")), file, data)
        elif file.suffix != ".npy":
            yield file.name, partial(read, file, data)
        elif own := alone.pop(file.parent, None):
            yield file.absolute().parent.name, partial(_arrays, own, file.parent, data)


def read(file: Path, data: Signature) -> Clip:
    """Return the frames [T, W] of the features that a clip's .npz file has.

    Raises AffectError for what is no such file, a feature of another width or with NaN, and for none at all.
    """
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return _checked({name: arrays[name] for name, _ in data.features if name in arrays}, file, data)
    except (OSError, ValueError, TypeError, zipfile.BadZipFile) as error:
        raise AffectError(f"{file} is no readable .npz of features ({first_line(error)})") from error


def _arrays(files: Sequence[Path], folder: Path, data: Signature) -> Clip:
    names = {name for name, _ in data.features}
    found = {}
    for file in files:
        try:
            if file.stem in names:
                found[file.stem] = np.load(file, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise AffectError(f"{file} is no readable array ({first_line(error)})") from error
    return _checked(found, folder, data)


def _stored(store: Store, row: int, data: Signature) -> Clip:
    arrays = {name: store.read(name, row) for name, _ in data.features if name in store.features}
    return _checked({name: a for name, a in arrays.items() if a is not None}, store.path.parent, data)


def _checked(arrays: Mapping[str, np.ndarray], where: Path, data: Signature) -> Clip:
    """Return arrays as frames. Raises AffectError for another width, values that are not finite, and for none."""
    clip: dict[str, Frames] = {}
    for name, width in data.features:
        if name in arrays:
            frames = np.atleast_2d(arrays[name]).astype(np.float32)
            if frames.ndim != 2 or frames.shape[1] != width:
                raise AffectError(f"{where}: {name} is of shape {frames.shape}, the model takes [T, {width}]")
            if not np.isfinite(frames).all():
                raise AffectError(f"{where}: {name} holds NaN or infinite values")
            if len(frames):
                clip[name] = frames
    if not clip:
        raise AffectError(f"{where} has none of the features {', '.join(name for name, _ in data.features)}")
    return clip
