"""Recordings in, RTTM out: what `affect diarize` does beside what a model says."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, TextIO

import numpy as np

from affect.data.activity import RATE
from affect.data.audio import Samples
from affect.data.endings import FILM, SOUND
from affect.data.files import readable, unreadable_name
from affect.data.rttm import Span, Turn, exclusive, joined, read_uem, word, write_rttm
from affect.data.stream import Pipe, pipe_blocks, raw
from affect.errors import AffectError, refuse_overwriting, writing
from affect.inference import opening
from affect.tables import counted
from affect.tasks.diarization import predict
from affect.tasks.diarization.online import OnlineDiarizer
from affect.tasks.diarization.predict import Diarized, Loaded

STANDARD_INPUT = Path("-")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is wanted of recordings."""

    output: Path | None = None
    """Where RTTM is written, the terminal where not given."""
    uem: Path | None = None
    most: int | None = None
    """Speakers at most."""
    alone: bool = False
    """One speaker a moment."""
    offline: bool | None = None
    """Decode again when all is heard; as the model is saved with where not given."""
    start: float | None = None
    """Seconds heard before anything is told; as the model is saved with where not given."""
    plots: Path | None = None
    embeddings: Path | None = None
    rate: int | None = None
    """Hz of raw samples on standard input."""
    raw: str = "s16"

    def check(self, sources: Sequence[Path]) -> None:
        """Raise AffectError for options that do not go with the sources, or with each other."""
        if self.most is not None and self.most < 1:
            raise AffectError(f"--num-speakers must be at least 1, not {self.most}")
        if not sources:
            raise AffectError("name recordings, folders of them or - behind the run (AUDIO)")
        if STANDARD_INPUT not in sources:
            _refuse({"--rate": self.rate, "--raw": self.raw != "s16"}, "is for standard input (-)")
            return
        if len(sources) > 1:
            raise AffectError("standard input (-) is diarized alone, while it comes")
        if self.raw != "s16" and self.rate is None:
            raise AffectError("--raw is for raw samples: give their --rate, too")
        later = {
            "--exclusive": self.alone, "--offline": self.offline, "--uem": self.uem, "--plot": self.plots,
            "--embeddings": self.embeddings,
        }  # fmt: skip
        _refuse(later, "is for files: of standard input each turn is told when it is decided")


def _refuse(options: Mapping[str, object], why: str) -> None:
    for name, given in options.items():
        if given:
            raise AffectError(f"{name} {why}")


@dataclass
class _Voices:
    """The speakers of all recordings, for the file of embeddings."""

    rows: list[tuple[str, str, float]] = field(default_factory=list)
    vectors: list[np.ndarray] = field(default_factory=list)

    def add(self, recording: str, result: Diarized) -> None:
        spoken: defaultdict[str, float] = defaultdict(float)
        for turn in result.turns:
            spoken[turn.speaker] += turn.end - turn.start
        self.rows += [(recording, speaker, spoken[speaker]) for speaker in result.speakers]
        self.vectors += list(result.embeddings)

    def write(self, file: BinaryIO, width: int) -> None:
        recordings, speakers, seconds = ([row[k] for row in self.rows] for k in range(3))
        np.savez(
            file, recordings=np.array(recordings, str), speakers=np.array(speakers, str),
            seconds=np.array(seconds, np.float32), embeddings=np.array(self.vectors, np.float32).reshape(-1, width),
        )  # fmt: skip


def diarize(run: Path, sources: Sequence[Path], wanted: Wanted) -> int:
    """Diarize recordings, write their turns as RTTM and return how many could not be read, each of which is told.

    Raises AffectError where the run has no such model, for recordings of one name, and for what can't be written.
    """
    wanted.check(sources)
    spans = None if wanted.uem is None else read_uem(wanted.uem)
    pipe = None if wanted.rate is None else raw(wanted.rate, wanted.raw)
    recordings = _recordings(sources)
    read = [*recordings, *([] if wanted.uem is None else [wanted.uem])]
    refuse_overwriting({"--output": wanted.output, "--embeddings": wanted.embeddings}, read)
    if spans is not None and not any(word(path.stem) in spans for path in recordings):
        raise AffectError(f"{wanted.uem} names none of the recordings, {recordings[0].stem} for one")
    loaded = predict.load(opening.one_of(run), offline=wanted.offline, start=wanted.start)
    with contextlib.ExitStack() as stack:
        stream = stack.enter_context(_writing(wanted.output))
        if recordings == [STANDARD_INPUT]:
            return _live(loaded, pipe, stream, wanted.most)
        vectors = None if wanted.embeddings is None else stack.enter_context(_binary(wanted.embeddings))
        if wanted.plots is not None:
            with writing(wanted.plots):
                wanted.plots.mkdir(parents=True, exist_ok=True)
        bad, voices = 0, _Voices()
        for path in recordings:
            try:
                result = _one(loaded, path, wanted, spans)
            except AffectError as error:
                _say(f"error: {error}")
                bad += 1
                continue
            if result is not None:
                write_rttm(stream, path.stem, result.turns)
                stream.flush()
                voices.add(word(path.stem), result)
        if vectors is not None:
            voices.write(vectors, loaded.model.config.width)
    return bad


