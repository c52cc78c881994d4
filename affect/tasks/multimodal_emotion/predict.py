"""Predicting utterances from features of audio, text and video, or from media by what made the features.

Legend: N utterances, S streams, D numbers of a feature.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast

import torch
from torch import nn
from tqdm import tqdm

from affect.data.feature_corpus import MODALITIES, Stream
from affect.errors import AffectError
from affect.inference import device
from affect.inference.media import Reader, as_listed
from affect.inference.opening import Opened
from affect.inference.states import watched
from affect.inference.streams import Utterance, Vector, gather
from affect.models.saving import WEIGHTS
from affect.task import Batch, Row, Task
from affect.tasks.multimodal_emotion.measures import EMOTION, VALENCE, rows_of
from affect.tasks.multimodal_emotion.models.fusion import Fusion
from affect.usage import UserInputs

_KEPT = 2 << 30
"""Bytes of weights that stay in memory; of more, each model is read for every batch of utterances."""
_BATCH, _LARGE_BATCH = 64, 4096
_DIGITS = 6

Vectors = dict[int, Vector]
"""Of an utterance: features [D] by the place of each stream that is there."""


def infer(task: type[Task], opened: Opened, inputs: UserInputs, *, progress: bool) -> Iterator[Row]:
    """Yield a line for each utterance; `gather` says what audio, text and video may be.

    Media and words become features by the manifests of the features that the run was trained on, or those below
    `features`. What can't be read, or has nothing at all, gives a line with `error` and the others go on. Raises
    AffectError where what is given does not fit the model, a manifest included.
    """
    models = opened.keep("models", lambda: Models(task, opened.folders))
    for one, made in _each(models, opened, inputs, progress):
        line = {"error": made} if isinstance(made, str) else _line(made, models.data.scale)
        yield {"id": one.name, **one.times, **line}


def embed(task: type[Task], opened: Opened, inputs: UserInputs, *, progress: bool) -> Iterator[Row]:
    """Yield a line for each utterance, with what the model makes of all its modalities together as `embedding` [D]."""
    models = opened.keep("models", lambda: Models(task, opened.folders))
    for one, made in _each(models, opened, inputs, progress, states=True):
        line = {"error": made} if isinstance(made, str) else {"embedding": made["state"]}
        yield {"id": one.name, **one.times, **line}


def _each(
    models: Models, opened: Opened, inputs: UserInputs, progress: bool, *, states: bool = False
) -> Iterator[tuple[Utterance, Row | str]]:
    """Yield each utterance and its row, or why there is none."""
    given = {"audio": inputs.audio, "text": inputs.text, "video": inputs.video}
    if inputs.listed:
        given = {name: values for name, values in given.items() if name in models.data.modalities}
    utterances = gather(models.streams, given)
    if inputs.listed:
        utterances = as_listed(models.streams, utterances, inputs.listed)
    reader = Reader(models.streams, utterances, opened.folders[0], inputs.features, trust=inputs.trust_remote_code)
    with tqdm(total=len(utterances), delay=2, leave=False, disable=not progress) as bar:
        for start in range(0, len(utterances), models.batch):
            vectors: list[Vectors | str] = []
            for utterance in utterances[start : start + models.batch]:
                try:
                    vectors.append(reader.read(utterance))
                except AffectError as error:
                    vectors.append(str(error))
            there = [result for result in vectors if not isinstance(result, str)]
            rows = iter(models.predict(there, states=states))
            for utterance, result in zip(utterances[start:], vectors, strict=False):
                yield utterance, result if isinstance(result, str) else next(rows)
                bar.update()


class Models:
    """The fusion model of a run, or all of an experiment, whose rows are averaged as the task does."""

    def __init__(self, task: type[Task], folders: Sequence[Path]) -> None:
        """Read the weights in the folders, of models of the same features and classes."""
        self.task, self.folders = task, folders
        small = sum((folder / WEIGHTS).stat().st_size for folder in folders) <= _KEPT
        self.batch = _BATCH if small else _LARGE_BATCH
        first = _load(folders[0])
        self.data = first.data
        self.streams = tuple(Stream(*stream) for stream in first.data.streams)
        self._kept: list[Fusion] = [first, *map(_load, folders[1:])] if small else []

    def predict(self, utterances: Sequence[Vectors], *, states: bool = False) -> list[Row]:
        """Return a row for each utterance of N, with `states` and what the first model's heads were given [D]."""
        if not utterances:
            return []
        data = self.data
        inputs = {key: torch.zeros(len(utterances), width) for key, width in zip(data.keys, data.widths, strict=True)}
        present = torch.zeros(len(utterances), len(data.streams))
        for row, vectors in enumerate(utterances):
            for place, vector in vectors.items():
                inputs[data.keys[place]][row] = torch.from_numpy(vector)
                present[row, place] = 1.0
        own = [[modality == wanted for modality in data.modalities] for wanted in MODALITIES]
        modalities = torch.stack([present[:, streams].sum(1) for streams in own], dim=1)
        labels = {EMOTION: None, VALENCE: float("nan")}
        batch = Batch(
            ids=("",) * len(utterances), inputs={}, targets={"present": modalities}, rows=[labels] * len(utterances)
        )
        there = device.of_predictions()
        present, inputs = present.to(there), {key: value.to(there) for key, value in inputs.items()}
        rows = []
        for model in self._kept or map(_load, self.folders):
            with torch.inference_mode(), watched(cast(nn.Module, model.heads)) as passed:
                made = rows_of(model(present, **inputs), batch, data.classes, data.modalities)
            if states:
                made = [{**row, "state": state} for row, state in zip(made, passed[0][0].tolist(), strict=True)]
            rows.append(made)
        return rows[0] if len(rows) == 1 else self.task.average(rows)


def _load(folder: Path) -> Fusion:
    return cast(Fusion, device.load(folder))


def _line(row: Row, scale: tuple[float, float]) -> Row:
    """Return what a reader needs of a row; one of a model without attention has none."""
    line: Row = {"prediction": {**row["prediction"]}}
    if VALENCE in row["prediction"]:
        line["prediction"][VALENCE] = round(row["prediction"][VALENCE], _DIGITS)
        line["scale"] = {VALENCE: [*scale]}
    if EMOTION in row["prediction"]:
        line["probability"] = {EMOTION: _rounded(row["probability"][EMOTION])}
    if "attention" in row:
        line["attention"] = _rounded(row["attention"])
    return {**line, "present": row["present"]}


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, _DIGITS) for name, value in values.items()}
