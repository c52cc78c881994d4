"""Block-wise diarization of a stream: who speaks is told a hop at a time, from a window with a little look-ahead.

Speakers get numbers as they are heard. Of each a memory holds the surest frames that were theirs alone, of which the
embedding is made that asks for them in the next window. The pseudo-speaker's slot finds those whom nobody knows yet:
its frames are pending until there are enough of them to enrol somebody, who then gets them.

Legend: S samples at 16 kHz, T frames of a window, K speakers, D channels, M mel bins.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from affect.data.activity import RATE, SampleTurn
from affect.tasks.diarization.config import NON_SPEAKER, PSEUDO, Online
from affect.tasks.diarization.losses import calibrated
from affect.tasks.diarization.models import Diarizer
from affect.tasks.diarization.models.extractor import MelExtractor

Samples = NDArray[np.float32]
Active = NDArray[np.bool_]
"""Who speaks in each frame [K, T]."""

_CONTEXT = {"convolution": 0.32, "resnet": 2.0}
"""Seconds before a hop that its features are computed with; other extractors see the whole window anew."""
_RECENT = 1e-3
"""What a frame's rank in a memory gains a frame: of two as sure the later one stays."""


class FrameMemory:
    """Of each speaker the surest frames that were theirs alone, and the embeddings that are made of them."""

    def __init__(self, model: Diarizer, most: int):
        self.model, self.most = model, most
        self.frames: list[Tensor] = []
        self.scores: list[Tensor] = []

    def __len__(self) -> int:
        return len(self.frames)

    def enrol(self) -> int:
        """Return the number of a new speaker, of whom nothing is known yet."""
        device = next(self.model.parameters()).device
        self.frames.append(torch.zeros(0, self.model.config.width, device=device))
        self.scores.append(torch.zeros(0, device=device))
        return len(self) - 1

    def add(self, speaker: int, features: Tensor, activity: Tensor, others: Tensor, at: int) -> None:
        """Take in frames [T, D] from frame `at` of the stream on, a speaker's `activity` and the `others`' [K, T]."""
        own = activity.clamp(1e-4, 1 - 1e-4)
        score = own.logit() + (1 - others.clamp(0, 1 - 1e-4)).log().sum(0)
        score = score + _RECENT * (at + torch.arange(len(score), device=score.device))
        clean = (activity > 0.5) & (others <= 0.5).all(0)
        frames = torch.cat([self.frames[speaker], features[clean].float()])
        scores = torch.cat([self.scores[speaker], score[clean]])
        best = scores.argsort(descending=True)[: self.most]
        self.frames[speaker], self.scores[speaker] = frames[best], scores[best]

    def merge(self, speaker: int, into: int) -> None:
        """Give a speaker's frames to another one; the numbers behind move up."""
        frames = torch.cat([self.frames[into], self.frames.pop(speaker)])
        scores = torch.cat([self.scores[into], self.scores.pop(speaker)])
        into -= into > speaker
        best = scores.argsort(descending=True)[: self.most]
        self.frames[into], self.scores[into] = frames[best], scores[best]

    def embeddings(self) -> Tensor:
        """Return the embeddings of all [K, D]."""
        if not self.frames:
            return torch.zeros(0, self.model.config.width, device=next(self.model.parameters()).device)
        counts = torch.tensor([max(1, len(frames)) for frames in self.frames])
        whose = torch.repeat_interleave(torch.arange(len(self)), counts).to(self.frames[0].device)
        empty = self.frames[0].new_zeros(1, self.model.config.width)
        features = torch.cat([frames if len(frames) else empty for frames in self.frames])
        activity = F.one_hot(whose, len(self)).T.float()
        mask = torch.ones(1, len(features), dtype=torch.bool, device=features.device)
        return self.model.represent(features[None], mask, activity[None])[0]


