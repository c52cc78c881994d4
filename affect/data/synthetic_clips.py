"""Generated clips of a talking face, drawn, with scores: to try a model of clips without any data.

The mouth opens with the voice: late where lip sync is bad. The picture is blurred and pale, and the voice noisy, where
the clip is bad altogether. A clip is a source through a generator, and both have a quality. Scores of it say nothing of
real ones.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from affect.data import generator, voice
from affect.data.generator import random
from affect.data.synthetic_media import SYLLABLES

VERSION = 1
"""To be raised whenever the same settings give other clips."""
MARK, TABLE, FOLDER, BOXES = "generator.json", "scores.csv", "clips", "boxes"
FPS, SIDE = 10, 48
_LATE = 0.6
"""Seconds by which the mouth is late at most."""
_NAMES = ("train", "val", "test")


@dataclass(frozen=True, kw_only=True)
class ClipSettings:
    """How many clips, sources (two of an identity) and generators there are, and how long a clip is, in seconds.

    Raises AffectError for a value that makes no corpus.
    """

    clips: int = 60
    sources: int = 12
    generators: int = 4
    seconds: tuple[float, float] = (1.0, 2.0)
    seed: int = 0

    def __post_init__(self) -> None:
        rules = {
            "clips": (self.clips >= self.sources, "at least one a source"),
            "sources": (self.sources >= 6 and self.sources % 2 == 0, "even, at least 6"),
            "generators": (self.generators >= 2, "at least 2"),
            "seconds": (0.3 <= self.seconds[0] <= self.seconds[1], "shortest and longest, at least .3"),
            "seed": (self.seed >= 0, "at least 0"),
        }
        generator.check(self, rules)


def generate(root: Path, settings: ClipSettings) -> Path:
    """Write `root`/clips, /boxes and /scores.csv as `generator.write_once` does, and return `root`.

    Raises AffectError where `root` holds anything else, or the disk refuses.
    """
    facts = generator.description(__name__, VERSION, settings)
    generator.write_once(root, MARK, facts, facts.__eq__, lambda folder: _write(folder, settings))
    return root


def _write(folder: Path, settings: ClipSettings) -> None:
    for name in (FOLDER, BOXES):
        (folder / name).mkdir(parents=True)
    quality = random(settings.seed, "generators").normal(0, 1, settings.generators)
    own = random(settings.seed, "sources").normal(0, 0.5, settings.sources)
    rows = []
    for k in range(settings.clips):
        rng = random(settings.seed, f"clip {k}")
        source, kind = k % settings.sources, int(rng.integers(settings.generators))
        lips, looks = (quality[kind] + own[source] + rng.normal(0, 1, 2)).tolist()
        lips, looks = (1 / (1 + np.exp(-1.5 * value)) for value in (lips, looks))
        seconds = float(rng.uniform(*settings.seconds))
        name = f"{source}_voice_{k}_g{kind}"
        left = int(rng.integers(4, SIDE // 3))
        (folder / FOLDER / f"{name}.mp4").write_bytes(_clip(source, left, seconds, lips, looks, rng))
        (folder / BOXES / f"{name}.csv").write_text(_faces(left, round(seconds * FPS)), encoding="utf-8")
        part = _NAMES[max(0, source // 2 - (settings.sources // 2 - 3))]
        rows.append([name, part, str(source // 2), str(source), f"g{kind}", 1 + 4 * lips, 1 + 4 * (lips + looks) / 2])
    text = io.StringIO()
    header = ["name", "split", "identity", "source", "generator", "lip_sync_score", "overall_score"]
    csv.writer(text).writerows([header, *([*row[:5], *(f"{v:.4f}" for v in row[5:])] for row in rows)])
    (folder / TABLE).write_text(text.getvalue(), encoding="utf-8")


def _clip(source: int, left: int, seconds: float, lips: float, looks: float, rng: Generator) -> bytes:
    """Return the mp4 of a clip whose quality of lip sync and of picture and voice lie in (0, 1)."""
    who = voice.speaker("FM"[source // 2 % 2], np.random.default_rng(source // 2))
    how = voice.manner(0.0, 0.0, rng)
    sound, _ = voice.speak(SYLLABLES, who, how, seconds, 0.02 + 0.4 * (1 - looks), rng)
    count = round(seconds * FPS)
    hop = voice.RATE // FPS
    padded = np.pad(sound, (0, max(0, count * hop - len(sound))))[: count * hop]
    level = np.sqrt((padded.reshape(count, hop) ** 2).mean(1))
    open_ = np.roll(level / (level.max() + 1e-6), round(_LATE * (1 - lips) * FPS))
    skin = np.random.default_rng(source // 2).uniform(90, 220, 3)
    images = [_face(value, left, skin, 3 * (1 - looks), rng) for value in open_.tolist()]
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        film = container.add_stream("mpeg4", rate=FPS)
        film.width = film.height = SIDE
        film.pix_fmt, film.bit_rate = "yuv420p", 400_000
        track = container.add_stream("aac", rate=voice.RATE, layout="mono")
        for image in images:
            container.mux(film.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(film.encode(None))
        heard = av.AudioFrame.from_ndarray(padded[None].astype(np.float32), format="fltp", layout="mono")
        heard.sample_rate = voice.RATE
        container.mux(track.encode(heard))
        container.mux(track.encode(None))
    return file.getvalue()


def _face(open_: float, left: int, skin: NDArray[np.float64], blur: float, rng: Generator) -> NDArray[np.uint8]:
    """Return an image [SIDE, SIDE, 3] of a face from the column `left` on, its mouth open by 0 to 1."""
    y, x = np.mgrid[:SIDE, :SIDE]
    middle, wide = left + SIDE / 4, SIDE / 4

    def inside(across: float, down: float, width: float, height: float) -> NDArray[np.bool_]:
        return np.asarray(((x - across) / width) ** 2 + ((y - down) / height) ** 2 < 1)

    image = np.full((SIDE, SIDE, 3), 40.0) + rng.normal(0, 3, (SIDE, SIDE, 1))
    image[inside(middle, SIDE / 2, wide, SIDE * 0.42)] = skin
    for eye in (-0.4, 0.4):
        image[inside(middle + eye * wide, SIDE * 0.38, 2, 2)] = 20
    image[inside(middle, SIDE * 0.7, wide * 0.4, 1 + 5 * open_)] = (110, 20, 30)
    reach = round(blur)
    if reach:
        moved = [np.roll(image, (down, across), (0, 1)) for down in (-reach, 0, reach) for across in (-reach, 0, reach)]
        image = np.mean(moved, axis=0)
    pale = 110 + (image - 110) * (1 - blur / 4)
    return np.asarray(np.clip(pale, 0, 255), np.uint8)


def _faces(left: int, count: int) -> str:
    """Return the table of boxes of a clip, as py-feat writes it."""
    head = "frame,FaceRectX,FaceRectY,FaceRectWidth,FaceRectHeight,FaceScore"
    box = f"{left},{SIDE * 0.08:g},{SIDE // 2},{SIDE * 0.84:g},0.99"
    return "\n".join([head, *(f"{frame},{box}" for frame in range(count))]) + "\n"
