"""Generated voices: speakers that differ in pitch, timbre and rhythm, and others that nothing was trained on.

For trying diarization without any data; scores on them say nothing of real speech. A trait's values are spread evenly
over its range, in another order for each trait, so that no two speakers of a part are alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from affect.data import generator, voice
from affect.data.generator import random

VERSION = 1
"""To be raised whenever the same settings give other voices."""
MARK, SEEN, UNSEEN = "voices.json", "seen", "unseen"
_TRAITS = {
    "pitch": (80.0, 320.0), "tract": (0.76, 1.34), "rate": (3.0, 6.6), "corner": (500.0, 4000.0),
    "tilt": (-0.7, 0.7), "rough": (0.003, 0.03), "breath": (0.002, 0.03), "range": (0.8, 3.0), "pause": (0.08, 0.25),
}  # fmt: skip
"""Lowest and highest value of each, as `affect.data.voice` has them; spread over their logarithm where positive."""
_UTTERANCE = (2.0, 5.0)
"""Seconds of the shortest and the longest recording."""


@dataclass(frozen=True, kw_only=True)
class VoiceSettings:
    """How many voices there are to train with and unseen ones, and the seconds of each. Raises AffectError."""

    voices: int = 24
    unseen: int = 8
    seconds: float = 20.0
    seed: int = 0

    def __post_init__(self) -> None:
        rules = {
            "voices": (self.voices >= 1, "at least 1"),
            "unseen": (self.unseen >= 1, "at least 1"),
            "seconds": (2.0 <= self.seconds <= 3600.0, "within 2 and 3600"),
            "seed": (self.seed >= 0, "at least 0"),
        }
        generator.check(self, rules)


def generate(root: Path, settings: VoiceSettings) -> tuple[Path, Path]:
    """Write the folders `seen` and `unseen`, of a folder a speaker, under `root` and return them.

    As `generator.write_once` does: raises AffectError where `root` holds anything else, or the disk refuses.
    """
    facts = generator.description(__name__, VERSION, settings)
    generator.write_once(root, MARK, facts, facts.__eq__, lambda folder: _write(folder, settings))
    return root / SEEN, root / UNSEEN


def _write(folder: Path, settings: VoiceSettings) -> None:
    for part, count in ((SEEN, settings.voices), (UNSEEN, settings.unseen)):
        for index, (who, how) in enumerate(_people(count, random(settings.seed, part))):
            own = folder / part / f"{part}{index:03d}"
            own.mkdir(parents=True)
            rng = random(settings.seed, own.name)
            left, take = settings.seconds, 0
            while left > 0:
                seconds = min(float(rng.uniform(*_UTTERANCE)), max(left, 1.0))
                syllables = [voice.syllable(rng) for _ in range(40)]
                samples, _ = voice.speak(syllables, who, how, seconds, 0.003, rng)
                (own / f"{take:03d}.wav").write_bytes(voice.wav(samples))
                left, take = left - seconds, take + 1


def _people(count: int, rng: Generator) -> list[tuple[voice.Speaker, voice.Manner]]:
    """Return speakers, and how each of them speaks."""
    traits = {name: _spread(count, *limits, rng) for name, limits in _TRAITS.items()}
    people = []
    for of in ({name: float(values[k]) for name, values in traits.items()} for k in range(count)):
        who = voice.Speaker(pitch=of["pitch"], tract=of["tract"], rate=of["rate"], level=0.0, tilt=of["tilt"])
        how = voice.Manner(
            pitch=0.0, range=of["range"], contour=float(rng.normal(0.0, 2.0)), glide=float(rng.normal(0.0, 1.5)),
            rate=1.0, corner=of["corner"], spread=1.0, level=0.0, rough=of["rough"], breath=of["breath"],
            pause=of["pause"],
        )  # fmt: skip
        people.append((who, how))
    return people


def _spread(count: int, low: float, high: float, rng: Generator) -> NDArray[np.float64]:
    """Return one value from each of `count` equal parts of a range, in a random order."""
    share = (rng.permutation(count) + rng.uniform(0.0, 1.0, count)) / count
    return np.asarray(low * (high / low) ** share if low > 0 else low + (high - low) * share)
