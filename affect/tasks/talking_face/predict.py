"""Predicting clips from files of their features: scores on their scales, the mean of several models', with intervals.

An interval is that of split conformal prediction on the validation rows that lie beside a run's weights. Of several
models they are the rows of each: their mean is off by no more than they are. A pushed model has none beside it.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch

from affect import recipe as recipes
from affect import tasks
from affect.errors import AffectError, first_line
from affect.inference.opening import Opened
from affect.metrics.conformal import Intervals, calibrate
from affect.task import VALID, Row, Task
from affect.tasks.talking_face import films
from affect.tasks.talking_face.clips import padded
from affect.tasks.talking_face.config import FRAMES, Signature
from affect.tasks.talking_face.corruptions import Frames
from affect.tasks.talking_face.end_to_end import EndToEndModel
from affect.tasks.talking_face.making import made, makers_of
from affect.tasks.talking_face.model import TalkingFaceModel
from affect.usage import UserInputs

_DIGITS = 4
_LEVEL = 0.9


def infer(task: type[Task], opened: Opened, inputs: UserInputs, *, progress: bool) -> Iterator[Row]:
    """Yield a line for each clip: its scores, and the scale of each.

    A clip is a video, where the model itself sees it or `recipes/extract_features.py` made its features, or a .npz file
    that holds frames [T, W] by the names of features; what it lacks is missing. With the CSV of its faces (py-feat,
    OpenFace) beside it, called as the video, these are what is seen. A file that can't be read gives a line with
    `error`. Raises AffectError where no file is given.
    """
    models = [cast(TalkingFaceModel, tasks.load(folder)) for folder in opened.folders]
    data, reader = models[0].data, Reader(models[0])
    if not inputs.files:
        raise AffectError(f"this model takes files: {reader.takes}")
    scales = {name: [low, high] for name, low, high in data.scores}
    intervals = calibrated(opened.folders, data)
    for file in inputs.files:
        try:
            given, there = reader.read(file)
        except AffectError as error:
            yield {"id": file.name, "error": str(error)}
            continue
        with torch.inference_mode():
            each = [model(**given) for model in models]
        scores = {name: round(float(torch.stack([o[name] for o in each]).mean()), _DIGITS) for name in scales}
        line = {"id": file.name, "prediction": scores, "scale": scales, "features": there}
        bounds = {name: interval([scores[name]])[0].round(_DIGITS).tolist() for name, interval in intervals.items()}
        yield {**line, "interval": bounds, "level": _LEVEL} if bounds else line


class Reader:
    """Inputs of a model from the files of clips."""

    def __init__(self, model: TalkingFaceModel | EndToEndModel) -> None:
        """Read the encoders that made its features; raises AffectError where one can't be had."""
        self._data, self._media = model.data, model.config.media
        self._makers = makers_of(model.data)
        self.seen = bool(self._media.taken)
        """Whether the model itself takes videos."""
        features = [name for name, _ in self._data.features if name not in self._media.taken]
        kinds = ["videos"] if self.seen or self._makers else []
        kinds += [".npz of a clip's features, frames [T, W] by name"] if features and not self.seen else []
        self.takes = ", or ".join(kinds)

    def read(self, file: Path) -> tuple[dict[str, torch.Tensor], list[str]]:
        """Return a clip as the model takes it, and the features that it has; raises AffectError."""
        if not file.is_file():
            raise AffectError(f"{file}: no such file")
        given: dict[str, torch.Tensor] = {}
        clip: Mapping[str, Frames] = {}
        if self.seen:
            faces = file.with_suffix(".csv")
            own = films.read(file, self._media, faces if faces.is_file() else None, str(file))
            given |= films.inputs_of([own], self._media)
        if self.seen:
            clip = made(file, self._makers) if self._makers else {}
        elif self._makers and file.suffix.lower() != ".npz":
            clip = made(file, self._makers)
        else:
            clip = read(file, self._data)
        for name, width in self._data.features:
            if name + FRAMES not in given:
                given |= padded(name, width, [clip.get(name)])
        return given, [name for name, _ in self._data.features if given[name + FRAMES].any()]


def calibrated(folders: Sequence[Path], data: Signature) -> dict[str, Intervals]:
    """Return the intervals of each score by the validation rows beside the weights; none of a score with too few."""
    rows: list[Row] = []
    for folder in folders:
        run = folder.parent.parent
        path, recipe = run / f"predictions-{VALID}.jsonl", run / "recipe.json"
        # What was trained on has too small errors.
        if not path.is_file() or recipes.read(recipe)["data"].get("train_all"):
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
