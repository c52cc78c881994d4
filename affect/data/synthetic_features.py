"""A generated corpus of audio, text and video features, on disk as MER2023's are, some of text and video missing.

For trying every part of a trimodal training run without the corpus; scores on it say nothing about real people.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from affect.data import generator
from affect.data.generator import random
from affect.data.synthetic_emotions import EMOTIONS, MODALITIES, Part, sample, sentence
from affect.errors import AffectError

VERSION = 1
"""To be raised whenever the same settings give other files."""
MARK = "generator.json"
FEATURES = ("chinese-hubert-large-UTT", "Baichuan-13B-Base-UTT", "clip-vit-large-patch14-UTT")
"""Folders of the three features, in the order audio, text, video."""
PARTS = ("train", "test1", "test2", "test3")
TRANSCRIPTS = "transcription-engchi-polish.csv"
LABELS = "label-6way.npz"
_NO_VALENCE = -10
"""What MER2023 writes, as an int, for an utterance without valence."""
_HALVES, _SEQUENCES, _FRAMES = 3, 10, 12
"""One video in so many is in half precision; one audio, a [T, D] array; one video, a folder of frames."""


@dataclass(frozen=True, kw_only=True)
class GeneratorSettings:
    """What a generated corpus is made with: utterances to train on, and of each of the three tests.

    `widths` are the features of audio, text and video. `noise` (0.5 mild, 1 as is, 2 harsh) multiplies the power of all
    that hides the emotion, and the shares of missing and of corrupted inputs; `missing_text` and `missing_video` are
    the shares of all-zero vectors at noise 1. Raises AffectError for a value that makes no corpus.
    """

    train: int = 600
    test: int = 150
    widths: tuple[int, int, int] = (48, 96, 40)
    noise: float = 1.0
    missing_text: float = 0.1
    missing_video: float = 0.08
    seed: int = 0

    def __post_init__(self) -> None:
        rules = {
            "train": (self.train >= 12, "at least 12"),
            "test": (self.test >= 6, "at least 6"),
            "widths": (len(self.widths) == 3 and min(self.widths) >= 4, "three numbers of at least 4"),
            "noise": (0.0 < self.noise <= 10.0, "above 0 and at most 10"),
            "missing_text": (0.0 <= self.missing_text * self.noise < 1.0, "a share; times noise below 1"),
            "missing_video": (0.0 <= self.missing_video * self.noise < 1.0, "a share; times noise below 1"),
            "seed": (self.seed >= 0, "at least 0"),
        }
        generator.check(self, rules)


def generate(root: Path, settings: GeneratorSettings) -> None:
    """Write the corpus of these settings under `root` as `generator.write_once` does, anew where files were lost.

    Raises AffectError where `root` holds a corpus of other settings or anything else, or the disk refuses.
    """
    facts = generator.description(__name__, VERSION, settings)

    def right(made: dict[str, Any]) -> bool:
        if made.get("version") != VERSION:
            raise AffectError(f"generated corpus: {root} is of another version of the generator; remove it")
        for name, asked in facts["settings"].items():
            had = made["settings"].get(name)
            if had != asked:
                raise AffectError(
                    f"generated corpus: {root} was made with {name}={had}, not {asked}; name another folder"
                )
        return _is_whole(root, settings)

    generator.write_once(root, MARK, facts, right, lambda folder: _write(folder, settings))


def _is_whole(root: Path, settings: GeneratorSettings) -> bool:
    """Whether `root` holds all files of this corpus, as far as their number tells."""
    if not all((root / name).is_file() for name in (LABELS, TRANSCRIPTS, *(f"{part}-label.csv" for part in PARTS))):
        return False
    total = settings.train + 3 * settings.test
    folders = [root / "features" / name for name in FEATURES]
    return all(folder.is_dir() and sum(1 for _ in folder.iterdir()) == total for folder in folders)


def _write(root: Path, settings: GeneratorSettings) -> None:
    sizes = {part: settings.train if part == "train" else settings.test for part in PARTS}
    numbers = iter(random(settings.seed, "names").permutation(sum(sizes.values())))
    labels: dict[str, dict[str, dict[str, str | float]]] = {}
    transcripts: list[tuple[str, str, str]] = []
    for feature in FEATURES:
        (root / "features" / feature).mkdir(parents=True)
    for part, total in sizes.items():
        names = [f"samplenew_{next(numbers):08d}" for _ in range(total)]
        made = sample(part, total, settings.widths, settings.noise, settings.seed)
        missing = _missing(part, total, settings)
        _write_features(root / "features", names, made, missing, random(settings.seed, f"{part} files"))
        labels[part] = {
            name: {"emo": EMOTIONS[emotion], "val": _NO_VALENCE if np.isnan(valence) else float(valence)}
            for name, emotion, valence in zip(names, made.emotion, made.valence, strict=True)
        }
        rows = ((name, label["emo"], label["val"]) for name, label in labels[part].items())
        _write_table(root / f"{part}-label.csv", ("name", "discrete", "valence"), rows)
        drawn = random(settings.seed, f"{part} words")
        for name, emotion, silent in zip(names, made.emotion, missing["text"], strict=True):
            words = sentence(EMOTIONS[emotion], drawn)
            transcripts.append((name, *(("", "") if silent else words)))
    _write_table(root / TRANSCRIPTS, ("name", "chinese", "english"), sorted(transcripts))
    corpora = {f"{part}_corpus": np.array(own, dtype=object) for part, own in labels.items()}
    np.savez(root / LABELS, **corpora)  # type: ignore[arg-type]  # numpy's stub takes the arrays for its own options


def _missing(part: str, total: int, settings: GeneratorSettings) -> dict[str, NDArray[np.bool_]]:
    """Return which utterances [N] of a part lack each modality: never audio, text and video independently."""
    shares = {"audio": 0.0, "text": settings.missing_text, "video": settings.missing_video}
    return {
        modality: random(settings.seed, f"{part} {modality} missing").permutation(total)
        < round(share * settings.noise * total)
        for modality, share in shares.items()
    }


def _write_features(
    root: Path, names: list[str], made: Part, missing: dict[str, NDArray[np.bool_]], rng: Generator
) -> None:
    """Write the three features of a part, in all the forms that MER2023's features have."""
    for modality, feature in zip(MODALITIES, FEATURES, strict=True):
        for index, name in enumerate(names):
            vector = made.features[modality][index]
            place = root / feature / f"{name}.npy"
            if missing[modality][index]:
                np.save(place, np.zeros_like(vector))
            elif modality == "audio" and index % _SEQUENCES == 0:
                np.save(place, _frames(vector, rng))
            elif modality == "video" and index % _FRAMES == 0:
                place.with_suffix("").mkdir()
                for number, frame in enumerate(_frames(vector, rng)):
                    np.save(place.with_suffix("") / f"{number:05d}.npy", frame)
            elif modality == "video" and index % _HALVES == 0:
                np.save(place, vector.astype(np.float16))
            else:
                np.save(place, vector)


def _frames(vector: NDArray[np.float32], rng: Generator) -> NDArray[np.float32]:
    """Return 3 to 6 frames [T, D] whose mean is `vector` [D]."""
    stray = rng.normal(0.0, 0.1, (int(rng.integers(3, 7)), len(vector)))
    return np.asarray(vector + stray - stray.mean(axis=0), np.float32)


def _write_table(path: Path, header: tuple[str, ...], rows: Iterator[tuple[Any, ...]] | list[Any]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
