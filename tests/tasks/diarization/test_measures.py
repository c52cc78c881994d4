"""Measures of rows against numbers by hand, and what a bootstrap makes of them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from affect import report
from affect.metrics.bootstrap import draws
from affect.report import Study
from affect.report.compare import compare
from affect.report.systems import Groups, System
from affect.tasks.diarization.measures import MEASURES, errors_by_overlap, errors_of
from affect.tasks.diarization.trivial import NAMES, trivially
from tests.tasks.diarization.runs import PARTS, conversation, dump, rows, written

MEASURE = {measure.name: measure for measure in MEASURES}


def row(prediction: list, target: list, seconds: float = 10.0) -> dict:
    return {
        "id": "a", "prediction": {"turns": prediction}, "target": {"turns": target}, "uem": [[0.0, seconds]],
        "seconds": seconds, "speakers": len({speaker for *_, speaker in target}), "overlap": 0.0,
    }  # fmt: skip


def test_rates_by_hand():
    """Of 8 s one is missed, one is falsely told and two are another's."""
    one = row([[0, 3, "x"], [4, 7, "y"], [7, 9, "x"]], [[0, 4, "a"], [4, 8, "b"]])
    scores = {name: measure.score([one]) for name, measure in MEASURE.items()}
    assert scores["missed"] == pytest.approx(1 / 8)
    assert scores["false_alarm"] == pytest.approx(1 / 8)
    assert scores["confusion"] == pytest.approx(1 / 8)
    assert scores["der"] == pytest.approx(3 / 8)
    assert scores["speaker_count_error"] == 0
    # Too few for a second, too many for another, of ten.
    assert scores["counted"] == pytest.approx(0.2)


def test_report_004s_der_does_not_ask_who_speaks():
    swapped = row([[0, 4, "x"], [4, 8, "x"]], [[0, 4, "a"], [4, 8, "b"]])
    assert MEASURE["counted"].score([swapped]) == 0
    assert MEASURE["der"].score([swapped]) == 0.5


def test_all_silence_by_both():
    silent = [trivially(each, "silence") for each in rows("test_2_speakers_8s")]
    assert MEASURE["der"].score(silent) == 1
    speech = sum(min(b, 8.0) - a for a, b, _ in silent[0]["target"]["turns"])
    assert MEASURE["counted"].score(silent) == pytest.approx(speech / 8, abs=0.01)


def test_recordings_weigh_by_their_speech():
    both = [conversation("a", 2, 8.0), conversation("b", 2, 32.0, "silent")]
    one, other = (errors_of([each]) for each in both)
    wrong = one.missed + one.false_alarm + one.confusion + other.missed
    assert MEASURE["der"].score(both) == pytest.approx(wrong / (one.speech + other.speech))


def test_errors_by_overlap_add_up():
    each = [conversation("a", 3, 9.0, "one", 0.3), conversation("b", 2, 8.0, "split", 0.2)]
    alone, several = errors_by_overlap(each)
    whole = errors_of(each)
    for name in ("missed", "false_alarm", "confusion", "speech"):
        assert getattr(alone, name) + getattr(several, name) == pytest.approx(getattr(whole, name))
    assert several.speech > 0 and several.false_alarm == 0


def test_trivial_models_by_hand():
    """Two speakers for 2 s each way and 1 s of both: 6 s of speech in 5 of 10 s."""
    whole = row([], [[0, 3, "a"], [2, 5, "b"]])
    rates = {name: MEASURE["der"].score([trivially(whole, name)]) for name in NAMES}
    assert rates == pytest.approx(
        {"silence": 1.0, "one_speaker": 8 / 6, "all_speakers": 14 / 6, "oracle_speech": 3 / 6}
    )


@pytest.mark.parametrize("name", [*MEASURE])
def test_replicates_are_scores_of_resampled_rows(name):
    each = [*rows("test_2_speakers_8s", 4), *rows("test_3_speakers_8s", 3, "one")]
    groups = np.arange(len(each))
    replicates = MEASURE[name].replicates(each, groups)
    counts = draws(len(each), 1000, 0)
    for place in (0, 500, 999):
        drawn = [row for row, count in zip(each, counts[place], strict=True) for _ in range(int(count))]
        assert replicates[place] == pytest.approx(MEASURE[name].score(drawn))


def test_a_row_that_a_model_lacks_adds_nothing_to_a_resampling():
    """As where one of two runs has fewer predictions."""
    each = rows("test_2_speakers_8s", 5)
    whole = System(units={(0, 1): {row["id"]: row for row in each}})
    short = System(units={(0, 1): {row["id"]: row for row in each[:4]}})
    groups = Groups.of(whole.keys(False), (), False)
    sampled = short.sampled(MEASURE["der"], groups, False)
    assert sampled.value == MEASURE["der"].score(each[:4])
    assert sampled.estimate.bounded


def test_nothing_said_of_no_speech():
    silent = row([], [])
    assert math.isnan(MEASURE["der"].score([silent]))
    assert MEASURE["counted"].score([silent]) == 0


def test_experiments_whose_conversations_differ_are_compared_on_what_they_share(tmp_path):
    """Simulated by other rules they bear the same names: a comparison takes the targets away that differ."""
    here, there = (written(tmp_path / name) for name in ("here", "there"))
    path = tmp_path / "there" / "seed0" / "fold1" / f"predictions-{PARTS[0]}.jsonl"
    made = rows(PARTS[0])
    dump(path, [made[0] | {"target": {"turns": [[0.0, 4.0, "s0"]]}}, *made[1:]])
    there = Study(runs=report.read(tmp_path / "there"), name="there")
    compared = compare(here, there)
    headline = {one.evaluation: one.estimate.value for one in compared.differences if one.measure.name == "der"}
    assert headline == dict.fromkeys((*PARTS, "valid"), 0.0)
    assert any("label" in note for note in compared.notes)