class MeanMemory:
    """Of each speaker the mean of the embeddings of their windows, by how long they spoke there: the report's way."""

    def __init__(self, model: Diarizer):
        self.model = model
        self.sums: list[Tensor] = []

    def __len__(self) -> int:
        return len(self.sums)

    def enrol(self) -> int:
        """Return the number of a new speaker, of whom nothing is known yet."""
        self.sums.append(torch.zeros(self.model.config.width, device=next(self.model.parameters()).device))
        return len(self) - 1

    def add(self, speaker: int, features: Tensor, activity: Tensor, others: Tensor, at: int) -> None:
        """Take in the window's features [T, D] and the speaker's activity [T] there."""
        clean = (activity > 0.5) & (others <= 0.5).all(0)
        if clean.any():
            padded, mask = padded_to(self.model, features)
            query = F.pad(clean.float(), (0, padded.shape[1] - len(clean)))
            self.sums[speaker] = (
                self.sums[speaker] + clean.sum() * self.model.represent(padded, mask, query[None, None])[0, 0]
            )

    def merge(self, speaker: int, into: int) -> None:
        """Give a speaker's embeddings to another one; the numbers behind move up."""
        vector = self.sums.pop(speaker)
        into -= into > speaker
        self.sums[into] = self.sums[into] + vector

    def embeddings(self) -> Tensor:
        """Return the embeddings of all [K, D]."""
        if not self.sums:
            return torch.zeros(0, self.model.config.width, device=next(self.model.parameters()).device)
        return F.normalize(torch.stack(self.sums), dim=-1)


def memory_of(model: Diarizer, options: Online) -> FrameMemory | MeanMemory:
    """Return an empty memory of the kind that a model's embeddings come from."""
    if model.config.name == "ours":
        return FrameMemory(model, round(options.memory * model.config.frames_per_second))
    return MeanMemory(model)


def padded_to(model: Diarizer, features: Tensor) -> tuple[Tensor, Tensor]:
    """Return features [1, T, D] as long as a model wants them, and their mask [1, T]."""
    size = max(model.data.frames, len(features))
    mask = torch.arange(size, device=features.device) < len(features)
    return F.pad(features, (0, 0, 0, size - len(features)))[None], mask[None]


class Window:
    """What a model says of a window's features [T, D]: encoded once, asked for as many speakers as there are."""

    def __init__(self, model: Diarizer, features: Tensor, focal: Sequence[float]):
        self.model, self.features, self.focal = model, features, tuple(focal)
        self.padded, self.mask = padded_to(model, features)
        self.encoded = model.encode(self.padded, self.mask)

    def activity(self, embeddings: Tensor, *, pseudo: bool = True) -> Tensor:
        """Return probabilities [1 + K, T] of the pseudo-speaker, first, and of speakers with `embeddings` [K, D]."""
        config = self.model.config
        slots = [*([PSEUDO] if pseudo else []), *range(len(embeddings))]
        # The report's models know the slots that they have, and no others.
        least = 0 if config.name == "ours" else config.slots
        filler = PSEUDO if config.padding == "pseudo" else NON_SPEAKER
        asked = torch.tensor([[*slots, *([filler] * (least - len(slots)))]], device=self.features.device)
        logits = self.model.detect(self.encoded, self.mask, asked, embeddings[None])
        return calibrated(logits, self.focal).sigmoid()[0, : len(slots), : len(self.features)]


@dataclass(frozen=True)
class Newcomer:
    """Who was found in a window: the number, and whether nobody had it before."""

    speaker: int
    new: bool


def discover(
    window: Window, memory: FrameMemory | MeanMemory, options: Online, *, least: int, at: int, most: int | None = None
) -> Iterator[Newcomer]:
    """Enrol, one after another, those whom the pseudo-speaker's slot finds for `least` frames that nobody else has.

    One whose embedding is like an enrolled speaker's is that one, and the frames go to their memory. `at` is the
    window's first frame in the stream; `most` bounds the number of speakers.
    """
    for _ in range(options.rounds):
        embeddings = memory.embeddings()
        if window.model.config.name != "ours" and len(memory) + 1 >= window.model.config.slots:
            return
        shares = window.activity(embeddings)
        own = (shares[0] > options.threshold) & (shares[1:] <= options.threshold).all(0)
        if int(own.sum()) < least:
            return
        found = memory_of(window.model, options)
        found.add(found.enrol(), window.features, own.float() * shares[0], shares[1:], at)
        vector = found.embeddings()[0]
        likeness = embeddings @ vector
        known = len(memory) > 0 and (float(likeness.max()) > options.merge or len(memory) == most)
        speaker = int(likeness.argmax()) if known else memory.enrol()
        memory.add(speaker, window.features, own.float() * shares[0], shares[1:], at)
        yield Newcomer(speaker, not known)


