"""What the generated trimodal corpus is made of: six emotions, and the part of the evidence that each modality carries.

Audio tells mostly of arousal, text of pleasantness, video of smiles and of wide eyes; the three overlap.
In every modality the speaker's own directions are stronger than the emotion's, as they are in real encoders' features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from affect.data.generator import random

EMOTIONS = ("neutral", "angry", "happy", "sad", "worried", "surprise")
COUNTS = (871, 822, 689, 383, 462, 146)
"""Utterances of each emotion in MER2023's training part, whose shares every generated part has."""
MODALITIES = ("audio", "text", "video")
PLEASANTNESS = (0.0, -3.2, 3.0, -3.0, -2.0, 0.4)
"""Mean valence of each emotion at full intensity, on MER2023's scale of -5 to 4.25."""

_EVIDENCE: dict[str, tuple[tuple[float, ...], ...]] = {
    # by emotion: arousal, tension of the voice
    "audio": ((-0.5, -0.7), (1.1, 0.7), (0.6, -0.6), (-1.1, 0.1), (-0.2, 0.9), (0.9, 0.0)),
    # pleasantness, talk of what may come
    "text": ((0.1, -0.5), (-1.0, -0.6), (1.2, -0.2), (-0.9, 0.2), (-0.5, 1.1), (0.4, 0.6)),
    # smile, wide eyes, frown
    "video": ((-0.3, -0.4, -0.6), (-0.5, 0.1, 1.0), (1.3, -0.1, -0.3), (-0.4, -0.6, 0.3), (-0.4, 0.1, 0.3),
              (0.1, 1.5, -0.2)),
}  # fmt: skip
_DOUBT = 0.6
"""Standard deviation of the evidence about its emotion's mean, at noise 1."""
_SPEAKERS = {"train": 40, "test1": 12, "test2": 12, "test3": 12}
_TRAITS = 6
"""Directions by which speakers differ in a modality."""
_TRAIT = 1.8
"""Standard deviation of a speaker's trait; the evidence's is about 1."""
_GRAIN = 0.35
"""Standard deviation of what is left of a feature, at noise 1, where its evidence and traits have about 2."""
_OFFSET = 4.0
"""Standard deviation of the features' means, where a feature varies by about 2: any two vectors are nearly parallel
(cosine about .8), as transformers' are, and a zero vector is like none of them."""
_INTENSITY = {"train": (0.55, 1.15), "test1": (0.55, 1.15), "test2": (0.55, 1.15), "test3": (0.8, 1.3)}
_SIZE = {"audio": 0.3, "text": 1.0, "video": 0.4}

_PEOPLE = (("我妈妈", "My mother"), ("老师", "The teacher"), ("他", "He"), ("她", "She"), ("那个孩子", "That child"))
_SAYINGS: dict[str, tuple[tuple[str, str], ...]] = {
    "neutral": (("明天去上班", "goes to work tomorrow"), ("在门口等车", "is waiting for the bus at the door")),
    "angry": (("凭什么这样骗我", "had no right to lie to me"), ("再也不许进这个家", "must never come here again")),
    "happy": (("终于考上了", "passed the exam at last"), ("给我带来了好消息", "brought me good news")),
    "sad": (("再也不会回来了", "will never come back"), ("一个人哭了很久", "cried alone for a long time")),
    "worried": (("怎么还没有到家", "should have been home by now"), ("会不会出什么事", "may have come to harm")),
    "surprise": (("怎么会在这里", "is here, of all places"), ("居然会说法语", "speaks French, would you believe it")),
}


@dataclass(frozen=True)
class Part:
    """Utterances of a part: emotion [N] (index), valence [N] (NaN where the corpus has none), features [N, D] each."""

    emotion: NDArray[np.int64]
    valence: NDArray[np.float64]
    features: dict[str, NDArray[np.float32]]


