"""Prediction: a run's best weights, or an exported model, on audio files; one JSON object a window."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from tqdm import tqdm

from affect.data import audio, stream
from affect.data.audio import Samples
from affect.errors import AffectError
from affect.workflows.predictor import Facts, Predictor, open_predictor

PIPE = Path("-")
"""The name of standard input among the files."""
_LEAST = 0.025
"""Seconds of the shortest recording: what one frame of an encoder hears. Of less, a model would judge the padding."""
_SHORTEST = 0.5
"""Seconds under which a last window is left to the one before it."""
_LONG = 60.0
"""Seconds from which a recording's progress is worth showing."""


def predict_files(
    run: Path,
    files: Sequence[Path],
    output: TextIO,
    *,
    window: float = 30.0,
    hop: float | None = None,
    rate: int | None = None,
    raw: str = "s16",
    texts: Sequence[str] = (),
    stdin: BinaryIO | None = None,
) -> int:
    """Write a JSON line for each window of each file and return the number of lines with an error.

    `run` is a run's folder, a folder of weights, an exported model or its folder. A file is read bit by bit and each
    window's line written while that goes on, so memory does not grow with the file. A file that can't be read gives
    a line with `error`, after those of the windows before the damage (`start` then says where what is missing
    begins), and the others go on; so it is with one under 25 ms and with an empty text. A file named "-" is `stdin`:
    a wav, or with `rate` in Hz headerless samples of one channel, `raw` "s16" or "f32". A model that reads takes
    `texts`, one a file (of all its windows), or texts alone. Raises AffectError when the run has no weights, the
    files or texts are not what its model takes, or the window is not positive.
    """
    if not files and not texts:
        raise AffectError("no audio file is given")
    hop = window if hop is None else hop
    if not (window >= _SHORTEST and 0 < hop <= window):
        raise AffectError(f"window must be at least {_SHORTEST} s and hop in (0, window], not {window} and {hop}")
    if rate is not None and PIPE not in files:
        raise AffectError("a rate is for raw samples on standard input: name - among the files")
    pipe = stream.raw(rate, raw) if rate is not None else None
    model = open_predictor(run)
    _check(model.facts, len(files), len(texts))
    bad = 0 if files else _read(model, texts, output)
    for number, path in enumerate(files):
        said = texts[number] if texts else None
        name = "standard input" if path == PIPE else str(path)
        model.begin()
        with ExitStack() as stack:
            done = 0.0
            try:
                if said is not None and not said.strip():
                    raise AffectError(f"{path}: empty text")
                if path == PIPE:
                    source = sys.stdin.buffer if stdin is None else stdin
                    blocks = stream.pipe_blocks(source, pipe, model.facts.sampling_rate, name)
                    length = None
                else:
                    length, blocks = stack.enter_context(audio.stream(path, model.facts.sampling_rate))
                blocks = _shown(blocks, model.facts.sampling_rate, length, path, output)
                for line in _lines(model, blocks, said, window, hop, name):
                    output.write(json.dumps({"path": str(path), **line}) + "\n")
                    output.flush()
                    done = line["start"] + hop
            except AffectError as error:
                place = {"start": round(done, 3)} if done else {}
                output.write(json.dumps({"path": str(path), **place, "error": str(error)}) + "\n")
                output.flush()
                bad += 1
    return bad


def _read(model: Predictor, texts: Sequence[str], output: TextIO) -> int:
    """Write a line for each of `texts`, which are all that the model takes, and return how many were empty."""
    empty = 0
    for text in texts:
        model.begin()
        told = _told(model, None, text) if text.strip() else {"error": "empty text"}
        empty += "error" in told
        output.write(json.dumps({"text": text, **told}) + "\n")
    return empty


def _check(facts: Facts, files: int, texts: int) -> None:
    """Raise AffectError where the model takes something else than `files` recordings and `texts` texts."""
    hears = facts.audio or facts.prosody is not None
    if not facts.text and texts:
        raise AffectError("this model reads no text: leave --text out")
    if not hears and files:
        raise AffectError("this model reads texts alone: give --text and no files")
    if hears and not files:
        raise AffectError("this model hears: no audio file is given")
    if facts.text and hears and texts != files:
        raise AffectError(f"this model reads too: give --text with a text for each of the {files} files, not {texts}")


def _told(model: Predictor, wave: Samples | None, text: str | None) -> dict[str, Any]:
    """Return a line's prediction, the order of its targets and the scale of those that are numbers."""
    facts = model.facts
    scale = {"scale": list(facts.scale)} if facts.numbers else {}
    return {**model.predict(wave, text).to_line(), "order": list(facts.targets), **scale}


def _lines(
    model: Predictor, blocks: Iterable[Samples], text: str | None, window: float, hop: float, name: str
) -> Iterator[dict[str, Any]]:
    rate = model.facts.sampling_rate
    size, step, least = (round(seconds * rate) for seconds in (window, hop, _SHORTEST))
    for start, wave in stream.windows(blocks, size, step, least):
        if len(wave) < _LEAST * rate:
            raise AffectError(f"{name}: too short: {1000 * len(wave) / rate:.3g} ms, it has to be at least 25 ms")
        span = {"start": round(start / rate, 3), "end": round((start + len(wave)) / rate, 3)}
        yield {**span, **_told(model, wave, text)}


def _shown(blocks: Iterable[Samples], rate: int, length: float | None, path: Path, output: TextIO) -> Iterator[Samples]:
    """Yield the blocks and show how far they are, on a terminal that does not show the lines themselves."""
    silent = not sys.stderr.isatty() or output.isatty() or (length is not None and length < _LONG)
    total = None if length is None else round(length)
    with tqdm(total=total, unit="s", desc=path.name, disable=silent, leave=False, file=sys.stderr) as bar:
        seconds = 0.0
        for block in blocks:
            yield block
            seconds += len(block) / rate
            bar.update(int(seconds) - bar.n)
