"""A generated file `ac.pkl` of talking faces: features of four kinds or five, five scores of 1 to 5, some missing (-1).

A clip is a source (of an identity) through a generator; both have a quality for each aspect, and so has each clip. The
mouth follows the voice as lip sync allows: late and loosely where it is bad. For trying every part of a run; scores on
it say nothing about real generators.

Legend: N clips, T frames, D numbers of a feature's frame, K directions that mean something.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from affect.data import generator
from affect.data.generator import random

VERSION = 1
"""To be raised whenever the same settings give another file."""
FILE, MARK, CONVERTED = "ac.pkl", "generator.json", "converted"
SCORES = ("lip_sync_score", "expression_score", "audio_quality_score", "cross_modal_score", "overall_score")
WIDTHS = {"visual": 2048, "audio": 768, "keypoint": 1404, "au": 17}
"""Numbers of a frame, in the order in which `widths` has them; `visual` of py-feat has 163."""
SYNCNET = "syncnet"
"""A feature that some such files have, too: how well mouth and voice go together."""

_ASPECTS = ("lip", "expression", "voice", "face")
_MIX = np.array([[1.0, 0, 0, 0.2], [0, 1.0, 0, 0.3], [0, 0, 1.0, 0], [0.6, 0.5, 0.2, 0], [0.4, 0.3, 0.3, 0.5]])
"""How much of each aspect is in each score."""
_CHANNELS = {
    "visual": ("blur", "lips", "mouth"), "audio": ("hiss", "envelope"), "keypoint": ("mouth", "smile", "lips"),
    "au": ("liveliness", "smile"), "syncnet": ("sync",),
}  # fmt: skip
"""What each feature tells, beside the traits of the identity."""
_NAMES = ("train", "val", "test")
_TRAITS = 4
_LATE = 12
"""Most frames by which the mouth is late."""
_GRAIN = 256
"""Places at which a feature's grain is cut."""

Array = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class GeneratorSettings:
    """What a generated file is made with: clips, sources (two of an identity), generators, shortest and longest clip.

    `widths` are those of visual, audio, keypoint and au, `syncnet` that of a fifth feature, 0 for none. `missing` is
    the share of labels that are -1, `absent` that of features that are not there, `noise` what ratings and features
    have beside quality. `form` is rows (a list of samples a split), columns (features, labels and valid_masks a split)
    or flat (one list, the samples name their split). No source or identity is in two splits. Raises AffectError for a
    value that makes no file.
    """

    clips: int = 400
    sources: int = 20
    generators: int = 8
    frames: tuple[int, int] = (50, 300)
    widths: tuple[int, int, int, int] = (2048, 768, 1404, 17)
    syncnet: int = 0
    missing: float = 0.15
    absent: float = 0.03
    noise: float = 1.0
    form: Literal["rows", "columns", "flat"] = "rows"
    seed: int = 0

    def __post_init__(self) -> None:
        rules = {
            "clips": (self.clips >= self.sources, "at least one a source"),
            "sources": (self.sources >= 10 and self.sources % 2 == 0, "even, at least 10"),
            "generators": (self.generators >= 2, "at least 2"),
            "frames": (2 <= self.frames[0] <= self.frames[1], "shortest and longest, at least 2"),
            "widths": (len(self.widths) == len(WIDTHS) and min(self.widths) >= 8, "four numbers of at least 8"),
            "syncnet": (self.syncnet == 0 or self.syncnet >= 8, "0 or at least 8"),
            "missing": (0.0 <= self.missing < 0.9, "a share below .9"),
            "absent": (0.0 <= self.absent < 0.9, "a share below .9"),
            "noise": (0.0 <= self.noise <= 10.0, "within 0 and 10"),
            "form": (self.form in ("rows", "columns", "flat"), "rows, columns or flat"),
            "seed": (self.seed >= 0, "at least 0"),
        }
        generator.check(self, rules)


