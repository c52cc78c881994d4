"""Diarization of a user's recordings, from files or a stream, with constant memory. Legend: S samples at 16 kHz."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from affect import tasks
from affect.config import from_dict
from affect.data import audio
from affect.data.activity import RATE, SampleTurn, in_seconds
from affect.data.rttm import Turn
from affect.errors import AffectError
from affect.inference.opening import Opened
from affect.models import saving
from affect.task import Row
from affect.tasks.diarization.config import Online
from affect.tasks.diarization.models import Diarizer
from affect.tasks.diarization.online import OnlineDiarizer, Samples, diarize_block, tidied
from affect.usage import UserInputs


@dataclass(frozen=True)
class Loaded:
    """A model, and how it diarizes."""

    model: Diarizer
    options: Online


def load(folder: Path) -> Loaded:
    """Return the model in a folder of weights. Raises AffectError where it is of another task."""
    config = saving.read_config(folder)
    if config["task"] != "diarization":
        raise AffectError(f"{folder} holds a model of {config['task']}, not of diarization")
    model = tasks.load(folder)
    assert isinstance(model, Diarizer)
    return Loaded(model, from_dict(Online, config["online"], "online"))


def turns_of(loaded: Loaded, blocks: Iterable[Samples], most: int | None = None) -> Iterator[Turn]:
    """Yield the turns of sound that comes in blocks [S], each when it is decided; `most` bounds the speakers."""
    model, options = loaded.model, loaded.options
    window, waiting = round(options.window * RATE), np.zeros(0, np.float32)
    stream: OnlineDiarizer | None = None
    with torch.inference_mode():
        for block in blocks:
            if stream is None:
                waiting = np.concatenate([waiting, block])
                if len(waiting) <= window:
                    continue
                stream, block = OnlineDiarizer(model, options, model.data.focal, most), waiting
            yield from in_seconds(stream.push(block))
        if stream is not None:
            yield from in_seconds(stream.finish())
        elif len(waiting):
            yield from in_seconds(diarize_block(model, waiting, options, model.data.focal, most))


def diarized(loaded: Loaded, path: Path, most: int | None = None) -> tuple[list[Turn], float, float]:
    """Return the turns of a file, its seconds, and the seconds that it took. Raises AffectError for a bad file."""
    begun, heard = time.perf_counter(), 0

    def counted(blocks: Iterable[Samples]) -> Iterator[Samples]:
        nonlocal heard
        for block in blocks:
            heard += len(block)
            yield block

    with audio.stream(path) as (_, blocks):
        found = list(turns_of(loaded, counted(blocks), most))
    turns = [SampleTurn(round(a * RATE), round(b * RATE), who) for a, b, who in found]
    cut = [turn._replace(end=min(turn.end, heard)) for turn in turns if turn.start < heard]
    return in_seconds(tidied(cut, loaded.options.shortest)), heard / RATE, time.perf_counter() - begun


def infer(opened: Opened, inputs: UserInputs) -> Iterator[Row]:
    """Yield a line for each of the files, with `error` where one can't be read."""
    if not inputs.files:
        raise AffectError("this model takes FILES: recordings")
    if len(opened.folders) != 1:
        raise AffectError("turns of several models have no mean: name one run (seed<S>/fold<F>)")
    loaded = load(opened.folders[0])
    for path in inputs.files:
        line: dict[str, Any] = {"file": str(path)}
        try:
            turns, seconds, _ = diarized(loaded, path)
        except AffectError as error:
            yield {**line, "error": str(error)}
            continue
        yield {**line, "seconds": round(seconds, 3), "turns": listed(turns)}


def listed(turns: Sequence[Turn]) -> list[dict[str, Any]]:
    """Return turns as JSON types, to the millisecond."""
    return [
        {"start": round(turn.start, 3), "end": round(turn.end, 3), "speaker": turn.speaker}
        for turn in turns
    ]  # fmt: skip
