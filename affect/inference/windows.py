"""Predicting recordings window by window, and texts: a line each, while a recording is still being read."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from tqdm import tqdm

from affect.data import audio, stream
from affect.data.audio import Samples
from affect.data.excerpts import Excerpt, of_recordings
from affect.errors import AffectError
from affect.inference.lengths import Lengths, Span
from affect.usage import UserInputs

PIPE = Path("-")
"""The name of standard input among the files."""
_LEAST = 0.025
"""Seconds of the shortest recording: what one frame of an encoder hears."""
_SHORTEST = 0.5
"""Seconds under which a last window is left to the one before it."""
_STEP = 0.01
"""Seconds of the shortest hop."""
_LONGEST = 86_400.0
"""Seconds of the longest window: a window is held whole, and no recording is a day long."""
_LONG = 60.0
"""Seconds from which a recording's progress is worth showing."""
_WINDOW, _LARGEST = 30.0, 60.0
"""Seconds of a window where it is not known how long training's recordings were, and at most where it is."""

Line = dict[str, Any]


class Listener(Protocol):
    """What predicts a stretch of sound, a text, or both."""

    hears: bool
    reads: bool
    sampling_rate: int
    """Hz of the samples that it takes."""
    lengths: Span | None
    """Shortest and longest of what it was trained on, in seconds (words where it does not hear), if that is known."""

    def begin(self) -> None:
        """Forget what was said: the next utterance is the first of another recording."""

    def predict(self, wave: Samples | None, text: str | None) -> Line:
        """Return what is to be said of samples [S] and of a text, those that it takes."""


def check(inputs: UserInputs) -> None:
    """Raise AffectError where inputs make no sense for any model."""
    if not inputs.files and not inputs.text:
        raise AffectError("no audio file is given")
    if inputs.window is not None:
        _stretch(inputs.window, inputs.hop)
    if inputs.rate is not None and PIPE not in inputs.files:
        raise AffectError("a rate is for raw samples on standard input: name - among the files")


def lines(model: Listener, inputs: UserInputs, *, progress: bool) -> Iterator[Line]:
    """Yield a line for each window of each file, or for each text where the model only reads.

    A file is read bit by bit, so memory does not grow with it. A file that can't be read gives a line with `error`,
    after those of the windows before the damage (`start` then says where what is missing begins), and the others go
    on; so it is with one under 25 ms and with an empty text. What a table calls a recording is its `id`; of a part that
    it asks for, `start` and `end` are those in the recording. The file "-" is standard input: a wav, or with `rate`
    headerless samples of one channel. A model that hears and reads takes a text a file, of all its windows. A window
    is as long as the longest recording that the model was trained on, where none is given; the first stretch that is
    longer or shorter than all of these is warned of. Raises AffectError where files or texts are not what it takes.
    """
    window, hop = _stretch(*_followed(model, inputs))
    # The end of a recording that is too short to stand alone belongs to the window before it.
    least = max(_SHORTEST, min(model.lengths[0], window / 2)) if model.lengths and model.hears else _SHORTEST
    lengths = Lengths(model.lengths, "s" if model.hears else "words", more=least if model.hears else 0)
    pipe = stream.raw(inputs.rate, inputs.raw) if inputs.rate is not None else None
    if inputs.listed:
        inputs = replace(inputs, files=inputs.files * model.hears, text=inputs.text * model.reads)
    _check_model(model, len(inputs.files), len(inputs.text))
    for number, text in enumerate(() if inputs.files else inputs.text):
        model.begin()
        lengths.see(len(text.split()), text[:40])
        facts = inputs.listed[number].facts if inputs.listed else {}
        yield {**facts, "text": text, **(model.predict(None, text) if text.strip() else {"error": "empty text"})}
    for number, (path, part) in enumerate(zip(inputs.files, of_recordings(inputs.files, inputs.listed), strict=True)):
        text_of = inputs.text[number] if inputs.text else None
        facts = {**({"id": part.id} if part.id else {}), "path": str(path)}
        model.begin()
        begun = {name: time for name, time in part.facts.items() if name != "id"}
        try:
            for line in _of_file(model, path, part, text_of, (window, hop, least), pipe, progress):
                lengths.see(line["end"] - line["start"], str(path))
                yield {**facts, **line}
                begun = {"start": round(line["start"] + hop, 3)}
        except AffectError as error:
            yield {**facts, **begun, "error": str(error)}