def generate(root: Path, settings: GeneratorSettings) -> Path:
    """Write `root`/ac.pkl as `generator.write_once` does, that of other settings anew, and return its path.

    Raises AffectError where `root` holds anything else, or the disk refuses.
    """
    facts = generator.description(__name__, VERSION, settings)
    generator.write_once(root, MARK, facts, facts.__eq__, lambda folder: _write(folder, settings))
    return root / FILE


def generate_converted(root: Path, settings: GeneratorSettings) -> Path:
    """Write `root`/ac.pkl as `generate` does, what it converts to beside it, and return that folder.

    It is converted by this process: the pickle is our own.
    """
    facts = generator.description(__name__, VERSION, settings)

    def write(folder: Path) -> None:
        from affect.data import pickle_file

        _write(folder, settings)
        pickle_file.work(folder / FILE, folder / CONVERTED, ())

    def right(made: Mapping[str, Any]) -> bool:
        return made == facts and (root / CONVERTED).is_dir()

    generator.write_once(root, MARK, facts, right, write)
    return root / CONVERTED


def _write(folder: Path, settings: GeneratorSettings) -> None:
    folder.mkdir(parents=True)
    samples = made(settings)
    data: Any = [{**sample, "split": split} for split, own in samples.items() for sample in own]
    if settings.form != "flat":
        names = [*WIDTHS, *([SYNCNET] if settings.syncnet else [])]
        data = samples if settings.form == "rows" else {split: _columns(own, names) for split, own in samples.items()}
    with (folder / FILE).open("wb") as file:
        pickle.dump(data, file, protocol=4)


def _columns(samples: list[dict[str, Any]], names: Sequence[str]) -> dict[str, Any]:
    """Return a split as the processed variant has it."""
    columns: dict[str, Any] = {key: [sample[key] for sample in samples] for key in samples[0]}
    labels = {name: np.array([sample["labels"][name] for sample in samples], np.float32) for name in SCORES}
    return {
        **columns,
        "features": {name: [sample["features"].get(name) for sample in samples] for name in names},
        "labels": labels,
        "valid_masks": {name: values != -1 for name, values in labels.items()},
    }


