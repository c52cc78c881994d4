"""Predicting clips from their features: scores on their scales with intervals, the mean of several models'.

Legend: T frames, W numbers of a frame.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from affect.config import from_dict
from affect.data.array_file import read_array, read_arrays
from affect.data.corpora import score_folder
from affect.data.endings import FILM
from affect.data.files import readable
from affect.data.pickle_file import is_pickle, refuse
from affect.data.score_corpus import read_schema
from affect.data.score_samples import FEATURES, columns_in
from affect.data.store import Store
from affect.errors import AffectError
from affect.inference import device
from affect.inference.given import TABLES
from affect.inference.lengths import Lengths, Span, common
from affect.inference.opening import Opened
from affect.inference.states import watched
from affect.models import saving
from affect.task import SPREAD, Row
from affect.tasks.talking_face import films, intervals, tabled
from affect.tasks.talking_face.clips import padded
from affect.tasks.talking_face.config import FRAMES, Signature
from affect.tasks.talking_face.corruptions import Clip, Frames
from affect.tasks.talking_face.end_to_end import EndToEndModel
from affect.tasks.talking_face.making import Makers, made, makers_of
from affect.tasks.talking_face.measures import deviations
from affect.tasks.talking_face.media import Media
from affect.tasks.talking_face.model import TalkingFaceModel
from affect.usage import UserInputs

if TYPE_CHECKING:
    from affect.inference.onnx import Session

_DIGITS = 4

Inputs = Mapping[str, torch.Tensor]
"""What a model takes of one clip."""
Scorer = Callable[[Inputs], dict[str, float]]
"""The outputs of one model for one clip."""


def infer(
    opened: Opened, inputs: UserInputs, *, level: float | None = None, generator: str | None = None, **of_tables: Any
) -> Iterator[Row]:
    """Yield a line for each clip: its scores, the scale of each, and an interval where validation rows calibrate it.

    What a clip is, `Reader` says; what it lacks is missing. One that can't be read gives a line with `error`. Raises
    AffectError where no file is given, or a pickle, and for a `level` that intervals can't have. Clips of a `generator`
    have the interval that this one's validation clips calibrate, where these are enough; `of_tables` are the column
    `clip` of their names and the `decimal` sign of tables.
    """
    if pickle := next(filter(is_pickle, inputs.files), None):
        raise refuse(pickle, "predicted from")
    reader, scorers, stored = _models(opened, level)
    which = None if generator is None else {"interval_of": intervals.of_which(stored, generator)}
    data = reader.data
    if not inputs.files:
        raise AffectError(f"this model takes files: {reader.takes}")
    scales = {name: [low, high] for name, low, high in data.scores}
    lengths = Lengths(reader.lengths_of(opened), "frames")
    for name, given in reader.read(inputs.files, **of_tables):
        if isinstance(given, str):
            yield {"id": name, "error": given}
            continue
        lengths.see(reader.frames(given), name)
        each = [score(given) for score in scorers]
        mean = {output: float(np.mean([outputs[output] for outputs in each])) for output in each[0]}
        spread = {score: mean[score + SPREAD] for score in scales if score + SPREAD in mean}
        within = intervals.bounds(stored, mean, spread, generator)
        line: Row = {"id": name, "prediction": {score: round(mean[score], _DIGITS) for score in scales}}
        line |= {"scale": scales, "features": [f for f, _ in data.features if given[f + FRAMES].any()]}
        if len(each) > 1:
            # How far apart the models are: an interval does not know it.
            line["deviation"] = {name: round(deviations(each)[name], _DIGITS) for name in scales}
        if within:
            line["interval"] = {score: [round(value, _DIGITS) for value in pair] for score, pair in within.items()}
            line["level"] = next(iter(stored.values()))["level"]
            line |= which or {}
        yield line


def _models(opened: Opened, level: float | None) -> tuple[Reader, list[Scorer], dict[str, Any]]:
    """Return what reads the models' inputs, what asks each of them, and the stored intervals of their mean."""
    if opened.exported is not None:
        facts = opened.exported.facts
        if lacking := {"data", intervals.FIELD} - {*facts}:
            path = opened.exported.path
            raise AffectError(f"{path}: was written by another version of affect export, without {min(lacking)}")
        data = from_dict(Signature, facts["data"], "data")
        return (
            Reader(data, from_dict(Media, facts.get("media", {}), "media")),
            [partial(score_exported, opened.exported)],
            intervals.at_level(facts[intervals.FIELD], level),
        )
    models, reader = _loaded(opened)
    stored = intervals.of_folders(opened.folders, saving.read_config(opened.folders[0]), level)
    return reader, [partial(score, model) for model in models], stored


