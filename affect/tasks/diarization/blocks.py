"""Rows to micro-batches: blocks to train on, whole recordings to diarize.

Legend: B examples, S samples, K speakers, T frames, N slots.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray

from affect.data import audio
from affect.data.activity import activity, in_samples, in_seconds
from affect.data.augment import generator, number
from affect.data.recordings import sample_turns_of, sound_of, turns_of
from affect.data.rttm import Span, Turn
from affect.data.simulator import Simulator
from affect.data.turn_taking import overlap_ratio
from affect.data.voices import Voices
from affect.task import TRAIN, VALID, Batch, Key, Row
from affect.tasks.diarization.config import SAMPLING_RATE, Diarization
from affect.tasks.diarization.corpus import EXAMPLE, PLAIN, RECORDING, WINDOW, DiarizationCorpus, windows_of
from affect.tasks.diarization.examples import Block, Example, collated
from affect.tasks.diarization.measures import TURNS

Samples = NDArray[np.float32]


class Blocks:
    """Makes micro-batches of a corpus by a recipe."""

    def __init__(self, corpus: DiarizationCorpus, recipe: Diarization):
        self.corpus, self.recipe = corpus, recipe
        self.frame = recipe.model.frame
        self.size = round(recipe.data.block * SAMPLING_RATE)
        self.numbers = {name: place for place, name in enumerate(corpus.training.speakers)}
        self._simulators: dict[tuple[str, int, bool], Simulator] = {}

    @property
    def frames(self) -> int:
        """Frames of a block."""
        return self.size // self.frame

    @cached_property
    def _most(self) -> int:
        """Return the most speakers that an example has."""
        most = self.recipe.simulation.speakers[1]
        if self.recipe.data.real:
            assert self.corpus.recordings is not None
            turns = self.corpus.recordings.part(TRAIN)["turns"][:]
            most = max(most, *(len({turn["speaker"] for turn in own}) for own in turns))
        return most

    @cached_property
    def _windows(self) -> tuple[Any, Any]:
        return windows_of(self.corpus, self.recipe.data)

    def batch(self, rows: Sequence[Row], key: Key | None) -> Batch:
        """Return training rows as blocks, by a key; other rows, or without one, as whole recordings."""
        if key is None:
            return self._recordings(rows)
        return self._examples(rows, key)

    # To train on.

    def _examples(self, rows: Sequence[Row], key: Key) -> Batch:
        recipe = self.recipe
        randoms = [generator(key.seed, key.epoch, row["id"], what="slots") for row in rows]
        made = [self._example(row, key, random) for row, random in zip(rows, randoms, strict=True)]
        facts = {"table": len(self.numbers), "most": self._most}
        inputs, targets = collated(made, recipe.model, recipe.loss, randoms, **facts)
        return Batch(ids=tuple(each.id for each in made), inputs=inputs, targets=targets, rows=[{} for _ in made])

    def _example(self, row: Row, key: Key, random: Generator) -> Example:
        """Return a block and another one of its conversation, or itself: which of two it is, chance decides."""
        if row["kind"] == EXAMPLE:
            seconds = 2 * self.recipe.data.block
            whole = self._simulator("training").conversation(key.seed, key.epoch, row["place"], seconds)
            heard = [(half.samples, half.turns) for half in (whole.block(start, self.size) for start in (0, self.size))]
        else:
            windows, partners = self._windows
            place = self._window(row, key)
            both = (windows[place], windows[partners.of(place, key.seed, key.epoch)])
            heard = [(sound_of(window), sample_turns_of(window)) for window in both]
        names = list(dict.fromkeys(turn.speaker for _, turns in heard for turn in turns))
        voices = np.array([self.numbers.get(name, -1) for name in names], np.int64)
        blocks = [
            Block(samples, activity(turns, names, -(-len(samples) // self.frame), self.frame))
            for samples, turns in heard
        ]
        block, reference = blocks[::-1] if random.random() < 0.5 else blocks
        if self.recipe.loss.reference == "same":
            reference = block
        return Example(str(row["id"]), block, reference, voices)

    def _window(self, row: Row, key: Key) -> int:
        return number(key.seed, key.epoch, row["id"], what="window") % len(self._windows[0])

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
            targets={}, rows=[reference(row["id"], *own) for row, own in zip(rows, made, strict=True)],
        )  # fmt: skip

    def recording(self, row: Row) -> tuple[Samples, list[Turn], list[Span] | None]:
        """Return the samples [S] of a recording or conversation, its turns, and what of it is annotated."""
        if row["kind"] == RECORDING:
            assert self.corpus.recordings is not None
            recorded = self.corpus.recordings.recordings[row["place"]]
            spans = [(span["start"], span["end"]) for span in recorded["uem"]]
            return audio.load(recorded["path"]), turns_of(recorded), spans
        if row["kind"] == WINDOW:
            window = self._windows[0][self._window(row, Key(seed=self.recipe.data.test_seed, epoch=0))]
            return sound_of(window), in_seconds(sample_turns_of(window)), None
        # Plain conversations are those that others are, but for how they sound.
        part = "training" if row["kind"] == EXAMPLE else row["id"].rpartition("_")[0].removesuffix(f"_{PLAIN}")
        voices = part if part == "training" else "validation" if part == VALID else "test"
        simulator = self._simulator(voices, row["speakers"], plain=row["kind"] == PLAIN)
        seed, epoch = self.recipe.data.test_seed, zlib.crc32(part.encode()) >> 1
        made = simulator.conversation(seed, epoch, row["place"], row["length"])
        return made.samples, in_seconds(made.turns), None

    def _simulator(self, kind: str, speakers: int = 0, *, plain: bool = False) -> Simulator:
        """Return what simulates conversations of the voices of a kind, of `speakers` each (0: as the recipe says)."""
        if (kind, speakers, plain) not in self._simulators:
            voices: Voices = getattr(self.corpus, kind)
            rules = self.recipe.simulation
            rules = rules if not speakers else replace(rules, speakers=(speakers, speakers))
            if plain:
                rules = replace(rules, distance=(1.0, 1.0), moves=0.0, reverberation=0.0, noise=0.0)
            self._simulators[kind, speakers, plain] = Simulator(voices, rules)
        return self._simulators[kind, speakers, plain]


def reference(name: str, samples: Samples, turns: Sequence[Turn], uem: Sequence[Span] | None) -> Row:
    """Return a predicted row but for its prediction: turns, what is annotated of a recording, speakers and overlap."""
    spans = [(0.0, len(samples) / SAMPLING_RATE)] if uem is None else uem
    return {
        "id": name, "target": {TURNS: [list(turn) for turn in turns]}, "recording": name,
        "uem": [list(span) for span in spans], "speakers": len({turn.speaker for turn in turns}),
        "seconds": len(samples) / SAMPLING_RATE, "overlap": overlap_ratio(in_samples(turns)) if turns else 0.0,
    }  # fmt: skip