def made(settings: GeneratorSettings) -> dict[str, list[dict[str, Any]]]:
    """Return the samples by split (train, val, test), as the report's file has them."""
    sources, most = settings.sources, settings.generators
    rng = random(settings.seed, "quality")
    of_source = rng.normal(0.0, 0.4, (sources, len(_ASPECTS)))
    of_generator = rng.normal(0.0, 0.6, (most, len(_ASPECTS)))
    looks = rng.normal(0.0, 1.0, (sources // 2 + 1, _TRAITS))
    world = {name: _World(name, width, settings) for name, width in zip(WIDTHS, settings.widths, strict=True)}
    world |= {SYNCNET: _World(SYNCNET, settings.syncnet, settings)} if settings.syncnet else {}
    samples: dict[str, list[dict[str, Any]]] = {name: [] for name in _NAMES}
    # About a fifth of the sources validates and as many are tested, both of an identity.
    held = max(2, sources // 10 * 2)
    for index in range(settings.clips):
        source, maker = index % sources, (index // sources + index) % most
        own = random(settings.seed, f"clip{index}")
        quality = of_source[source] + of_generator[maker] + own.normal(0.0, 0.6, len(_ASPECTS))
        scores = _rated(quality, settings, own)
        features = _features(quality, looks[source // 2], settings, world, own)
        there = own.uniform(size=len(WIDTHS)) >= settings.absent
        # A clip has one feature at least.
        there[own.integers(len(WIDTHS))] = True
        given = {name: array for (name, array), has in zip(features.items(), there, strict=True) if has}
        if settings.syncnet:
            # It draws for itself: all else is as it is without.
            rng = random(settings.seed, f"{SYNCNET}{index}")
            told = _sync(quality, looks[source // 2], len(features["audio"]), settings, rng)
            given |= {SYNCNET: world[SYNCNET].frames(told, rng)} if rng.uniform() >= settings.absent else {}
        sample = {
            "video_id": f"clip{index:05d}", "source": f"source{source:02d}", "identity": f"person{source // 2:02d}",
            "generator": f"generator{maker}", "labels": scores, "features": given,
        }  # fmt: skip
        split = "test" if source >= sources - held else "val" if source >= sources - 2 * held else "train"
        samples[split].append(sample)
    return samples


class _World:
    """What a feature's frames are made by: directions [K, D] of what they tell, a mean [D], grain [T, D]."""

    def __init__(self, name: str, width: int, settings: GeneratorSettings):
        rng = random(settings.seed, name)
        directions = len(_CHANNELS[name]) + _TRAITS
        self.directions = rng.standard_normal((directions, width), np.float32) / np.float32(np.sqrt(directions))
        self.mean = rng.standard_normal(width, np.float32)
        # Drawn once and cut at random places: a clip's own would take longer than all else.
        grain = rng.standard_normal((_GRAIN + settings.frames[1], width), np.float32)
        self.grain = np.float32(0.5 * settings.noise) * grain

    def frames(self, told: Array, rng: Generator) -> Array:
        """Return frames [T, D] that tell of `told` [T, K]."""
        start = int(rng.integers(_GRAIN))
        return told @ self.directions + self.mean + self.grain[start : start + len(told)]


def _rated(quality: NDArray[np.float64], settings: GeneratorSettings, rng: Generator) -> dict[str, float]:
    """Return the scores as people rate them, in tenths from 1 to 5; some are missing."""
    rated = 3.0 + _MIX @ quality + rng.normal(0.0, 0.25 * settings.noise, len(SCORES))
    missing = rng.uniform(size=len(SCORES)) < settings.missing
    scores = np.where(missing, -1.0, np.round(np.clip(rated, 1.0, 5.0), 1))
    return dict(zip(SCORES, scores.tolist(), strict=True))


def _features(
    quality: NDArray[np.float64], traits: NDArray[np.float64], settings: GeneratorSettings,
    worlds: Mapping[str, _World], rng: Generator,
) -> dict[str, Array]:  # fmt: skip
    """Return the features of a clip of this quality, frames [T, D] each."""
    low, high = settings.frames
    frames = int(rng.integers(low, high + 1))
    lip, expression, voice, face = quality
    late = round(_LATE / (1.0 + np.exp(1.5 * lip)))
    envelope = _smooth(rng, frames + _LATE, 3)
    tells = {
        "envelope": envelope[_LATE:],
        "mouth": envelope[_LATE - late : _LATE - late + frames] + 0.5 * np.exp(-lip) * rng.standard_normal(frames),
        "smile": np.exp(0.7 * expression) * _smooth(rng, frames, 9),
    }
    levels = {"lips": lip, "liveliness": expression, "hiss": -voice, "blur": -face}
    for name, level in levels.items():
        tells[name] = level + settings.noise * (rng.normal(0.0, 0.7) + rng.normal(0.0, 0.5, frames))
    same = np.repeat(traits[None], frames, axis=0)
    told = {name: np.column_stack([*(tells[each] for each in _CHANNELS[name]), same]) for name in WIDTHS}
    return {name: worlds[name].frames(np.asarray(told[name], np.float32), rng) for name in WIDTHS}


def _sync(
    quality: NDArray[np.float64], traits: NDArray[np.float64], frames: int, settings: GeneratorSettings, rng: Generator
) -> Array:
    """Return what `syncnet` tells of a clip of this quality [T, K]: its lip sync, and whose mouth it is."""
    sync = quality[0] + settings.noise * (rng.normal(0.0, 0.5) + rng.normal(0.0, 0.5, frames))
    return np.asarray(np.column_stack([sync, np.repeat(traits[None], frames, axis=0)]), np.float32)


def _smooth(rng: Generator, frames: int, within: int) -> NDArray[np.float64]:
    """Return a random curve [T] of variance 1 that changes within so many frames."""
    return np.convolve(rng.standard_normal(frames + within - 1), np.full(within, within**-0.5), "valid")