def _loaded(opened: Opened) -> tuple[list[TalkingFaceModel], Reader]:
    """Return the models of folders and what reads their inputs, read once."""
    models = opened.keep("models", lambda: [cast(TalkingFaceModel, device.load(folder)) for folder in opened.folders])
    return models, opened.keep("reader", lambda: Reader(models[0].data, models[0].config.media))


def embed(opened: Opened, inputs: UserInputs) -> Iterator[Row]:
    """Yield a line for each clip, with what the model makes of all its features together as `embedding` [D]."""
    (model, *_), reader = _loaded(opened)
    own = cast(TalkingFaceModel, model.fusion) if isinstance(model, EndToEndModel) else model
    for name, given in reader.read(inputs.files):
        if isinstance(given, str):
            yield {"id": name, "error": given}
            continue
        with watched(own.fusion) as passed:
            score(model, given)
        yield {"id": name, "embedding": passed[0][1][0].tolist()}


def files_in(folder: Path) -> list[Path]:
    """Return the clips of a folder, .npz files and videos, else its tables.

    There are none where it is one clip itself or of `affect convert`.
    """
    if score_folder.holds(folder) or next(folder.glob("*.npy"), None):
        return []
    # Tables beside videos tell of their faces.
    return readable(folder, FILM | {".npz"}) or readable(folder, frozenset(TABLES))


class Reader:
    """Inputs of models from the files of clips.

    A clip is a video, where the model itself sees it or `recipes/extract_features.py` made its features: with the CSV
    of its faces (py-feat, OpenFace) beside it, called as the video, these are what is seen. Else it is what `clips_of`
    or `tabled.clips_of` takes.
    """

    def __init__(self, data: Signature, media: Media) -> None:
        """Read the encoders that made the features; raises AffectError where one can't be had."""
        self.data, self._media, self._order = data, media, tabled.Order(data)
        self._makers = makers_of(data)
        self._seen = bool(media.taken)
        kinds = ["videos"] if self._seen or self._makers else []
        kinds += [] if self._seen else ["a clip's features [T, W], .npz, .npy called by them, or a folder of either"]
        kinds += ["tables of the features that tables have"] if data.columns and not self._seen else []
        self.takes = ", or ".join(kinds)

    def lengths_of(self, opened: Opened) -> Span | None:
        """Return the shortest and longest clips of training, in frames, of models that take frames."""
        if self._seen:
            return None
        exported = opened.exported
        facts = [exported.facts] if exported is not None else [saving.read_config(folder) for folder in opened.folders]
        spans = (each.get("lengths") for each in facts)
        return common([None if span is None else (float(span[0]), float(span[1])) for span in spans])

    def frames(self, given: Inputs) -> int:
        """Return the frames of a clip's longest feature."""
        return max(int(given[name + FRAMES]) for name, _ in self.data.features)

    def read(
        self, files: Sequence[Path], *, clip: str | None = None, decimal: str = "."
    ) -> Iterator[tuple[str, Inputs | str]]:
        """Yield the name of each clip and what the model takes of it, or why it can't be read."""
        tables, files = ([], files) if self._seen else tabled.apart(files)
        for name, own in tabled.clips_of(tables, self.data, self._order, clip=clip, decimal=decimal):
            yield name, own if isinstance(own, str) else inputs_of(self.data, own)
        for name, read_clip in self.clips(files):
            try:
                given: Inputs | str = read_clip()
            except AffectError as error:
                given = str(error)
            yield name, given

    def clips(self, files: Sequence[Path]) -> Iterator[tuple[str, Callable[[], Inputs]]]:
        """Yield the name of each clip and what reads it, which raises AffectError where it can't."""
        if self._seen:
            yield from ((file.name, partial(self._film, file)) for file in files)
            return
        for name, read_clip in clips_of(files, self._order, self._makers):
            yield name, partial(self._features, read_clip)

    def _features(self, read_clip: Callable[[], Clip]) -> Inputs:
        return inputs_of(self.data, read_clip())

    def _film(self, file: Path) -> Inputs:
        if not file.is_file():
            raise AffectError(f"{file}: no such file")
        faces = file.with_suffix(".csv")
        own = films.read(file, self._media, faces if faces.is_file() else None, str(file))
        clip = made(file, self._makers) if self._makers else {}
        given = films.inputs_of([own], self._media)
        for name, width in self.data.features:
            if name + FRAMES not in given:
                given |= padded(name, width, [clip.get(name)])
        return given


