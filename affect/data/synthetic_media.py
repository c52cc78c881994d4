"""A few generated utterances as files and a table of media: to try the extraction of features without any data."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np

from affect.cache import replace_file
from affect.data import voice

COUNT = 6
SYLLABLES = ("ma ", "ni", "lo ", "ke", "su ", "ta")


def write(folder: Path) -> Path:
    """Write the same recordings of nonsense, and texts, one of them empty, and return the CSV that lists them."""
    rows = []
    for number in range(COUNT):
        rng = np.random.default_rng(number)
        who = voice.speaker("FM"[number % 2], rng)
        how = voice.manner(rng.uniform(-1.0, 1.0), rng.uniform(-1.0, 1.0), rng)
        samples, _ = voice.speak(SYLLABLES, who, how, 0.5 + 0.3 * number, 0.05, rng)
        name = f"utterance_{number}"
        replace_file(folder / f"{name}.wav", voice.wav(samples))
        rows.append((name, f"{name}.wav", "".join(SYLLABLES[number:]) if number else ""))
    table = io.StringIO()
    csv.writer(table).writerows([("name", "audio", "text"), *rows])
    path = folder / "media.csv"
    replace_file(path, table.getvalue().encode("utf-8"))
    return path
