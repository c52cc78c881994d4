"""A small source-filter voice: glottal pulses through moving formants, spoken in a manner that valence and arousal set.

The pulse is Rosenberg's (1971), the formants a cascade of two-pole resonators (Klatt 1980). Nonsense syllables; what
counts is that pitch, tempo, spectral tilt, formants and roughness behave as in emotional speech.
scipy.signal is imported when something is spoken: it takes half a second, and a corpus that is there needs none.
Legend: S samples at 16 kHz, K control points at a 5 ms hop.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import soundfile
from numpy.random import Generator
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
_Score = tuple[Numbers, Numbers, Numbers, Numbers]
"""At control points: pitch [K] in semitones, voice and hiss [K], formants [K, 4] in Hz."""

RATE = 16000
HOP = 80  # samples between control points
VOWELS = {
    "a": (730.0, 1250.0, 2500.0, 3500.0),
    "e": (480.0, 1900.0, 2550.0, 3500.0),
    "i": (300.0, 2200.0, 2900.0, 3600.0),
    "o": (480.0, 900.0, 2450.0, 3400.0),
    "u": (320.0, 800.0, 2300.0, 3300.0),
}
"""Formants (Hz) of a vocal tract of average length."""
BANDWIDTHS = (70.0, 100.0, 140.0, 220.0)
CONSONANTS = {"m": 0.0, "n": 0.0, "l": 0.0, "w": 0.0, "s": 1.0, "f": 0.5, "t": 0.8, "k": 0.6}
"""How much noise a consonant has; without any it is voiced."""


@dataclass(frozen=True, kw_only=True)
class Speaker:
    """Who speaks: base pitch (Hz), formant scale (1 average), syllable rate and level (dB), microphone tilt."""

    pitch: float
    tract: float
    rate: float
    level: float
    tilt: float


@dataclass(frozen=True, kw_only=True)
class Manner:
    """How an utterance is spoken, relative to the speaker's habit.

    `pitch`, `range` (deviation), `contour` (rise over the utterance) and `glide` (rise over a syllable) in semitones,
    `rate` and `spread` (of the formants) factors, `corner` of the source's spectrum (Hz), `level` (dB), `rough`
    (relative deviation of a cycle's length), `breath` (noise through the glottis, over the pulses), `pause` (mean
    seconds between words).
    """

    pitch: float
    range: float
    contour: float
    glide: float
    rate: float
    corner: float
    spread: float
    level: float
    rough: float
    breath: float
    pause: float


def speaker(gender: str, rng: Generator) -> Speaker:
    """Return a random speaker of `gender` "F" or "M"."""
    female = gender == "F"
    return Speaker(
        pitch=(205.0 if female else 115.0) * 2.0 ** (rng.normal(0.0, 1.0) / 12.0),
        tract=(1.12 if female else 1.0) * (1.0 + rng.normal(0.0, 0.02)),
        rate=4.6 * np.exp(rng.normal(0.0, 0.05)),
        level=rng.normal(0.0, 3.0),
        tilt=rng.uniform(-0.15, 0.15),
    )


def manner(valence: float, arousal: float, rng: Generator) -> Manner:
    """Return how one speaks at `valence` and `arousal` (-1..1).

    What is shown strays from what is felt, and each cue from what is shown. Arousal raises pitch, tempo, level and high
    frequencies. Valence lifts the melody and raises the formants, as a smile does; unpleasant speech falls, is rough
    and breathy.
    """
    v, a = valence + rng.normal(0.0, 0.18), arousal + rng.normal(0.0, 0.1)
    return Manner(
        pitch=4.5 * a + rng.normal(0.0, 0.8),
        range=1.6 * float(np.exp(0.35 * v + 0.2 * a + rng.normal(0.0, 0.15))),
        contour=4.0 * v + rng.normal(0.0, 0.8),
        glide=3.0 * v + rng.normal(0.0, 0.5),
        rate=float(np.exp(0.32 * a + rng.normal(0.0, 0.06))),
        corner=1300.0 * float(np.exp(1.1 * a + rng.normal(0.0, 0.2))),
        spread=1.0 + 0.11 * v + rng.normal(0.0, 0.01),
        level=4.0 * a + rng.normal(0.0, 1.5),
        rough=0.008 * float(np.exp(-0.8 * v + 0.2 * a + rng.normal(0.0, 0.2))),
        breath=0.004 * float(np.exp(-1.0 * v + rng.normal(0.0, 0.2))),
        pause=0.12 * float(np.exp(-0.6 * a)),
    )


def speak(
    syllables: Sequence[str], who: Speaker, how: Manner, seconds: float, noise: float, rng: Generator
) -> tuple[NDArray[np.float32], int]:
    """Return `seconds` of speech [S] at 16 kHz and how many syllables were spoken.

    One of `syllables` is a consonant, a vowel and, at the end of a word, a space; they are repeated where too few.
    `noise` is the background's level over the speech's.
    """
    from scipy.signal import lfilter

    count = int(seconds * RATE / HOP) + 1
    (*curves, formants), spoken = _score(count, syllables, who, how, rng)
    size = int(seconds * RATE)
    semitones, voiced, hiss = (np.interp(np.arange(size) / HOP, np.arange(count), curve) for curve in curves)
    source = _source(semitones, voiced, who, how, rng)
    breath = rng.normal(0.0, 1.0, size)
    speech = _formants(source + how.breath * breath * voiced, formants * (who.tract * how.spread))
    speech = speech / max(float(np.sqrt(np.mean(speech**2))), 1e-9)
    speech += 0.5 * hiss * lfilter([1.0, -0.9], [1.0], breath)
    speech = lfilter([1.0, who.tilt], [1.0], speech)
    speech = speech / max(float(np.sqrt(np.mean(speech**2))), 1e-9) + noise * rng.normal(0.0, 1.0, size)
    level = 10.0 ** ((-26.0 + who.level + how.level) / 20.0)
    return np.clip(level * speech, -0.99, 0.99).astype(np.float32), spoken


def syllable(rng: Generator) -> str:
    """Return a nonsense syllable, with a space behind it where it ends a word."""
    end = " " if rng.uniform() < 0.35 else ""
    return f"{rng.choice(list(CONSONANTS))}{rng.choice(list(VOWELS))}{end}"


def wav(samples: NDArray[np.float32]) -> bytes:
    """Return the wav file, of 16 bits, of samples [S]."""
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, format="WAV", subtype="PCM_16")
    return file.getvalue()


def _score(count: int, syllables: Sequence[str], who: Speaker, how: Manner, rng: Generator) -> tuple[_Score, int]:
    """Return what is to be spoken at `count` control points, and how many syllables that is."""
    semitones, voiced, hiss = np.zeros((3, count))
    formants = np.full((count, 4), VOWELS["e"])
    rate = RATE / HOP
    at, spoken = int(0.03 * rate), 0
    margin = count - int(0.05 * rate)
    accents = how.range * rng.normal(0.0, 1.0, 4 * count)
    while True:
        syllable = syllables[spoken % len(syllables)]
        length = int(rate / (who.rate * how.rate) * np.exp(rng.normal(0.0, 0.12)))
        end = at + max(length, 12)
        if end > margin and spoken:
            break
        end = min(end, count)
        onset = min(at + max(int(0.28 * length), 4), end)
        noisy = CONSONANTS[syllable[0]]
        hiss[at:onset] = noisy * np.hanning(onset - at)
        voiced[at:onset] = 0.0 if noisy else 0.35
        voiced[onset:end] = 0.6 + 0.4 * np.hanning(end - onset)
        semitones[at:end] += accents[spoken] + how.glide * np.linspace(-0.5, 0.5, end - at)
        formants[at:end] = VOWELS[syllable[1]]
        at, spoken = end, spoken + 1
        if syllable.endswith(" "):
            at += int(rate * how.pause * rng.uniform(0.4, 1.6))
    semitones += how.contour * np.linspace(-0.5, 0.5, count)
    # muscles are slow: 25 ms of smoothing for voice and melody, 45 ms for the vocal tract
    formants = np.column_stack([_smooth(x, 9) for x in formants.T])
    return (_smooth(semitones, 5), _smooth(voiced, 5), hiss, formants), spoken


def _smooth(x: Numbers, width: int) -> Numbers:
    """Return the running mean of `x` [K], its ends held."""
    return np.convolve(np.pad(x, width // 2, mode="edge"), np.full(width, 1.0 / width), mode="valid")


def _source(semitones: Numbers, voiced: Numbers, who: Speaker, how: Manner, rng: Generator) -> Numbers:
    """Return the derivative of the glottal flow [S], with jitter and shimmer, under the manner's spectral corner."""
    hertz = who.pitch * 2.0 ** ((semitones + how.pitch) / 12.0)
    cycle = np.cumsum(hertz / RATE).astype(np.int64)
    jitter, shimmer = rng.normal(0.0, how.rough, cycle[-1] + 1), rng.normal(0.0, 4.0 * how.rough, cycle[-1] + 1)
    phase = np.cumsum(hertz * (1.0 + jitter[cycle]) / RATE)
    cycle = np.minimum(phase.astype(np.int64), len(shimmer) - 1)
    part = phase % 1.0
    opening, closing = 0.4, 0.16
    rise = 0.5 * (1.0 - np.cos(np.pi * part / opening))
    fall = np.cos(0.5 * np.pi * np.minimum((part - opening) / closing, 1.0))
    flow = np.where(part < opening, rise, fall) * (1.0 + shimmer[cycle])
    from scipy.signal import lfilter

    pole = float(np.exp(-2.0 * np.pi * how.corner / RATE))
    tilted: Numbers = lfilter([1.0 - pole], [1.0, -pole], np.diff(flow, prepend=flow[0]))
    return tilted * voiced


def _formants(source: Numbers, hertz: Numbers) -> Numbers:
    """Return `source` [S] through four resonators that move at `hertz` [K, 4], state carried from 10 ms to 10 ms."""
    from scipy.signal import sosfilt

    step = 2 * HOP
    places = np.minimum(hertz[::2], 7200.0)
    radius = np.exp(-np.pi * np.array(BANDWIDTHS) / RATE)
    sections = np.zeros((len(places), 4, 6))
    sections[:, :, 3] = 1.0
    sections[:, :, 4] = -2.0 * radius * np.cos(2.0 * np.pi * places / RATE)
    sections[:, :, 5] = radius**2
    sections[:, :, 0] = sections[:, :, 3:].sum(axis=2)  # unit gain at 0 Hz
    output = np.empty_like(source)
    state = np.zeros((4, 2))
    for i, start in enumerate(range(0, len(source), step)):
        sos = sections[min(i, len(sections) - 1)]
        output[start : start + step], state = sosfilt(sos, source[start : start + step], zi=state)
    return output
