"""Prediction with a fusion model: from features of audio, text and video, or from media by what made the features.

Legend: N utterances, S streams, D numbers of a feature.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import torch
from tqdm import tqdm

from affect.data.feature_corpus import MODALITIES, Stream
from affect.errors import AffectError
from affect.hub import load
from affect.models import multimodal
from affect.models.multimodal.fusion import Fusion
from affect.task import Batch, Row
from affect.tasks.multimodal_emotion import scores
from affect.train import folder as folders
from affect.workflows import multimodal_inputs
from affect.workflows.multimodal_inputs import Utterance, Vector

if TYPE_CHECKING:
    from affect.workflows.multimodal_media import Encoders

_LOG = logging.getLogger("affect")

_BEST = Path("checkpoints", "best")
_KEPT = 2 << 30
"""Bytes of weights that stay in memory; of more, each model is read for every batch of utterances."""
_BATCH, _LARGE_BATCH = 64, 4096
_DIGITS = 6

Vectors = dict[int, Vector]
"""Of an utterance: features [D] by the place of each stream that is there."""


def fuses(run: Path) -> bool:
    """Tell whether `run` holds a fusion model, or is the folder of an experiment or seed whose runs do."""
    found = _weights(run)
    try:
        facts = json.loads((found[0] / multimodal.CONFIG).read_text(encoding="utf-8")) if found else None
    except (OSError, ValueError):
        return False
    return isinstance(facts, dict) and "multimodal" in facts


def predict_utterances(
    run: Path,
    output: TextIO,
    *,
    audio: Sequence[str] = (),
    text: Sequence[str] = (),
    video: Sequence[str] = (),
    features: Path | None = None,
) -> int:
    """Write a JSON line for each utterance and return the number of lines with an error.

    `run` is a run's folder, a folder of weights, or the folder of an experiment or of a seed: raw logits, valences and
    attention are then the means over all its runs. `gather` says what audio, text and video may be; media and words
    become features by the manifests of the features that the run was trained on, or those below `features`. What can't
    be read, or has nothing at all, gives a line with `error` and the others go on. Raises AffectError when there is no
    such model, or what is given does not fit it, a manifest included.
    """
    models = Models(run)
    given = {"audio": audio, "text": text, "video": video}
    utterances = multimodal_inputs.gather(models.streams, given)
    reader = Reader(models.streams, utterances, models.folders[0], features)
    bad = 0
    with tqdm(total=len(utterances), delay=2, leave=False, disable=not sys.stderr.isatty() or output.isatty()) as bar:
        for start in range(0, len(utterances), models.batch):
            for line in _lines(models, reader, utterances[start : start + models.batch]):
                bad += "error" in line
                output.write(json.dumps(line) + "\n")
                bar.update()
            output.flush()
    return bad


class Models:
    """The fusion model of a run, or all of an experiment, whose raw outputs are averaged."""

    def __init__(self, run: Path) -> None:
        """Find and read the weights; raises AffectError where there are none, or models of other features."""
        self.folders = _weights(run)
        if not self.folders:
            raise AffectError(f"{run} holds no weights: name runs/<experiment>, or a seed<S>/fold<F> in it")
        if len(self.folders) > 1:
            _warn(run, self.folders)
        small = sum((folder / multimodal.WEIGHTS).stat().st_size for folder in self.folders) <= _KEPT
        self.batch = _BATCH if small else _LARGE_BATCH
        self._kept: list[Fusion] = []
        first = multimodal.load(self.folders[0])
        self.streams = tuple(Stream(*stream) for stream in first.config.streams)
        self.classes = first.config.classes
        self.keys = first.config.keys
        if small:
            self._kept = [first, *map(self._load, self.folders[1:])]

    def predict(self, names: Sequence[str], found: Sequence[Vectors]) -> list[Row]:
        """Return a row for each utterance of N."""
        inputs = {
            key: torch.zeros(len(found), stream.width) for key, stream in zip(self.keys, self.streams, strict=True)
        }
        present = torch.zeros(len(found), len(self.streams))
        for row, vectors in enumerate(found):
            for place, vector in vectors.items():
                inputs[self.keys[place]][row] = torch.from_numpy(vector)
                present[row, place] = 1.0
        said: dict[str, list[torch.Tensor]] = {}
        for model in self._kept or map(self._load, self.folders):
            with torch.inference_mode():
                outputs = model(present, **inputs)
            for name in (scores.EMOTION, scores.VALENCE, "attention"):
                if name in outputs:
                    said.setdefault(name, []).append(outputs[name])
        own = [[stream.modality == modality for stream in self.streams] for modality in MODALITIES]
        there = torch.stack([present[:, mine].sum(1).clamp(max=1.0) for mine in own], dim=1)
        unknown = {scores.EMOTION: None, scores.VALENCE: float("nan")}
        batch = Batch(ids=tuple(names), inputs={}, targets={"present": there}, rows=[unknown] * len(found))
        mean = {name: torch.stack(values).mean(0) for name, values in said.items()}
        return scores.rows_of(mean, batch, self.classes, [stream.modality for stream in self.streams])

    def _load(self, folder: Path) -> Fusion:
        model = multimodal.load(folder)
        streams = tuple(Stream(*stream) for stream in model.config.streams)
        if (streams, model.config.classes) != (self.streams, self.classes):
            raise AffectError(f"{folder} and {self.folders[0]} are models of other features or classes: name one run")
        return model


class Reader:
    """Features of utterances: read from files, or made by the encoders of the model's features."""

    def __init__(
        self, streams: Sequence[Stream], utterances: Iterable[Utterance], weights: Path, features: Path | None
    ) -> None:
        """Read the encoders that the utterances need; raises AffectError where one can't be had."""
        self.streams = streams
        self.encoders: Encoders | None = None
        raw = {place for one in utterances for place, source in one.sources.items() if source.raw}
        if raw:
            # Loads transformers, which features alone need not wait for.
            from affect.workflows import multimodal_media

            root = multimodal_media.root_of(weights) if features is None else features
            self.encoders = multimodal_media.Encoders(streams, raw, root)

    def read(self, utterance: Utterance) -> Vectors:
        """Return the features that are there; raises AffectError for what can't be read, and where nothing is there."""
        found: Vectors = {}
        for place, source in utterance.sources.items():
            if source.raw and self.encoders is not None:
                vector = self.encoders.vector(place, source)
            else:
                vector = multimodal_inputs.read_vector(source, self.streams[place])
            if vector is not None:
                found[place] = vector
        if not found:
            raise AffectError("nothing of it is there: all that is given is empty or all zero")
        return found