def _followed(model: Listener, inputs: UserInputs) -> tuple[float, float | None]:
    """Return a window as long as what the model was trained on, where none is given, and the hop that is given."""
    if inputs.window is not None:
        return inputs.window, inputs.hop
    longest = _WINDOW if model.lengths is None or not model.hears else model.lengths[1]
    return max(_SHORTEST, min(longest, _LARGEST)), inputs.hop


def _stretch(window: float, hop: float | None) -> tuple[float, float]:
    """Return a window and its hop, which is as long where it is not given. Raises AffectError where they make none."""
    hop = window if hop is None else hop
    if not (_SHORTEST <= window <= _LONGEST and _STEP <= hop <= window):
        raise AffectError(
            f"window must be at least {_SHORTEST} s, a day at most, and hop in [{_STEP}, window], not {window:g} and "
            f"{hop:g}"
        )
    return window, hop


def _check_model(model: Listener, files: int, texts: int) -> None:
    """Raise AffectError where the model takes something else than `files` recordings and `texts` texts."""
    if not model.reads and texts:
        raise AffectError("this model reads no text: leave --text out")
    if not model.hears and files:
        raise AffectError("this model reads texts alone: give --text and no files")
    if model.hears and not files:
        raise AffectError("this model hears: no audio file is given")
    if model.reads and model.hears and texts != files:
        raise AffectError(f"this model reads too: give --text with a text for each of the {files} files, not {texts}")


def _of_file(
    model: Listener, path: Path, part: Excerpt, text: str | None, window: tuple[float, float, float],
    pipe: stream.Pipe | None, progress: bool,
) -> Iterator[Line]:  # fmt: skip
    """Yield a line for each window of a part of a file; `window` is its length, the hop and the least rest, in s."""
    if part.fault:
        raise AffectError(f"{path}: {part.fault}")
    if text is not None and not text.strip():
        raise AffectError(f"{path}: empty text")
    rate, length, first = model.sampling_rate, None, 0.0
    name = "standard input" if path == PIPE else str(path)
    with ExitStack() as stack:
        if path == PIPE:
            blocks = stream.pipe_blocks(sys.stdin.buffer, pipe, rate, name)
        elif part.span is not None:
            first = part.span[0]
            blocks = iter([audio.part(path, *part.span, rate)])
        else:
            length, blocks = stack.enter_context(audio.stream(path, rate))
        if progress and part.span is None and (length is None or length >= _LONG):
            blocks = _shown(blocks, rate, length, path.name)
        size, step, least = (round(seconds * rate) for seconds in window)
        for start, wave in stream.windows(blocks, size, step, least):
            check_length(wave, rate, name)
            span = {"start": round(first + start / rate, 3), "end": round(first + (start + len(wave)) / rate, 3)}
            yield {**span, **model.predict(wave, text)}


def check_length(wave: Samples, rate: int, name: str) -> None:
    """Raise AffectError for a recording [S] under a frame of an encoder, which would hear the padding."""
    if len(wave) < _LEAST * rate:
        heard = 1000 * len(wave) / rate
        raise AffectError(f"{name}: too short: {heard:.3g} ms, it has to be at least {1000 * _LEAST:g} ms")


def _shown(blocks: Iterable[Samples], rate: int, length: float | None, name: str) -> Iterator[Samples]:
    total = None if length is None else round(length)
    with tqdm(total=total, unit="s", desc=name, leave=False, file=sys.stderr) as bar:
        seconds = 0.0
        for block in blocks:
            yield block
            seconds += len(block) / rate
            bar.update(int(seconds) - bar.n)
