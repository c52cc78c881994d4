"""Prediction: a run's best weights on audio files, one JSON object a window."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch

from affect.data import audio, prosody
from affect.errors import AffectError
from affect.models import valence_arousal as models

_LOG = logging.getLogger("affect")
_SHORTEST = 0.5
"""Seconds under which a last window is left to the one before it."""


def predict_files(
    run: Path, files: Sequence[Path], output: TextIO, *, window: float = 30.0, hop: float | None = None
) -> int:
    """Write a JSON line for each window of each file and return the number of files that could not be read.

    A file that can't be read gives a line with `error`, and the others go on. Raises AffectError when the run has no
    weights, no file is given, or the window is not positive.
    """
    if not files:
        raise AffectError("no audio file is given")
    hop = window if hop is None else hop
    if not (window >= _SHORTEST and 0 < hop <= window):
        raise AffectError(f"window must be at least {_SHORTEST} s and hop in (0, window], not {window} and {hop}")
    model = models.load(weights(run)).eval()
    low, high = model.config.scale
    order = list(model.config.targets)
    bad = 0
    for path in files:
        line: dict[str, Any] = {"path": str(path)}
        try:
            wave = audio.load(path, model.sampling_rate)
        except AffectError as error:
            output.write(json.dumps({**line, "error": str(error)}) + "\n")
            bad += 1
            continue
        size, step, least = (round(seconds * model.sampling_rate) for seconds in (window, hop, _SHORTEST))
        for start, stop in windows(len(wave), size, step, least):
            values = _predict(model, wave[start:stop])
            span = {"start": round(start / model.sampling_rate, 3), "end": round(stop / model.sampling_rate, 3)}
            found = {name: round(low + values[name] * (high - low), 4) for name in order}
            output.write(json.dumps({**line, **span, "prediction": found, "order": order, "scale": [low, high]}) + "\n")
        output.flush()
    return bad


def weights(run: Path) -> Path:
    """Return the folder of a run's best weights, or `run` itself where it holds weights.

    Raises AffectError naming the runs there are when it is neither.
    """
    for folder in (run / "checkpoints" / "best", run):
        if (folder / models.WEIGHTS).is_file():
            return folder
    below = sorted(str(path.parents[2]) for path in run.glob("**/checkpoints/best/" + models.WEIGHTS))
    if below:
        raise AffectError(f"{run} holds several runs: name one, such as {below[0]}")
    raise AffectError(f"{run} holds no weights: a run's folder is runs/<experiment>/seed<S>/fold<F>")


def windows(samples: int, size: int, hop: int, least: int) -> list[tuple[int, int]]:
    """Return (start, stop) of windows that cover `samples`; a last one under `least` is left to the one before."""
    if samples <= size + least:
        return [(0, samples)]
    starts = list(range(0, samples - size + hop, hop))
    spans = [(start, min(start + size, samples)) for start in starts]
    if spans[-1][1] - spans[-1][0] < least:
        spans[-2:] = [(spans[-2][0], samples)]
    return spans


def _predict(model: models.VAModel, wave: np.ndarray) -> dict[str, float]:
    inputs: dict[str, torch.Tensor] = {}
    if model.config.uses_audio:
        inputs["waveform"] = torch.from_numpy(wave)[None]
        inputs["samples"] = torch.tensor([len(wave)])
    if model.config.uses_prosody:
        inputs["prosody"] = torch.from_numpy(prosody.compute(wave, model.config.prosody, model.sampling_rate))[None]
    with torch.inference_mode():
        return {name: float(value) for name, value in model(**inputs).items() if name in model.config.targets}