def _one(loaded: Loaded, path: Path, wanted: Wanted, spans: Mapping[str, Sequence[Span]] | None) -> Diarized | None:
    """Return what is found in a file, told in a line and drawn where that is wanted; None where no UEM names it."""
    if unreadable_name(path.stem):
        raise AffectError(f"{path}: name that is no UTF-8, as RTTM is")
    name = word(path.stem)
    if spans is not None and name not in spans:
        _say(f"{path}: passed over, {wanted.uem} does not name {name}")
        return None
    result = predict.diarized(loaded, path, wanted.most)
    turns = result.turns if spans is None else inside(result.turns, spans[name])
    result = replace(result, turns=exclusive(turns) if wanted.alone else turns)
    if wanted.plots is not None:
        from affect import figures
        from affect.tasks.diarization.timelines import timeline

        figures.write(timeline(path.stem, result.turns, result.seconds), wanted.plots)
    speakers = _found({turn.speaker for turn in result.turns}, wanted.most)
    way = "offline" if loaded.options.offline else f"online{_delayed(result.delays)}"
    _say(
        f"{path}: {result.seconds:.1f} s, {len(result.turns)} turns of {speakers}, {way}, "
        f"{result.took / result.seconds:.3f} of real time"
    )
    return result


def _found(speakers: Collection[str], most: int | None) -> str:
    """Return how many speakers have turns, in words, and of how many that were asked for where they are fewer."""
    few = most is not None and len(speakers) < most
    return f"{len(speakers)} of {most} speakers found" if few else counted(len(speakers), "speaker")


def _delayed(delays: Sequence[float]) -> str:
    """Return how long after their ends turns were told, in words."""
    return f", told {np.median(delays):.2f} s after their ends (median, at most {max(delays):.2f} s)" if delays else ""


def _live(loaded: Loaded, pipe: Pipe | None, stream: TextIO, most: int | None) -> int:
    """Write each turn of standard input when it is decided, and return how many could not be read: 0 or 1."""
    blocks = until_interrupted(pipe_blocks(sys.stdin.buffer, pipe, RATE, "standard input"))
    diarizer = OnlineDiarizer(loaded.model, loaded.options, most)
    speakers: set[str] = set()
    try:
        for turn in predict.live(diarizer, blocks):
            speakers.add(turn.speaker)
            write_rttm(stream, "stdin", [turn])
            stream.flush()
    except AffectError as error:
        _say(f"error: {error}")
        return 1
    finally:
        heard, delays = diarizer.features.heard / RATE, diarizer.delays
        if heard:
            _say(
                f"standard input: {heard:.1f} s, {len(delays)} turns of {_found(speakers, most)}, "
                f"online{_delayed(delays)}, {diarizer.took / heard:.3f} of real time"
            )
    return 0


def until_interrupted(blocks: Iterable[Samples]) -> Iterator[Samples]:
    """Yield blocks until there are no more, or ^C, by which who speaks into a microphone ends; a second ^C is one.

    It waits for what is being made of a block, so that the turns up to there can be told.
    """
    waiting = asked = False

    def ask(number: int, frame: object) -> None:
        nonlocal asked
        again, asked = asked, True
        if waiting or again:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, ask)
    try:
        each = iter(blocks)
        while not asked:
            waiting = True
            block = next(each, None)
            waiting = False
            if block is None:
                return
            yield block
    except KeyboardInterrupt:
        if not waiting:
            raise
    finally:
        signal.signal(signal.SIGINT, before)


def inside(turns: Sequence[Turn], spans: Sequence[Span]) -> list[Turn]:
    """Return what of turns lies in spans."""
    cut = [Turn(max(turn.start, a), min(turn.end, b), turn.speaker) for turn in turns for a, b in spans]
    return joined(turn for turn in cut if turn.start < turn.end)


def _recordings(sources: Sequence[Path]) -> list[Path]:
    """Return files, and those of folders; raises AffectError for a folder that has none, and for two of one name."""
    by_name: dict[str, Path] = {}
    for source in sources:
        files = [source]
        if source.is_dir():
            files = readable(source)
            if not files:
                raise AffectError(f"{source} holds no recording ({', '.join(sorted(SOUND | FILM))})")
        for path in files:
            other = by_name.setdefault(word(path.stem), path)
            if other != path:
                raise AffectError(f"{other} and {path} would be one recording in RTTM: give them apart, or rename one")
    return list(by_name.values())


@contextlib.contextmanager
def _writing(output: Path | None) -> Iterator[TextIO]:
    if output is None:
        yield sys.stdout
        return
    with writing(output), output.open("w", encoding="utf-8") as file:
        yield file


@contextlib.contextmanager
def _binary(path: Path) -> Iterator[BinaryIO]:
    with writing(path), path.open("wb") as file:
        yield file


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