class OnlineDiarizer:
    """Diarizes a stream: `push` samples as they come, `finish` at the end; both yield turns that are decided.

    A turn is yielded once it has ended and nothing before its end is pending. Speakers are numbers, as `names` says.
    """

    def __init__(self, model: Diarizer, options: Online, focal: Sequence[float] = (), most: int | None = None):
        self.model, self.options, self.focal, self.most = model, options, focal, most
        frame = model.config.frame
        self.hop, self.ahead, self.size = (
            round(seconds * RATE / frame) for seconds in (options.hop, options.ahead, options.window)
        )
        self.memory = memory_of(model, options)
        context = _CONTEXT.get(model.config.extractor, options.window)
        self.context = -(-round(context * RATE) // frame)
        self.sound: Samples = np.zeros(0, np.float32)
        self.first = 0
        """The frame of the stream at which `sound` begins."""
        self.heard = 0
        """Frames of which features are there."""
        self.features = torch.zeros(0, model.config.width, device=next(model.parameters()).device)
        self.active: Active = np.zeros((0, 0), bool)
        self.pending: NDArray[np.bool_] = np.zeros(0, bool)
        """Of each frame that is not final: whether the pseudo-speaker alone spoke."""
        self.final = 0
        self.open: dict[int, int] = {}
        """Where each speaker's turn that has not ended began, in frames."""
        self.levels: tuple[Tensor, int] | None = None

    def push(self, samples: Samples) -> Iterator[SampleTurn]:
        """Take in samples [S] and yield turns that are decided, in samples of the stream."""
        self.sound = np.concatenate([self.sound, samples.astype(np.float32, copy=False)])
        frame = self.model.config.frame
        while len(self.sound) >= (self.heard - self.first + self.hop + self.ahead) * frame:
            self._take(self.hop, self.ahead, last=False)
            yield from self._decided(self._settled())

    def finish(self) -> Iterator[SampleTurn]:
        """Yield the turns that are left when no sample will come."""
        frame = self.model.config.frame
        left = len(self.sound) - (self.heard - self.first) * frame
        if left > 0:
            self._take(-(-left // frame), 0, last=True)
        elif self.heard:
            self._see(self.features, 0, last=True)
        yield from self._decided(self.heard)
        for speaker, start in sorted(self.open.items()):
            yield self._turn(speaker, start, self.heard)
        self.open = {}

    def _take(self, count: int, ahead: int, *, last: bool) -> None:
        """Take in `count` frames, seen with `ahead` more, and decide who speaks in them."""
        frame = self.model.config.frame
        begin = max(self.first, self.heard - self.context)
        piece = self.sound[(begin - self.first) * frame : (self.heard + count + ahead - self.first) * frame]
        made = self._featured(piece, (self.heard - begin) * frame)[self.heard - begin :]
        self.heard += count
        fresh, beyond = made[:count], made[count:]
        if self.context >= self.size:
            # Features of the whole window anew: each depends on all of it.
            whole = self._featured(piece, 0)
            self.features = whole[: len(whole) - len(beyond)][-self.size :]
        else:
            self.features = torch.cat([self.features, fresh])[-self.size :]
        self._see(torch.cat([self.features, beyond])[-self.size :], count, last=last)
        keep = max(self.first, self.heard - self.context)
        self.sound, self.first = self.sound[(keep - self.first) * frame :], keep

    def _featured(self, piece: Samples, fresh: int) -> Tensor:
        """Return the features [T, D] of samples, of which those from `fresh` on were not heard before."""
        device = next(self.model.parameters()).device
        waveform, samples = torch.from_numpy(piece)[None].to(device), torch.tensor([len(piece)], device=device)
        extractor, mean = self.model.extractor, None
        if isinstance(extractor, MelExtractor):
            if fresh < len(piece):
                levels, steps = extractor.mel.levels(waveform[:, fresh:], samples - fresh)
                total, count = self.levels or (torch.zeros_like(levels[0, 0]), 0)
                self.levels = (total + levels[0].sum(0), count + int(steps[0]))
            assert self.levels is not None
            mean = (self.levels[0] / self.levels[1])[None]
        features: Tensor = extractor(waveform, samples, mean)[0][0]
        return features

    def _see(self, features: Tensor, count: int, *, last: bool) -> None:
        """Decide who speaks in the last `count` heard frames, and in pending ones where somebody is enrolled."""
        options = self.options
        window = Window(self.model, features, self.focal)
        beyond = len(features) - min(len(features), self.size) + (self.ahead if count and not last else 0)
        start = self.heard + beyond - len(features)
        per_second = self.model.config.frames_per_second
        least = round((options.least if last else options.enrol) * per_second)
        met = [each.speaker for each in discover(window, self.memory, options, least=least, at=start, most=self.most)]
        shares = window.activity(self.memory.embeddings())
        held = (shares > options.threshold).cpu().numpy()[:, : self.heard - start]
        self._grow(count)
        first = self.heard - count
        new = held[1:, first - start :]
        self.active[:, first - self.final :] = new
        self.pending[first - self.final :] = held[0, first - start :] & ~new.any(0)
        self._give_pending(held, start, met)
        if count:
            self._remember(window, shares, first - start, count, start)
        if last:
            self._leave_pending(window, shares, start, self.heard)
        else:
            # What leaves the window can't be enrolled any more.
            self._leave_pending(window, shares, start, self.heard - self.size + self.hop)

    def _grow(self, count: int) -> None:
        """Make room for new frames and speakers."""
        rows, columns = len(self.memory), self.heard - self.final
        grown = np.zeros((rows, columns), bool)
        grown[: len(self.active), : self.active.shape[1]] = self.active
        self.active = grown
        self.pending = np.concatenate([self.pending, np.zeros(count, bool)])

    def _give_pending(self, held: Active, start: int, speakers: Sequence[int]) -> None:
        """Give pending frames to those who were found just now, where they speak."""
        for speaker in speakers:
            begin = max(start, self.final)
            theirs = held[1 + speaker, begin - start :] & self.pending[begin - self.final :]
            self.active[speaker, begin - self.final :] |= theirs
            self.pending[begin - self.final :] &= ~theirs

    def _remember(self, window: Window, shares: Tensor, first: int, count: int, start: int) -> None:
        """Put the newest frames into the memories of those who speak in them."""
        part = slice(first, first + count)
        for speaker in range(len(self.memory)):
            others = torch.cat([shares[: 1 + speaker], shares[2 + speaker :]])
            if isinstance(self.memory, FrameMemory):
                self.memory.add(
                    speaker, window.features[part], shares[1 + speaker, part], others[:, part], start + first
                )
            else:
                self.memory.add(speaker, window.features, shares[1 + speaker], others, start)

    def _leave_pending(self, window: Window, shares: Tensor, start: int, end: int) -> None:
        """Give what is pending before frame `end` to who is most like it: as good a guess as leaving it out."""
        count = end - self.final
        if count <= 0 or not self.pending[:count].any():
            return
        if len(self.memory):
            begin = max(start, self.final)
            whose = torch.zeros(len(window.features), device=shares.device)
            asked = torch.from_numpy(self.pending[begin - self.final : count]).to(shares.device)
            whose[begin - start : end - start] = asked.float()
            likely = int((shares[1:] * whose).sum(1).argmax())
            self.active[likely, :count] |= self.pending[:count]
        self.pending[:count] = False

    def _settled(self) -> int:
        """Return the frame before which nothing will change."""
        waiting = np.flatnonzero(self.pending)
        return self.final + int(waiting[0]) if len(waiting) else self.heard

    def _decided(self, end: int) -> Iterator[SampleTurn]:
        """Yield the turns that end before frame `end`, which is final from now on."""
        part, start = self.active[:, : end - self.final], self.final
        turns = []
        for speaker, row in enumerate(part):
            edges = np.flatnonzero(np.diff(np.concatenate([[False], row, [False]]).astype(np.int8)))
            for begin, stop in edges.reshape(-1, 2).tolist():
                began = self.open.pop(speaker, None) if begin == 0 else None
                if stop == len(row):
                    self.open[speaker] = start + begin if began is None else began
                else:
                    turns.append(self._turn(speaker, start + begin if began is None else began, start + stop))
            if speaker in self.open and not (len(row) and row[0]) and len(row) and self.open[speaker] < start:
                turns.append(self._turn(speaker, self.open.pop(speaker), start))
        self.active, self.pending = self.active[:, end - self.final :], self.pending[end - self.final :]
        self.final = end
        yield from sorted(turns)

    def _turn(self, speaker: int, start: int, end: int) -> SampleTurn:
        frame = self.model.config.frame
        return SampleTurn(start * frame, end * frame, str(speaker))


def tidied(turns: Sequence[SampleTurn], shortest: float) -> list[SampleTurn]:
    """Return turns without pauses of one speaker, and without turns, that are shorter than `shortest` seconds."""
    size = round(shortest * RATE)
    closed: list[SampleTurn] = []
    latest: dict[str, int] = {}
    for turn in sorted(turns):
        at = latest.get(turn.speaker)
        if at is not None and turn.start - closed[at].end < size:
            closed[at] = closed[at]._replace(end=max(closed[at].end, turn.end))
        else:
            latest[turn.speaker] = len(closed)
            closed.append(turn)
    return [turn for turn in closed if turn.end - turn.start >= size]


def diarize_block(
    model: Diarizer, samples: Samples, options: Online, focal: Sequence[float] = (), most: int | None = None
) -> list[SampleTurn]:
    """Return the turns of one block [S] that is no longer than a window, from an empty memory."""
    device = next(model.parameters()).device
    waveform, size = torch.from_numpy(samples)[None].to(device), torch.tensor([len(samples)], device=device)
    features = model.features(waveform, size)[0][0, : -(-len(samples) // model.config.frame)]
    window, memory = Window(model, features, focal), memory_of(model, options)
    least = max(1, round(options.least * model.config.frames_per_second))
    for _ in discover(window, memory, options, least=least, at=0, most=most):
        pass
    if not len(memory):
        return []
    held: Active = (window.activity(memory.embeddings(), pseudo=False) > options.threshold).cpu().numpy()
    return turns_of(held, model.config.frame, len(samples))


def turns_of(active: Active, frame: int, samples: int) -> list[SampleTurn]:
    """Return the turns of activity [K, T] in frames of `frame` samples, of a sound of `samples`."""
    turns = []
    for speaker, row in enumerate(active):
        edges = np.flatnonzero(np.diff(np.concatenate([[False], row, [False]]).astype(np.int8)))
        for begin, stop in edges.reshape(-1, 2).tolist():
            turns.append(SampleTurn(begin * frame, min(stop * frame, samples), str(speaker)))
    return sorted(turn for turn in turns if turn.start < turn.end)


def diarize(model: Diarizer, samples: Samples, options: Online) -> list[SampleTurn]:
    """Return the turns of a recording [S]: a block at once where it is no longer than one, else as a stream."""
    focal = model.data.focal
    if len(samples) <= round(options.window * RATE):
        return tidied(diarize_block(model, samples, options, focal), options.shortest)
    stream = OnlineDiarizer(model, options, focal)
    turns = [*stream.push(samples), *stream.finish()]
    cut: list[Any] = [turn._replace(end=min(turn.end, len(samples))) for turn in turns]
    return tidied(cut, options.shortest)


def whole(model: Any) -> Diarizer:
    """Return the model inside of what an engine has made of it."""
    inner = getattr(model, "module", model)
    assert isinstance(inner, Diarizer)
    return inner
