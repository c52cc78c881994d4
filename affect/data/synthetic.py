"""A generated corpus: ten voices whose prosody follows valence and arousal, on disk as IEMOCAP is.

For trying every part of a training run without a licence; scores on it say nothing about real speech.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np
from numpy.random import Generator

from affect.data import generator, voice
from affect.data.generator import random

VERSION = 1
"""To be raised whenever the same options give other files."""
SESSIONS = 5
MARK = "synthetic.json"
CATEGORIES = dict(neu="Neutral", hap="Happiness", exc="Excited", ang="Anger", fru="Frustration", sad="Sadness")


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a generated corpus is made with: dialogues a session, utterances a dialogue, shortest and longest seconds.

    `noise` is the background's level over the speech's, varied by session.
    """

    dialogues: int = 4
    utterances: int = 12
    seconds: Sequence[float] = (1.0, 3.0)
    noise: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        pair = isinstance(self.seconds, Sequence) and len(self.seconds) == 2
        shortest, longest = self.seconds if pair else (0.0, 0.0)
        rules = {
            "dialogues": (self.dialogues >= 1, "at least 1"),
            "utterances": (self.utterances >= 1, "at least 1"),
            "seconds": (0.3 <= shortest <= longest <= 60.0, "shortest and longest, within 0.3 and 60"),
            "noise": (0.0 <= self.noise <= 10.0, "within 0 and 10"),
            "seed": (self.seed >= 0, "at least 0"),
        }
        generator.check(self, rules)


@dataclass(frozen=True)
class _Turn:
    """An utterance to come: its id, who speaks it, and what is felt (-1..1)."""

    id: str
    gender: str
    valence: float
    arousal: float
    syllables: list[str]


def generate(root: Path, options: Options) -> None:
    """Write five sessions in IEMOCAP's layout under `root` as `generator.write_once` does, those of other options anew.

    Raises AffectError where `root` holds anything but a generated corpus, or the disk refuses.
    """
    facts = generator.description(__name__, VERSION, options)
    generator.write_once(root, MARK, facts, facts.__eq__, lambda folder: _write(folder, options))


def _write(folder: Path, options: Options) -> None:
    for session in range(1, SESSIONS + 1):
        _write_session(folder / f"Session{session}", session, options)


def _write_session(folder: Path, session: int, options: Options) -> None:
    evaluations, transcriptions = folder / "dialog" / "EmoEvaluation", folder / "dialog" / "transcriptions"
    for place in (evaluations, transcriptions):
        place.mkdir(parents=True)
    room = options.noise * float(np.exp(random(options.seed, f"room{session}").normal(0.0, 0.3)))
    who = {gender: voice.speaker(gender, random(options.seed, f"Ses{session:02d}{gender}")) for gender in "FM"}
    for index in range(options.dialogues):
        dialogue, turns = _dialogue(session, index, options)
        wavs = folder / "sentences" / "wav" / dialogue
        wavs.mkdir(parents=True)
        clock = 5.0
        blocks, words = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n"], []
        for turn in turns:
            rng = random(options.seed, turn.id)
            how = voice.manner(turn.valence, turn.arousal, rng)
            length = float(rng.uniform(options.seconds[0], options.seconds[1]))
            samples, count = voice.speak(turn.syllables, who[turn.gender], how, length, room, rng)
            (wavs / f"{turn.id}.wav").write_bytes(voice.wav(samples))
            end = clock + len(samples) / voice.RATE
            blocks.append(_evaluation(turn, clock, end, rng))
            text = "".join(turn.syllables[i % len(turn.syllables)] for i in range(count)).strip().capitalize()
            words.append(f"{turn.id} [{clock:08.4f}-{end:08.4f}]: {text}.\n")
            clock = end + float(rng.uniform(0.2, 0.8))
        (evaluations / f"{dialogue}.txt").write_text("\n".join(blocks) + "\n")
        (transcriptions / f"{dialogue}.txt").write_text("".join(words))


def _dialogue(session: int, index: int, options: Options) -> tuple[str, list[_Turn]]:
    """Return a dialogue's name and turns: improvised and scripted in turn, the scripts the same in every session.

    What is felt goes once around the circle of valence and arousal, so that neither tells of the other.
    """
    number = index // 2
    scene = f"script{number // 3 + 1:02d}_{number % 3 + 1}" if index % 2 else f"impro{number + 1:02d}"
    first = "FM"[number % 2]
    dialogue = f"Ses{session:02d}{first}_{scene}"
    plot = random(options.seed, scene if index % 2 else dialogue)
    turn = plot.uniform() + plot.choice([-1.0, 1.0]) * np.arange(options.utterances) / options.utterances
    angle = 2.0 * np.pi * turn
    radius = 0.65 + 0.3 * np.sin(angle * plot.integers(1, 3) + plot.uniform(0.0, 6.28))
    steps = random(options.seed, f"{dialogue} drift").normal(0.0, 0.08, (options.utterances - 1, 2))
    # A slow random walk around zero.
    stray = np.array(list(accumulate(steps, lambda at, step: 0.8 * at + step, initial=np.zeros(2))))
    felt = np.clip(np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1) + stray, -1.0, 1.0)
    turns: list[_Turn] = []
    spoken = Counter[str]()
    for valence, arousal in felt:
        gender = first if len(turns) % 2 == 0 else "FM".replace(first, "")
        name = f"{dialogue}_{gender}{spoken[gender]:03d}"
        spoken[gender] += 1
        turns.append(_Turn(name, gender, float(valence), float(arousal), [voice.syllable(plot) for _ in range(40)]))
    return dialogue, turns


def _evaluation(turn: _Turn, start: float, end: float, rng: Generator) -> str:
    """Return the lines of an utterance: the evaluators' mean and majority, then each of them and the self-rating."""
    felt = np.array([turn.valence, turn.arousal, 0.25 * turn.valence + 0.55 * turn.arousal])
    ratings = {
        who: np.clip(np.rint(3.0 + 2.0 * felt + rng.normal(0.0, 0.45, 3)), 1, 5).astype(int)
        for who in ("E2", "E3", "E4", f"{turn.gender}1")
    }
    raters = ("E2", "E3", "E4")  # the self-rating counts for neither mean nor majority
    mean = np.mean([ratings[who] for who in raters], axis=0)
    chosen = {who: _category((v - 3.0) / 2.0, (a - 3.0) / 2.0) for who, (v, a, _) in ratings.items()}
    votes = Counter(chosen[who] for who in raters).most_common(2)
    emotion = votes[0][0] if votes[0][1] > 1 else "xxx"
    label = ", ".join(f"{x:.4f}" for x in mean)
    lines = [f"[{start:.4f} - {end:.4f}]\t{turn.id}\t{emotion}\t[{label}]"]
    lines += [f"C-{who}:\t{CATEGORIES[chosen[who]]};\t()" for who in ratings]
    lines += [f"A-{who}:\tval {v}; act {a}; dom  {d};\t()" for who, (v, a, d) in ratings.items()]
    return "\n".join(lines) + "\n"


def _category(valence: float, arousal: float) -> str:
    """Return the emotion of a place on the circle."""
    if abs(valence) < 0.25 and abs(arousal) < 0.75:
        return "neu"
    if abs(arousal) < 0.4:
        return "hap" if valence > 0 else "fru"
    if arousal < 0:
        return "hap" if valence > 0 else "sad"
    return "ang" if valence < 0 else "exc"
