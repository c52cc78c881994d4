"""Block-wise diarization of a stream: who speaks is told a hop at a time, from a window with a little look-ahead.

Speakers get numbers as they are heard. Of each a memory holds the surest frames that were theirs alone, of which the
embedding is made that asks for them in the next window. The pseudo-speakers' slots find those whom nobody knows yet:
such frames are pending until there are enough of them to enrol somebody, who then gets them.

Decoding again takes the same way with the memory as it was at the end, which stays as it is, and windows that tell
their middle. Legend: S samples at 16 kHz, T frames of a window, K speakers, P pseudo-speakers, D channels.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from affect.data.activity import RATE, SampleTurn, runs
from affect.tasks.diarization.config import NON_SPEAKER, PSEUDO, Online
from affect.tasks.diarization.losses import calibrated
from affect.tasks.diarization.memory import Memory, memory_of, merged, padded_to
from affect.tasks.diarization.models import Diarizer
from affect.tasks.diarization.stream_features import Samples, StreamFeatures
from affect.tasks.diarization.turn_stream import Active, TurnStream


class Window:
    """What a model says of a window's features [T, D]: encoded once, asked for as many speakers as there are."""

    def __init__(self, model: Diarizer, features: Tensor):
        self.model, self.features = model, features
        self.padded, self.mask = padded_to(model, features)
        self.encoded = model.encode(self.padded, self.mask)
        # All slots of pseudo-speakers, as in training: further ones have the numbers below.
        self.pseudo = [PSEUDO - k for k in range(model.config.pseudo)]

    def activity(self, embeddings: Tensor) -> Tensor:
        """Return probabilities [P + K, T] of the pseudo-speakers, first, and of speakers with `embeddings` [K, D]."""
        config = self.model.config
        slots = [*self.pseudo, *range(len(embeddings))]
        # The report's models know the slots that they have, and no others.
        least = 0 if config.name == "ours" else config.slots
        filler = PSEUDO if config.padding == "pseudo" else NON_SPEAKER
        asked = torch.tensor([[*slots, *([filler] * (least - len(slots)))]], device=self.features.device)
        logits = self.model.detect(self.encoded, self.mask, asked, embeddings[None])
        return calibrated(logits, self.model.data.focal).sigmoid()[0, : len(slots), : len(self.features)]


def discover(
    window: Window, memory: Memory, options: Online, *, least: int, at: int, most: int | None = None
) -> dict[int, Tensor]:
    """Return whom pseudo-speakers' slots find in `least` frames where nobody is surer, and these slots' shares [T].

    A speaker is a number: one whose embedding is like an enrolled speaker's is that one, whose memory gets the
    frames; else somebody is enrolled. Once they are known, others are looked for. `at` is the window's first frame in
    the stream; `most` bounds the speakers.
    """
    met: dict[int, Tensor] = {}
    for _ in range(options.rounds):
        shares, before = window.activity(memory.embeddings()), len(met)
        surest = (shares > options.threshold) & _largest(shares)
        counts = surest[: len(window.pseudo)].sum(1)
        for slot in counts.argsort(descending=True, stable=True).tolist():
            full = window.model.config.name != "ours" and len(memory) + 1 >= window.model.config.slots
            if full or int(counts[slot]) < least:
                break
            # The finder's own first, then the others'.
            seen = torch.cat([shares[slot : slot + 1], shares[:slot], shares[slot + 1 :]])
            newcomer = memory_of(window.model, options)
            newcomer.add(newcomer.enrol(), window.features, surest[slot], seen, at)
            likeness = memory.embeddings() @ newcomer.embeddings()[0]
            enrolled = len(memory) > 0 and (float(likeness.max()) > options.merge or len(memory) == most)
            speaker = int(likeness.argmax()) if enrolled else memory.enrol()
            if speaker not in met:
                met[speaker] = shares[slot]
                memory.add(speaker, window.features, surest[slot], seen, at)
        if len(met) == before:
            break
    return met


def speaking(shares: Tensor, options: Online) -> Tensor:
    """Return which of slots with probabilities `shares` [N, T] are held to speak in each frame.

    As many of the surest as the sum of all says: of a voice that two slots share neither is sure, and one speaks.
    """
    if options.counting is None:
        return shares > options.threshold
    count = (shares.sum(0) + 1 - options.counting).floor()
    ranks = shares.argsort(dim=0, descending=True, stable=True).argsort(dim=0)
    return ranks < count


def _largest(shares: Tensor) -> Tensor:
    """Return of shares [N, T] which are the largest of their frame, alone."""
    first, second = F.pad(shares, (0, 0, 0, 1), value=-1.0).topk(2, dim=0).values
    largest: Tensor = (shares == first) & (first > second)
    return largest


@dataclass(frozen=True)
class Fixed:
    """What is decoded again with: a memory, the speakers' numbers, and the mean of levels [M] where there is one."""

    memory: Memory
    speakers: list[int]
    mean: Tensor | None


