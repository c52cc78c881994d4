"""Trivial and ideal diarizations, with numbers by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from affect.baselines.turns import (
    ONE,
    all_speakers,
    one_speaker,
    oracle_speech,
    perfect_activity,
    perfect_assignment,
    silence,
)
from affect.data.rttm import read_rttm, read_uem
from affect.metrics.diarization import Segment, errors, score

REFERENCE: list[Segment] = [(0, 6, "A"), (4, 10, "B"), (12, 14, "A")]


def parts(prediction: list[Segment], reference: list[Segment] = REFERENCE, **options) -> list[float]:
    found = errors(prediction, reference, **options)
    return [found.missed, found.false_alarm, found.confusion, found.speech]


def test_silence_misses_all():
    assert silence(REFERENCE) == []
    assert parts(silence(REFERENCE)) == [14, 0, 0, 14]


def test_one_speaker_always():
    assert one_speaker(REFERENCE) == [(0, 14, ONE)]
    # Missed: one of two in 4 to 6; made up: 10 to 12; of what is left A has 8 s, B the other 4.
    assert parts(one_speaker(REFERENCE)) == [2, 2, 4, 14]
    uem = [(0.0, 5.0), (5.0, 10.0), (20.0, 21.0)]
    assert one_speaker(REFERENCE, uem) == [(0, 10, ONE), (20, 21, ONE)]
    assert parts(one_speaker(REFERENCE, uem), uem=uem) == [2, 1, 4, 12]
    assert one_speaker([]) == []
    assert one_speaker([], [(0, 5)]) == [(0, 5, ONE)]


def test_all_speakers_always():
    assert all_speakers(REFERENCE) == [(0, 14, "A"), (0, 14, "B")]
    # Of twice 14 s 8 are A's and 6 are B's; the rest is made up.
    assert parts(all_speakers(REFERENCE)) == [0, 14, 0, 14]
    uem = [(0.0, 5.0), (12.0, 20.0)]
    assert all_speakers(REFERENCE, uem) == [(0, 5, "A"), (12, 20, "A"), (0, 5, "B"), (12, 20, "B")]
    assert parts(all_speakers(REFERENCE, uem), uem=uem) == [0, 18, 0, 8]
    assert all_speakers([], [(0, 5)]) == all_speakers([]) == []


def test_oracle_speech_as_one_speaker():
    assert oracle_speech(REFERENCE) == [(0, 10, ONE), (12, 14, ONE)]
    assert parts(oracle_speech(REFERENCE)) == [2, 0, 4, 14]


def test_perfect_activity_leaves_confusion():
    """X is right for A and Y for B: what is missed goes to who spoke last, then to who is next."""
    hypothesis = [(0, 5, "X"), (1, 2, "Y"), (8, 9, "Y"), (11, 12, "X")]
    ideal = perfect_activity(hypothesis, REFERENCE)
    # Two in 4 to 6: Y spoke before, too. In 6 to 8 it is X, who spoke last, though B speaks.
    assert ideal == [(0, 8, "X"), (4, 6, "Y"), (8, 10, "Y"), (12, 14, "X")]
    assert parts(ideal) == [0, 0, 2, 14]
    # Nobody in the hypothesis: oracle speech, as far as one speaker goes.
    two = [(0, 6, "A"), (6, 8, "B")]
    assert parts(perfect_activity([], two), two) == [0, 0, 2, 8]


def test_perfect_assignment_leaves_missed_speech_and_false_alarms():
    hypothesis = [(0, 8, "X"), (5, 7, "Y"), (11, 13, "Y")]
    ideal = perfect_assignment(hypothesis, REFERENCE)
    # X is A, and Y is B; in 6 to 7 one speaks too many, in 11 to 12 nobody should.
    assert parts(hypothesis) == [4, 2, 2, 14]
    assert ideal == [(0, 6, "A"), (5, 8, "B"), (6, 7, "nobody 1"), (11, 12, "nobody 1"), (12, 13, "A")]
    assert parts(ideal) == [4, 2, 0, 14]


@pytest.mark.parametrize("seed", range(20))
def test_ideal_parts_of_random_turns(seed):
    random = np.random.default_rng(seed)

    def talk(names: str) -> list[Segment]:
        starts, lengths = random.uniform(0, 60, 15).round(2).tolist(), random.exponential(4, 15).round(2).tolist()
        return [
            (start, start + length, str(name))
            for start, length, name in zip(starts, lengths, random.choice(list(names), 15), strict=True)
        ]

    reference, hypothesis = talk("ABC"), talk("WXYZ")
    missed, false_alarm, _, speech = parts(hypothesis, reference)
    assert parts(perfect_assignment(hypothesis, reference), reference) == pytest.approx(
        [missed, false_alarm, 0, speech], abs=1e-6
    )
    *nothing, confusion, speech = parts(perfect_activity(hypothesis, reference), reference)
    assert nothing == pytest.approx([0, 0], abs=1e-6)
    assert 0 <= confusion < speech


def test_oracle_speech_of_real_meetings(real_data: Path):
    folder = real_data / "ami_excerpts"
    references, uems = read_rttm(folder / "debug.development.rttm"), read_uem(folder / "debug.development.uem")
    names = ["dev00", "dev01"]
    found = score(
        [oracle_speech(references[name]) for name in names],
        [references[name] for name in names],
        uems=[uems[name] for name in names],
    )
    assert 100 * found["der"] == pytest.approx(31.8, abs=0.05)