def counts(total: int) -> NDArray[np.int64]:
    """Return how many of `total` utterances have each emotion [6]: MER2023's shares, at least one of each from 6 on."""
    least = 1 if total >= len(EMOTIONS) else 0
    exact = np.asarray(COUNTS) / sum(COUNTS) * (total - least * len(EMOTIONS))
    whole = np.floor(exact).astype(np.int64)
    rest = total - least * len(EMOTIONS) - int(whole.sum())
    whole[np.argsort(whole - exact, kind="stable")[:rest]] += 1
    return whole + least


def sample(part: str, total: int, widths: tuple[int, int, int], noise: float, seed: int) -> Part:
    """Return `total` utterances of a part whose features have these widths (audio, text, video).

    `noise` multiplies the power of all that hides the emotion. In test2 the audio is noisy besides, some of the video
    blurred; test3 is played stronger than the rest.
    """
    rng = random(seed, part)
    emotion = rng.permutation(np.repeat(np.arange(len(EMOTIONS)), counts(total)))
    intensity = rng.uniform(*_INTENSITY[part], total)
    speaker = rng.integers(_SPEAKERS[part], size=total)
    features = {}
    for modality, width in zip(MODALITIES, widths, strict=True):
        own = random(seed, f"{part} {modality}")
        evidence = np.asarray(_EVIDENCE[modality])[emotion] * intensity[:, None]
        evidence += own.normal(0.0, _DOUBT * noise**0.5, evidence.shape)
        traits = own.normal(0.0, _TRAIT, (_SPEAKERS[part], _TRAITS))[speaker]
        # The encoder, which is the same for all parts: evidence and traits to D features, each with scale and offset.
        encoder, kinds = random(seed, f"encoder {modality}"), evidence.shape[1]
        maps = encoder.normal(0.0, 1.0, (kinds + _TRAITS, width))
        scale = _SIZE[modality] * np.exp(encoder.normal(0.0, 0.4, width))
        offset = encoder.normal(0.0, _OFFSET, width) * scale
        deviation = evidence @ maps[:kinds] / kinds**0.5 + traits @ (maps[kinds:] / _TRAITS**0.5)
        deviation += own.normal(0.0, _GRAIN * noise**0.5, (total, width))
        if part == "test2":
            deviation = _corrupt(modality, deviation, noise, own)
        features[modality] = (offset + scale * deviation).astype(np.float32)
    return Part(emotion, _valence(part, emotion, intensity, rng), features)


def _corrupt(modality: str, deviation: NDArray[np.float64], noise: float, rng: Generator) -> NDArray[np.float64]:
    """Return deviations [N, D] as in a noisy part: audio at 5 to 10 dB (at noise 1), a share of the video blurred."""
    total = len(deviation)
    if modality == "audio":
        ratio = rng.uniform(5.0, 10.0, (total, 1)) - 10.0 * np.log10(noise)
        power = np.mean(deviation**2, axis=1, keepdims=True) / 10.0 ** (ratio / 10.0)
        return np.asarray(deviation + rng.normal(size=deviation.shape) * np.sqrt(power))
    if modality == "video":
        blurred = rng.permutation(total) < round(min(1.0, 0.5 * noise) * total)
        # a blurred face has less of everything that tells faces apart
        return np.asarray(np.where(blurred[:, None], deviation * rng.uniform(0.3, 0.7, (total, 1)), deviation))
    return deviation


def _valence(
    part: str, emotion: NDArray[np.int64], intensity: NDArray[np.float64], rng: Generator
) -> NDArray[np.float64]:
    """Return valence [N] in steps of .25 within -5 and 4.25; NaN in test3, which has none."""
    if part == "test3":
        return np.full(len(emotion), np.nan)
    felt = np.asarray(PLEASANTNESS)[emotion] * intensity + rng.normal(0.0, 0.5, len(emotion))
    return np.asarray(np.clip(np.rint(felt * 4.0) / 4.0, -5.0, 4.25))


def sentence(emotion: str, rng: Generator) -> tuple[str, str]:
    """Return a short made-up sentence of this emotion in Chinese and in English, the same one twice."""
    who = _PEOPLE[rng.integers(len(_PEOPLE))]
    saying = _SAYINGS[emotion][rng.integers(len(_SAYINGS[emotion]))]
    return f"{who[0]}{saying[0]}。", f"{who[1]} {saying[1]}."