def score(model: torch.nn.Module, given: Inputs) -> dict[str, float]:
    """Return a model's outputs of a number a clip."""
    with torch.inference_mode():
        outputs = model(**device.moved(model, given))
    return {name: float(value) for name, value in outputs.items() if value.ndim == 1}


def score_exported(session: Session, given: Inputs) -> dict[str, float]:
    """Return an exported model's outputs of a clip."""
    outputs = session.run({name: value.numpy() for name, value in given.items()})
    return {name: float(value[0]) for name, value in outputs.items()}


def inputs_of(data: Signature, clip: Clip) -> dict[str, torch.Tensor]:
    """Return what the model takes of a clip's features."""
    given: dict[str, torch.Tensor] = {}
    for name, width in data.features:
        given |= padded(name, width, [clip.get(name)])
    return given


def clips_of(files: Sequence[Path], order: tabled.Order, makers: Makers) -> Iterator[tuple[str, Callable[[], Clip]]]:
    """Yield the name of each clip and what reads it.

    A clip is a .npz file with frames [T, W] by the names of features; or the .npy files NAME.npy of one folder, which
    is given or whose files are. A folder that `affect convert` wrote has many. Any other file is a video, where
    `makers` make features of it.
    """
    alone: dict[Path, list[Path]] = {}
    for file in files:
        if file.suffix == ".npy" and not file.is_dir():
            alone.setdefault(file.parent, []).append(file)
    for file in files:
        if file.is_dir() and score_folder.holds(file):
            store, columns = Store(file / FEATURES), columns_in(read_schema(file))
            yield from ((id, partial(_stored, store, row, order, columns)) for row, id in enumerate(store.ids))
        elif file.is_dir():
            yield file.name, partial(_arrays, sorted(file.glob("*.npy")), file, order)
        elif file.suffix != ".npy":
            of_video = makers and file.suffix.lower() != ".npz"
            yield file.name, partial(_made, file, makers) if of_video else partial(read, file, order)
        elif own := alone.pop(file.parent, None):
            yield file.absolute().parent.name, partial(_arrays, own, file.parent, order)


def _made(file: Path, makers: Makers) -> Clip:
    if not file.is_file():
        raise AffectError(f"{file}: no such file")
    return made(file, makers)


def read(file: Path, order: tabled.Order) -> Clip:
    """Return the frames [T, W] of the features that a clip's .npz file has.

    Raises AffectError for what is no such file, a feature of another width or with NaN, and for none at all.
    """
    return _checked(read_arrays(file, [name for name, _ in order.data.features]), file, order)


def _arrays(files: Sequence[Path], folder: Path, order: tabled.Order) -> Clip:
    names = {name for name, _ in order.data.features}
    arrays = {file.stem: read_array(file) for file in files if file.stem in names}
    return _checked(arrays, folder, order)


def _stored(store: Store, row: int, order: tabled.Order, columns: Mapping[str, tuple[str, ...]]) -> Clip:
    arrays = {name: store.read(name, row) for name, _ in order.data.features if name in store.features}
    return _checked({name: a for name, a in arrays.items() if a is not None}, store.path.parent, order, columns)


def _checked(
    arrays: Mapping[str, np.ndarray], where: Path, order: tabled.Order,
    columns: Mapping[str, tuple[str, ...]] | None = None,
) -> Clip:  # fmt: skip
    """Return arrays, of these `columns` where they are known, as frames in the order of the model's columns.

    Raises AffectError for another width, values that are not finite, and for none.
    """
    clip: dict[str, Frames] = {}
    data = order.data
    for name, width in data.features:
        if name in arrays:
            frames = np.atleast_2d(arrays[name]).astype(np.float32)
            if frames.ndim == 2:
                frames = order.arranged(name, frames, (columns or {}).get(name, ()), where)
            if frames.ndim != 2 or frames.shape[1] != width:
                # Of the array as it was given.
                shape = list(arrays[name].shape)
                raise AffectError(f"{where}: {name} has the shape {shape}, the model takes [T, {width}] or [{width}]")
            if not np.isfinite(frames).all():
                raise AffectError(f"{where}: {name} holds NaN or infinite values")
            if len(frames):
                clip[name] = frames
    if not clip:
        raise AffectError(f"{where} has none of the features {', '.join(name for name, _ in data.features)}")
    return clip
