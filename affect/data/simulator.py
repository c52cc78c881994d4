"""Conversations made of single voices, on the fly: each a pure function of (seed, epoch, index).

Labels are who was put where, in samples. Steps of a conversation draw from generators of their own, so that noise or a
room changes nothing of who speaks when.

Legend: S samples at 16 kHz.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from affect.data import noise, room, turn_taking
from affect.data.activity import RATE, SampleTurn
from affect.data.activity import activity as activity
from affect.data.activity import excerpt as excerpt
from affect.data.augment import generator
from affect.data.rttm import Turn, joined, read_rttm
from affect.data.simulation import Simulation
from affect.data.turn_taking import Placed, TurnTaking
from affect.data.voices import LEVEL, Voices
from affect.errors import AffectError

if TYPE_CHECKING:
    from datasets import Dataset

Samples = NDArray[np.float32]

_FADE = RATE // 200
"""Samples (5 ms) over which a cut voice rises and falls: a step is a click."""


@dataclass(frozen=True, eq=False)
class Conversation:
    """What a microphone hears [S] at 16 kHz, and its turns in the order of their starts."""

    samples: Samples
    turns: list[SampleTurn]

    def block(self, start: int, size: int) -> Conversation:
        """Return the `size` samples from `start` on; raises ValueError where they aren't all there."""
        if not 0 <= start <= start + size <= len(self.samples):
            raise ValueError(f"samples {start} to {start + size} of {len(self.samples)}")
        return Conversation(self.samples[start : start + size], excerpt(self.turns, start, size))


def rows(part: str, count: int, seconds: float) -> Dataset:
    """Return a row a conversation, as a task's `datasets` has them: id, index, and length in seconds."""
    from datasets import Dataset

    names = [f"{part}{index}" for index in range(count)]
    return Dataset.from_dict({"id": names, "index": list(range(count)), "length": [seconds] * count})


class Simulator:
    """Makes conversations of `voices` by the rules of a `simulation`."""

    def __init__(self, voices: Voices, simulation: Simulation, real: TurnTaking | None = None):
        """Read what the rules name; `real` turn taking, of a corpus, goes before theirs.

        Raises AffectError where voices are too few, and for files that can't be used.
        """
        most = simulation.speakers[1]
        if most > len(voices):
            raise AffectError(f"simulation.speakers must be at most the number of voices, {len(voices)}, not {most}")
        self.voices, self.simulation = voices, simulation
        self.files = noise.recordings(simulation.noise_files) if simulation.noise_files else ()
        if real is None and simulation.fitted is not None:
            real = turn_taking.fit(read_rttm(simulation.fitted))
        self.turn_taking = real

    def conversation(self, seed: int, epoch: int, index: int, seconds: float) -> Conversation:
        """Return conversation number `index` of an epoch, `seconds` long: the same one in any process."""
        size, rules = round(seconds * RATE), self.simulation
        who, where, back = (generator(seed, epoch, str(index), what=f"conversation {what}") for what in _STREAMS)
        count = int(who.integers(rules.speakers[0], rules.speakers[1] + 1))
        names = who.choice(len(self.voices), count, replace=False).tolist()
        if self.turn_taking is None:
            placed = turn_taking.uniform(who, count, size, rules)
        else:
            placed = turn_taking.fitted(who, count, size, self.turn_taking)
        heard = sorted(turn for turn in placed if turn[0] < size and turn[1] > 0 and turn[0] < turn[1])
        samples = self._speech(heard, names, size, who, where)
        turns = [SampleTurn(max(a, 0), min(b, size), self.voices.speakers[names[k]]) for a, b, k in heard]
        turns.sort()
        if back.random() < rules.noise:
            self._add_noise(samples, turns, back)
        return Conversation(samples, turns)

    def _speech(
        self, turns: Sequence[Placed], names: Sequence[int], size: int, who: Generator, where: Generator
    ) -> Samples:
        """Return the sound [S] of turns, without noise."""
        rules = self.simulation
        place = room.drawn(where, rules.decay) if where.random() < rules.reverberation else None
        samples = np.zeros(size, np.float32)
        distances: dict[int, float] = {}
        responses: dict[int, Samples] = {}
        near, far = (math.log(distance) for distance in rules.distance)
        for start, end, speaker in turns:
            moves = where.random() < rules.moves
            if speaker not in distances or moves:
                distances[speaker] = math.exp(where.uniform(near, far))
                if place is not None:
                    responses[speaker] = room.response(where, place, distances[speaker])
            speech = self._excerpt(names[speaker], end - start, who)
            cut = max(0, -start)
            speech = speech[cut : cut + size - max(start, 0)]
            if place is not None:
                speech = room.reverberated(speech, responses[speaker])
            at = max(start, 0)
            stop = min(at + len(speech), size)
            samples[at:stop] += speech[: stop - at] * np.float32(1 / distances[speaker])
        return samples

    def _excerpt(self, voice: int, size: int, random: Generator) -> Samples:
        """Return `size` samples of a voice from one of its onsets on, from its beginning again behind its end."""
        track, onsets = self.voices.speech(voice), self.voices.onsets(voice)
        start = int(onsets[int(random.integers(len(onsets)))]) if len(onsets) else 0
        pieces = [track[start : start + size]]
        left = size - len(pieces[0])
        while left > 0:
            pieces.append(track[:left])
            left -= len(pieces[-1])
        speech = np.multiply(pieces[0] if len(pieces) == 1 else np.concatenate(pieces), np.float32(1 / 32768))
        fade = min(_FADE, size // 2)
        speech[:fade] *= _rise(fade)
        speech[size - fade :] *= _rise(fade)[::-1]
        return speech

    def _add_noise(self, samples: Samples, turns: Sequence[SampleTurn], random: Generator) -> None:
        """Add noise at a ratio drawn from the rules, to speech as a voice at 1 m has it where nobody speaks."""
        ratio, size = random.uniform(*self.simulation.snr), len(samples)
        if self.files:
            added = noise.excerpt(self.files[int(random.integers(len(self.files)))], size, RATE, random)
            pieces = [added - added.mean()]
        else:
            pieces = noise.prepared(size, random)
        power = sum(map(_energy, pieces)) / size
        if not power:
            return
        speaking = joined(Turn(start, end, "") for start, end, _ in turns)
        spoken = sum(int(end - start) for start, end, _ in speaking)
        energy = sum(_energy(samples[int(start) : int(end)]) for start, end, _ in speaking)
        level = energy / spoken if spoken else LEVEL**2
        scale, at = np.float32(math.sqrt(level / power * 10 ** (-ratio / 10))), 0
        for piece in pieces:
            samples[at : at + len(piece)] += piece * scale
            at += len(piece)


@lru_cache(maxsize=_FADE)
def _rise(size: int) -> Samples:
    return np.linspace(0, 1, size, dtype=np.float32)


def _energy(wave: Samples) -> float:
    return float(np.dot(wave, wave))


_STREAMS = ("speech", "room", "noise")