class OnlineDiarizer:
    """Diarizes a stream: `push` samples as they come, `finish` at the end; both yield turns that are decided.

    A turn is yielded once it has ended for good and nothing before its end is pending. Speakers are numbers, in the
    order in which they are met; `most` bounds them. With `fixed` nobody is enrolled any more.
    """

    def __init__(self, model: Diarizer, options: Online, most: int | None = None, fixed: Fixed | None = None):
        self.model, self.options, self.most, self.fixed = model, options, most, fixed
        frame = model.config.frame
        self.size, self.hop, self.ahead, self.start = (
            round(seconds * RATE / frame)
            for seconds in (options.window, options.hop, options.ahead, options.start or options.window)
        )
        if fixed is not None:
            # The middle of each window, with as much before as behind it.
            self.hop, self.ahead, self.start = max(1, self.size // 2), self.size // 4, self.size
        self.memory = memory_of(model, options) if fixed is None else fixed.memory
        self.speakers = [] if fixed is None else fixed.speakers
        self.met = 0
        """Speakers that were enrolled, some of whom may have been merged since."""
        self.features = StreamFeatures(model, self.size, None if fixed is None else fixed.mean)
        self.turns = TurnStream(frame, options.shortest)
        self.heard = 0
        """Frames of which it is told who speaks in them, or that they are pending."""
        self.active: Active = np.zeros((len(self.speakers), 0), bool)
        self.pending: NDArray[np.bool_] = np.zeros(0, bool)
        """Of each frame that is not final: whether a pseudo-speaker speaks there, who may be enrolled yet."""
        self.delays: list[float] = []
        """Of each turn that was told the seconds of sound after its end that had to be heard for it."""
        self.took = 0.0
        """Seconds that it took."""

    @torch.inference_mode()
    def push(self, samples: Samples) -> list[SampleTurn]:
        """Take in samples [S] and return turns that are decided, in samples of the stream."""
        begun = time.perf_counter()
        self.features.push(samples)
        told: list[SampleTurn] = []
        while self.features.heard >= self._next() * self.model.config.frame:
            end = self._next()
            self._take(end - self.ahead - self.heard, end, last=False)
            waiting = np.flatnonzero(self.pending)
            turns = self._decided(int(waiting[0]) if len(waiting) else len(self.pending))
            told += self._counted(turns, end * self.model.config.frame)
        self.took += time.perf_counter() - begun
        return told

    @torch.inference_mode()
    def finish(self) -> list[SampleTurn]:
        """Return the turns that are left when no sample will come."""
        begun = time.perf_counter()
        end = -(-self.features.heard // self.model.config.frame)
        if end:
            self._take(end - self.heard, end, last=True)
        told = sorted([*self._decided(len(self.pending)), *self.turns.finish(self.features.heard)])
        self.took += time.perf_counter() - begun
        return self._counted(told, self.features.heard)

    def _counted(self, turns: list[SampleTurn], heard: int) -> list[SampleTurn]:
        """Return turns that are told when so many samples are heard."""
        self.delays += [(heard - turn.end) / RATE for turn in turns]
        return turns

    def again(self, most: int | None = None) -> OnlineDiarizer:
        """Return what decodes the same stream once more with the speakers of this one, merged where they are alike."""
        with torch.inference_mode():
            for speaker, _ in merged(self.memory, self.options.merge, most):
                self.speakers.pop(speaker)
        fixed = Fixed(self.memory, self.speakers, self.features.mean_level())
        return OnlineDiarizer(self.model, self.options, fixed=fixed)

    @torch.inference_mode()
    def embeddings(self) -> NDArray[np.float32]:
        """Return what tells `speakers` apart [K, D], of length 1."""
        vectors: NDArray[np.float32] = self.memory.embeddings().float().cpu().numpy()
        return vectors

    def _next(self) -> int:
        """Return the frame up to which has to be heard before more is told."""
        return self.heard + self.hop + self.ahead if self.heard else self.start

    def _take(self, count: int, end: int, *, last: bool) -> None:
        """Decide who speaks in the next `count` frames, and in pending ones, by the window that ends at frame `end`."""
        window = Window(self.model, self.features.window(end, last=last))
        self.heard += count
        start = end - len(window.features)
        met = {} if self.fixed is not None else self._discover(window, start, last=last)
        shares = window.activity(self.memory.embeddings())
        enrolled = shares[len(window.pseudo) :]
        for speaker, share in met.items():
            # What a slot tells by itself and what little is known of somebody tells are two opinions.
            enrolled[speaker] = (enrolled[speaker] + share) / 2
        held = speaking(shares, self.options).cpu().numpy()
        if self.fixed is None:
            self._number(held[len(window.pseudo) :])
            self._remember(window, shares, self.heard - count - start, self.heard - start, start)
        self._grow(count)
        self._give(held[:, : self.heard - start], list(met), count, start)
        # What leaves the window can't be enrolled any more.
        left = self.heard if last or self.fixed is not None else self.heard + self.hop + self.ahead - self.size
        self._leave(shares[len(window.pseudo) :, : self.heard - start].cpu().numpy(), start, left)
        if self.fixed is None:
            self._merge()

    def _discover(self, window: Window, start: int, *, last: bool) -> dict[int, Tensor]:
        """Enrol whom the window shows for the first time; return all who were found, and what their slots tell [T]."""
        seconds = self.options.least if last else self.options.enrol
        least = max(1, round(seconds * self.model.config.frames_per_second))
        return discover(window, self.memory, self.options, least=least, at=start, most=self.most)

    def _number(self, held: Active) -> None:
        """Give numbers to those who have none yet, by who speaks first in the window, as `held` [K, T] says."""
        starts = [int(row.argmax()) if row.any() else len(row) for row in held[len(self.speakers) :]]
        places = np.argsort(starts, kind="stable").argsort()
        self.speakers += (self.met + places).tolist()
        self.met += len(starts)

    def _merge(self) -> None:
        """Take two enrolled speakers for one where they have become alike: the earlier one goes on."""
        for speaker, into in merged(self.memory, self.options.merge):
            self.active[into] |= self.active[speaker]
            self.active = np.delete(self.active, speaker, 0)
            self.speakers.pop(speaker)

    def _grow(self, count: int) -> None:
        """Make room for new frames and speakers."""
        grown = np.zeros((len(self.memory), len(self.pending) + count), bool)
        grown[: len(self.active), : self.active.shape[1]] = self.active
        self.active = grown
        self.pending = np.concatenate([self.pending, np.zeros(count, bool)])

    def _give(self, held: Active, met: list[int], count: int, start: int) -> None:
        """Decide on the newest `count` frames, and once more on others, by `held` [P + K, T] from frame `start` on.

        Those who were just `met` get what of theirs is not final; pending frames go to anybody, if to nobody yet.
        """
        pseudo, final = len(held) - len(self.memory), self.heard - len(self.pending)
        # A frame before the window stays as it is.
        skipped = max(0, start - final)
        seen = held[:, final + skipped - start :]
        newest = np.arange(seen.shape[1]) >= seen.shape[1] - count
        active, pending = self.active[:, skipped:], self.pending[skipped:]
        open_ = newest | (pending & ~active.any(0))
        active |= seen[pseudo:] & open_
        active[met] |= seen[pseudo:][met]
        unknown = seen[:pseudo].any(0)
        # Who was once heard in a frame is not taken back: it stays pending until somebody has it.
        pending[:] = (pending & (unknown | ~active.any(0))) | (newest & unknown)

    def _remember(self, window: Window, shares: Tensor, first: int, stop: int, start: int) -> None:
        """Put the newest frames of a window, `first` to `stop`, into the memories of those who are alone in them."""
        held = shares > self.options.threshold
        first = first if self.memory.by_frame else 0
        pseudo = len(window.pseudo)
        for speaker in range(len(self.memory)):
            row = pseudo + speaker
            clean = held[row] & (held.sum(0) == 1)
            clean[:first] = False
            clean[stop:] = False
            others = torch.cat([shares[row : row + 1], shares[:row], shares[row + 1 :]])
            self.memory.add(speaker, window.features, clean, others, start)

    def _leave(self, shares: NDArray[np.float32], start: int, end: int) -> None:
        """Give what is pending before frame `end`, a stretch at a time, to who is most like it by `shares` [K, T].

        It is as good a guess as to leave it out.
        """
        final = self.heard - len(self.pending)
        due = np.arange(len(self.pending)) < end - final
        leaving = self.pending & due & ~self.active.any(0)
        for begin, stop in runs(leaving).tolist():
            seen = shares[:, max(0, final + begin - start) : max(0, final + stop - start)]
            if seen.size:
                self.active[int(seen.sum(1).argmax()), begin:stop] = True
        self.pending &= ~due

    def _decided(self, count: int) -> list[SampleTurn]:
        """Return the turns that end for good in the next `count` frames, which are final from now on."""
        told = self.turns.push(self.active[:, :count], self.speakers)
        self.active, self.pending = self.active[:, count:], self.pending[count:]
        return told


def diarize(model: Diarizer, samples: Samples, options: Online) -> list[SampleTurn]:
    """Return the turns of a recording [S], as a stream; with online.offline it is decoded again when all is heard."""
    return decode(model, options, lambda: [samples])[0]


def decode(
    model: Diarizer, options: Online, sound: Callable[[], Iterable[Samples]], most: int | None = None
) -> tuple[list[SampleTurn], OnlineDiarizer]:
    """Return the turns of a recording of `most` speakers at most, in order, and what found them last.

    `sound` gives its blocks [S], once more with online.offline.
    """
    stream = OnlineDiarizer(model, options, None if options.offline else most)
    turns = _of(stream, sound())
    if options.offline:
        stream = stream.again(most)
        turns = _of(stream, sound())
    return turns, stream


def _of(stream: OnlineDiarizer, blocks: Iterable[Samples]) -> list[SampleTurn]:
    turns = [turn for block in blocks for turn in stream.push(block)]
    return sorted([*turns, *stream.finish()])


def whole(model: Any) -> Diarizer:
    """Return the model inside of what an engine has made of it."""
    inner = getattr(model, "module", model)
    assert isinstance(inner, Diarizer)
    return inner