def _lines(models: Models, reader: Reader, utterances: Sequence[Utterance]) -> Iterator[dict[str, Any]]:
    """Yield the line of each utterance, in order."""
    found: dict[int, Vectors] = {}
    errors: dict[int, str] = {}
    for number, utterance in enumerate(utterances):
        try:
            found[number] = reader.read(utterance)
        except AffectError as error:
            errors[number] = str(error)
    rows = models.predict([utterances[number].name for number in found], list(found.values())) if found else []
    made = dict(zip(found, rows, strict=True))
    for number, utterance in enumerate(utterances):
        yield _line(made[number]) if number in made else {"id": utterance.name, "error": errors[number]}


def _line(row: Row) -> dict[str, Any]:
    """Return what a reader needs of a row; one of a model without attention has none."""
    prediction = {**row["prediction"], scores.VALENCE: round(row["prediction"][scores.VALENCE], _DIGITS)}
    line = {"id": row["id"], "prediction": prediction}
    line["probability"] = {scores.EMOTION: _rounded(row["probability"][scores.EMOTION])}
    if "attention" in row:
        line["attention"] = _rounded(row["attention"])
    return {**line, "present": row["present"]}


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, _DIGITS) for name, value in values.items()}


def _weights(run: Path) -> list[Path]:
    """Return the folders of weights: that of a run or `run` itself, else those of all runs of a seed or experiment."""
    run = load.folder_of(run)
    for folder in (run / _BEST, run):
        if (folder / multimodal.WEIGHTS).is_file():
            return [folder]
    for pattern in ("fold*", "seed*/fold*"):
        found = sorted(path.parent for path in run.glob(str(pattern / _BEST / multimodal.WEIGHTS)))
        if found:
            return found
    return []


def _warn(run: Path, found: Sequence[Path]) -> None:
    """Log the runs of an experiment that have not come to their end: their weights are the best so far."""
    open_ = [path.parents[1] for path in found if not folders.finished(path.parents[1])]
    if open_:
        _LOG.warning(
            "%s: %d of %d runs have not come to their end (%s ...): their best weights so far count as well",
            run, len(open_), len(found), open_[0],
        )  # fmt: skip
