"""Diarization of a user's recordings, from files or a stream, with constant memory. Legend: S samples at 16 kHz."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affect.config import from_dict
from affect.data import audio
from affect.data.activity import RATE, in_seconds
from affect.data.excerpts import of_recordings
from affect.data.rttm import Turn
from affect.errors import AffectError
from affect.inference import device
from affect.inference.opening import Opened
from affect.models import saving
from affect.task import Row
from affect.tasks.diarization.config import Online
from affect.tasks.diarization.models import Diarizer
from affect.tasks.diarization.online import OnlineDiarizer, decode
from affect.tasks.diarization.stream_features import Samples
from affect.usage import UserInputs

_BLOCK = 1 << 16
"""Samples that are heard at once."""


@dataclass(frozen=True)
class Loaded:
    """A model, and how it diarizes."""

    model: Diarizer
    options: Online


@dataclass(frozen=True, kw_only=True)
class Diarized:
    """What was found in a recording, and what it took."""

    turns: list[Turn]
    speakers: list[str]
    """Who was enrolled, one of whom may have no turn."""
    embeddings: NDArray[np.float32]
    """Of each speaker [K, D], of length 1."""
    seconds: float
    took: float
    """Seconds that it took."""
    delays: list[float]
    """Seconds of sound after each turn's end that had to be heard for it; none where it was decoded again."""


def load(folder: Path, **given: bool | float | None) -> Loaded:
    """Return the model in a folder of weights; what is `given` of `Online` and not None is in place of its recipe's.

    Raises AffectError where it is of another task, and for what can't be.
    """
    config = saving.read_config(folder)
    if config["task"] != "diarization":
        raise AffectError(f"{folder} holds a model of {config['task']}, not of diarization")
    model = device.load(folder)
    assert isinstance(model, Diarizer)
    options = from_dict(Online, config["online"], "online")
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return Loaded(model, replace(options, **changes))


def live(stream: OnlineDiarizer, blocks: Iterable[Samples]) -> Iterator[Turn]:
    """Yield the turns of sound that comes once, in blocks [S], each when it is decided."""
    for block in blocks:
        yield from in_seconds(stream.push(block))
    yield from in_seconds(stream.finish())


def diarized(loaded: Loaded, path: Path, most: int | None = None, span: tuple[float, float] | None = None) -> Diarized:
    """Return what is found in a file, or from start to end of it (s), of `most` speakers at most, in times of the file.

    Raises AffectError for a bad file.
    """
    begun = time.perf_counter()
    first = 0.0 if span is None else span[0]

    def sound() -> Iterator[Samples]:
        if span is not None:
            samples = audio.part(path, *span)
            yield from (samples[place : place + _BLOCK] for place in range(0, len(samples), _BLOCK))
            return
        with audio.stream(path) as (_, blocks):
            yield from blocks

    turns, stream = decode(loaded.model, loaded.options, sound, most)
    moved = [turn._replace(start=first + turn.start, end=first + turn.end) for turn in in_seconds(turns)]
    return Diarized(
        turns=moved, speakers=[str(speaker) for speaker in stream.speakers], embeddings=stream.embeddings(),
        seconds=stream.features.heard / RATE, took=time.perf_counter() - begun,
        delays=[] if loaded.options.offline else stream.delays,
    )  # fmt: skip


def infer(opened: Opened, inputs: UserInputs, *, offline: bool | None = None) -> Iterator[Row]:
    """Yield a line for each of the files, or of the part that a table asks for, with `error` where there is none."""
    if not inputs.files:
        raise AffectError("this model takes FILES: recordings")
    if len(opened.folders) != 1:
        one = f": name one run, such as {opened.folders[0].parents[1]}" if opened.folders else ""
        raise AffectError(f"turns of several models have no mean{one}")
    loaded = opened.keep(f"offline={offline}", lambda: load(opened.folders[0], offline=offline))
    for path, part in zip(inputs.files, of_recordings(inputs.files, inputs.listed), strict=True):
        line: dict[str, Any] = {"path": str(path), **part.facts}
        try:
            if part.fault:
                raise AffectError(f"{path}: {part.fault}")
            result = diarized(loaded, path, span=part.span)
        except AffectError as error:
            yield {**line, "error": str(error)}
            continue
        yield {**line, "seconds": round(result.seconds, 3), "turns": listed(result.turns)}


def listed(turns: Sequence[Turn]) -> list[dict[str, Any]]:
    """Return turns as JSON types, to the millisecond."""
    return [
        {"start": round(turn.start, 3), "end": round(turn.end, 3), "speaker": turn.speaker}
        for turn in turns
    ]  # fmt: skip
