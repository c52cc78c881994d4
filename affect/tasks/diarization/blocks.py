"""Rows to micro-batches: blocks to train on, whole recordings to diarize.

Legend: B examples, S samples, K speakers, T frames, N slots.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray

from affect.data import audio
from affect.data.activity import SampleTurn, activity, in_samples, in_seconds
from affect.data.augment import generator, number
from affect.data.recordings import sample_turns_of, sound_of, turns_of
from affect.data.rttm import Turn
from affect.data.simulator import Simulator
from affect.data.turn_taking import overlap_ratio
from affect.data.voices import Voices
from affect.task import VALID, Batch, Key, Row
from affect.tasks.diarization.config import ACTIVITY, CANDIDATES, SAMPLING_RATE, SPEAKER, VOICES, Diarization
from affect.tasks.diarization.corpus import CONVERSATION, EXAMPLE, RECORDING, DiarizationCorpus, windows_of
from affect.tasks.diarization.slots import Slots, assign

Samples = NDArray[np.float32]

_HEARD = 0.48
"""Seconds that a speaker has to speak in a block for an embedding of it to mean something."""
_PEOPLE = 1_000_000
"""Numbers of people in recordings begin here, beyond all voices."""


@dataclass(frozen=True)
class Example:
    """A block, another one of its conversation, and who speaks there."""

    sounds: tuple[Samples, Samples]
    spoken: NDArray[np.uint8]
    """[2, K, T]: activity in both blocks."""
    voices: NDArray[np.int64]
    """[K]: the number of each speaker among all."""
    slots: Slots


class Blocks:
    """Makes micro-batches of a corpus by a recipe."""

    def __init__(self, corpus: DiarizationCorpus, recipe: Diarization):
        self.corpus, self.recipe = corpus, recipe
        self.frame = recipe.model.frame
        self.size = round(recipe.data.block * SAMPLING_RATE)
        self.voices = {name: place for place, name in enumerate(corpus.training.speakers)}
        self.people = {name: _PEOPLE + place for place, name in enumerate(corpus.people)}
        self._simulators: dict[tuple[str, int], Simulator] = {}

    @property
    def frames(self) -> int:
        """Frames of a block."""
        return self.size // self.frame

    @cached_property
    def _windows(self) -> tuple[Any, Any]:
        return windows_of(self.corpus, self.recipe.data)

    def batch(self, rows: Sequence[Row], key: Key | None) -> Batch:
        """Return training rows as blocks, by a key; other rows, or without one, as whole recordings."""
        if key is None:
            return self._recordings(rows)
        return self._examples([self._example(row, key) for row in rows], [str(row["id"]) for row in rows])

    # To train on.

    def _example(self, row: Row, key: Key) -> Example:
        random = generator(key.seed, key.epoch, row["id"], what="slots")
        if row["kind"] == EXAMPLE:
            made = self._simulator("training", 0).conversation(key.seed, key.epoch, row["place"], 2 * self.recipe.data.block)
            halves = [made.block(start, self.size) for start in (0, self.size)]
            sounds, turns, numbers = [half.samples for half in halves], [half.turns for half in halves], self.voices
        else:
            windows, partners = self._windows
            place = number(key.seed, key.epoch, row["id"], what="window") % len(windows)
            other = partners.of(place, key.seed, key.epoch)
            chosen = [windows[place], windows[other]]
            sounds = [self._padded(sound_of(window)) for window in chosen]
            turns, numbers = [sample_turns_of(window) for window in chosen], self.people
        if random.random() < 0.5:
            sounds, turns = sounds[::-1], turns[::-1]
        return self._made(sounds, turns, numbers, random)

    def _made(
        self, sounds: Sequence[Samples], turns: Sequence[list[SampleTurn]], numbers: dict[str, int], random: Generator
    ) -> Example:
        model = self.recipe.model
        names = list(dict.fromkeys(turn.speaker for own in turns for turn in own))
        if model.padding == "non" and model.name != "ours":
            # Speakers who are not here at all, for slots that nobody needs.
            others = [name for name in self.voices if name not in names]
            names += [others[k] for k in random.permutation(len(others))[: model.slots]]
        spoken = np.stack([activity(own, names, self.frames, self.frame) for own in turns])
        voices = np.array([numbers.get(name, self.voices.get(name, -1)) for name in names], np.int64)
        enrollable = self._heard(spoken[1]) if model.name == "ours" else (voices >= 0) & (voices < _PEOPLE)
        slots = assign(spoken[0], enrollable, model, self.recipe.loss, random)
        return Example((sounds[0], sounds[1]), spoken, voices, slots)

    def _heard(self, spoken: NDArray[Any]) -> NDArray[np.bool_]:
        """Return who speaks long enough for an embedding [K]."""
        enough: NDArray[np.bool_] = spoken.sum(-1) >= _HEARD * SAMPLING_RATE / self.frame
        return enough

    def _padded(self, samples: Samples) -> Samples:
        return np.pad(samples, (0, self.size - len(samples)))

    def _examples(self, made: Sequence[Example], ids: Sequence[str]) -> Batch:
        most, model, loss = max(1, *(len(one.voices) for one in made)), self.recipe.model, self.recipe.loss
        spoken = np.zeros((len(made), 2, most, self.frames), np.float32)
        voices = np.full((len(made), most), -100, np.int64)
        candidates = np.full((len(made), most, self.frames), np.nan, np.float32)
        for k, one in enumerate(made):
            count = len(one.voices)
            spoken[k, :, :count], voices[k, :count], candidates[k, :count] = one.spoken, one.voices, one.slots.candidates
        sizes = torch.full((len(made),), self.size)
        inputs = {
            "waveform": torch.from_numpy(np.stack([one.sounds[0] for one in made])), "samples": sizes,
            "spoken": torch.from_numpy(spoken[:, 0]), "slots": _stacked([one.slots.slots for one in made]),
        }  # fmt: skip
        targets = {
            ACTIVITY: _stacked([one.slots.activity for one in made]), CANDIDATES: torch.from_numpy(candidates),
        }  # fmt: skip
        numbers = np.where(voices < _PEOPLE, voices, -100)
        if model.name == "ours":
            inputs |= {
                "reference": torch.from_numpy(np.stack([one.sounds[1] for one in made])), "reference_samples": sizes,
                "reference_spoken": torch.from_numpy(spoken[:, 1]),
            }  # fmt: skip
            heard = self._heard(spoken).all(1)
            if loss.contrastive:
                targets[VOICES] = torch.from_numpy(np.where(heard, voices, -100))
            if loss.arcface:
                targets[SPEAKER] = torch.from_numpy(np.where(spoken[:, 0].any(-1), numbers, -100))
        else:
            owner = _stacked([one.slots.owner for one in made])
            inputs |= {"speaker": torch.from_numpy(numbers), "owner": owner}
            own = torch.from_numpy(numbers).take_along_dim(owner.clamp(min=0), 1)
            targets[SPEAKER] = torch.where(owner >= 0, own, -100)
        return Batch(ids=tuple(ids), inputs=inputs, targets=targets, rows=[{} for _ in made])

    # To diarize.

    def _recordings(self, rows: Sequence[Row]) -> Batch:
        made = [self.recording(row) for row in rows]
        longest = max(len(samples) for samples, _, _ in made)
        waveform = np.zeros((len(made), longest), np.float32)
        for k, (samples, _, _) in enumerate(made):
            waveform[k, : len(samples)] = samples
        sizes = torch.tensor([len(samples) for samples, _, _ in made])
        return Batch(
            ids=tuple(row["id"] for row in rows), inputs={"waveform": torch.from_numpy(waveform), "samples": sizes},
            targets={}, rows=[facts(turns, uem, len(samples)) for samples, turns, uem in made],
        )  # fmt: skip

    def recording(self, row: Row) -> tuple[Samples, list[Turn], list[tuple[float, float]] | None]:
        """Return the samples [S] of a recording or conversation, its turns, and what of it is annotated."""
        if row["kind"] == RECORDING:
            assert self.corpus.recordings is not None
            known = self.corpus.recordings.recordings[row["place"]]
            return audio.load(known["path"]), turns_of(known), [(span["start"], span["end"]) for span in known["uem"]]
        part = row["id"].rpartition("_")[0] if row["kind"] == CONVERSATION else "training"
        kind = "training" if row["kind"] != CONVERSATION else "validation" if part == VALID else "test"
        simulator = self._simulator(kind, row["speakers"])
        seed, epoch = self.recipe.data.test_seed, zlib.crc32(part.encode()) >> 1
        made = simulator.conversation(seed, epoch, row["place"], row["length"])
        return made.samples, in_seconds(made.turns), None

    def _simulator(self, kind: str, speakers: int) -> Simulator:
        """Return what simulates conversations of the voices of a kind, of so many `speakers` (0: as the recipe says)."""
        if (kind, speakers) not in self._simulators:
            voices: Voices | None = getattr(self.corpus, kind)
            assert voices is not None
            rules = self.recipe.simulation
            rules = rules if not speakers else replace(rules, speakers=(speakers, speakers))
            self._simulators[kind, speakers] = Simulator(voices, rules)
        return self._simulators[kind, speakers]


def facts(turns: Sequence[Turn], uem: Sequence[tuple[float, float]] | None, samples: int) -> dict[str, Any]:
    """Return what a predicted row says of a recording: its turns, what is annotated, speakers and overlap."""
    spans = [(0.0, samples / SAMPLING_RATE)] if uem is None else list(uem)
    return {
        "turns": [[turn.start, turn.end, turn.speaker] for turn in turns], "uem": [list(span) for span in spans],
        "speakers": len({turn.speaker for turn in turns}), "seconds": samples / SAMPLING_RATE,
        "overlap": overlap_ratio(in_samples(turns)) if turns else 0.0,
    }  # fmt: skip


def _stacked(arrays: Sequence[NDArray[Any]]) -> torch.Tensor:
    return torch.from_numpy(np.stack(arrays))
