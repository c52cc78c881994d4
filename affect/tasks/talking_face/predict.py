"""Predicting clips from files of their features: scores on their scales, the mean of several models', with intervals.

An interval is that of split conformal prediction on the validation rows that lie beside a run's weights. Of several
models they are the rows of each: their mean is off by no more than they are. A pushed model has none beside it.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch

from affect import tasks
from affect.errors import AffectError, first_line
from affect.inference.opening import Opened
from affect.metrics.conformal import Intervals, calibrate
from affect.task import VALID, Row, Task
from affect.tasks.talking_face.clips import padded
from affect.tasks.talking_face.config import Signature
from affect.tasks.talking_face.corruptions import Frames
from affect.tasks.talking_face.model import TalkingFaceModel
from affect.usage import UserInputs

_DIGITS = 4
_LEVEL = 0.9


def infer(task: type[Task], opened: Opened, inputs: UserInputs, *, progress: bool) -> Iterator[Row]:
    """Yield a line for each clip: its scores, and the scale of each.

    A clip is a .npz file that holds frames [T, W] by the names of features; what it lacks is missing. A file that can't
    be read gives a line with `error`. Raises AffectError where no file is given.
    """
    if not inputs.files:
        raise AffectError("this model takes files: .npz of a clip's features, frames [T, W] by name")
    models = [cast(TalkingFaceModel, tasks.load(folder)) for folder in opened.folders]
    data = models[0].data
    scales = {name: [low, high] for name, low, high in data.scores}
    intervals = calibrated(opened.folders, data)
    for file in inputs.files:
        try:
            clip = read(file, data)
        except AffectError as error:
            yield {"id": file.name, "error": str(error)}
            continue
        given: dict[str, torch.Tensor] = {}
        for name, width in data.features:
            given |= padded(name, width, [clip.get(name)])
        with torch.inference_mode():
            each = [model(**given) for model in models]
        scores = {name: round(float(torch.stack([o[name] for o in each]).mean()), _DIGITS) for name in scales}
        line = {"id": file.name, "prediction": scores, "scale": scales, "features": sorted(clip)}
        bounds = {name: interval([scores[name]])[0].round(_DIGITS).tolist() for name, interval in intervals.items()}
        yield {**line, "interval": bounds, "level": _LEVEL} if bounds else line


def calibrated(folders: Sequence[Path], data: Signature) -> dict[str, Intervals]:
    """Return the intervals of each score by the validation rows beside the weights; none of a score with too few."""
    rows: list[Row] = []
    for folder in folders:
        path = folder.parent.parent / f"predictions-{VALID}.jsonl"
        if not path.is_file():
            return {}
        rows += map(json.loads, path.read_text(encoding="utf-8").splitlines())
    found = {}
    for name, low, high in data.scores:
        predicted, labels = ([row[side][name] for row in rows] for side in ("prediction", "target"))
        try:
            found[name] = calibrate(predicted, labels, _LEVEL, scale=(low, high))
        except AffectError:
            # Too few rows with a label: an interval would be the whole scale.
            continue
    return found


def read(file: Path, data: Signature) -> dict[str, Frames]:
    """Return the frames [T, W] of the features that a clip's .npz file has.

    Raises AffectError for what is no such file, a feature of another width or with NaN, and for none at all.
    """
    clip: dict[str, Frames] = {}
    try:
        with np.load(file, allow_pickle=False) as arrays:
            for name, width in data.features:
                if name in arrays:
                    frames = np.atleast_2d(arrays[name]).astype(np.float32)
                    if frames.ndim != 2 or frames.shape[1] != width:
                        raise AffectError(f"{file}: {name} is of shape {frames.shape}, the model takes [T, {width}]")
                    if not np.isfinite(frames).all():
                        raise AffectError(f"{file}: {name} holds NaN or infinite values")
                    if len(frames):
                        clip[name] = frames
    except (OSError, ValueError, TypeError, zipfile.BadZipFile) as error:
        raise AffectError(f"{file} is no readable .npz of features ({first_line(error)})") from error
    if not clip:
        raise AffectError(f"{file} has none of the features {', '.join(name for name, _ in data.features)}")
    return clip
