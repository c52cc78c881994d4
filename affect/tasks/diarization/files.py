"""Recordings in, RTTM out: what `affect diarize` does beside what a model says."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

from affect.data.activity import RATE
from affect.data.noise import FORMATS
from affect.data.rttm import Span, Turn, exclusive, read_uem, write_rttm
from affect.data.stream import pipe_blocks
from affect.errors import AffectError
from affect.inference import opening
from affect.tasks.diarization import predict

_LOG = logging.getLogger("affect")
STANDARD_INPUT = Path("-")


def diarize(
    run: Path, sources: Sequence[Path], output: Path | None, *, most: int | None, alone: bool, uem: Path | None = None
) -> int:
    """Diarize recordings, write their turns as RTTM and return how many could not be read, each of which is logged.

    Raises AffectError where the run has no such model, and for an output that can't be written.
    """
    loaded = predict.load(opening.one_of(run))
    spans = None if uem is None else read_uem(uem)
    bad = 0
    with _opened(output) as stream:
        for path in _recordings(sources):
            if path == STANDARD_INPUT:
                blocks = pipe_blocks(sys.stdin.buffer, None, RATE, "standard input")
                for turn in predict.turns_of(loaded, blocks, most):
                    write_rttm(stream, "stdin", [turn])
                    stream.flush()
                continue
            try:
                turns, seconds, took = predict.diarized(loaded, path, most)
            except AffectError as error:
                _LOG.error("%s", error)
                bad += 1
                continue
            turns = exclusive(turns) if alone else turns
            turns = turns if spans is None else inside(turns, spans.get(path.stem, []))
            write_rttm(stream, path.stem, turns)
            stream.flush()
            speakers = len({turn.speaker for turn in turns})
            _LOG.info("%s: %.1f s, %d turns of %d speakers, %.3f of real time", path, seconds, len(turns), speakers,
                      took / seconds)  # fmt: skip
    return bad


def inside(turns: Sequence[Turn], spans: Sequence[Span]) -> list[Turn]:
    """Return what of turns lies in spans."""
    cut = [Turn(max(turn.start, a), min(turn.end, b), turn.speaker) for turn in turns for a, b in spans]
    return sorted(turn for turn in cut if turn.start < turn.end)


def _recordings(sources: Sequence[Path]) -> Iterator[Path]:
    """Yield files, and those of folders; raises AffectError for a folder that has none."""
    for source in sources:
        if not source.is_dir():
            yield source
            continue
        files = sorted(path for path in source.rglob("*") if path.suffix.lower() in FORMATS and path.is_file())
        if not files:
            raise AffectError(f"{source} holds no recording ({', '.join(sorted(FORMATS))})")
        yield from files


@contextlib.contextmanager
def _opened(output: Path | None) -> Iterator[TextIO]:
    if output is None:
        yield sys.stdout
        return
    try:
        with output.open("w", encoding="utf-8") as file:
            yield file
    except OSError as error:
        raise AffectError(f"{output} can't be written: {error.strerror}") from error
