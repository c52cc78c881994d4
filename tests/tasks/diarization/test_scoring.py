"""Scores of files and of dicts of turns: fifty small cases, published pairs, what is warned of, and the pages."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from affect.data.rttm import Turn, read_rttm, read_uem
from affect.errors import AffectError
from affect.metrics.diarization import Errors
from affect.tasks.diarization.scoring import Score, score_files, score_recordings
from tests.tasks.diarization.cases import CASES, Case, files


def test_there_are_fifty():
    assert [case.number for case in CASES] == list(range(1, 51))


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.number} {case.name}")
def test_a_case_that_scorers_disagree_about(case: Case, tmp_path: Path):
    scores = score_files(*files(tmp_path, case), **case.options)
    total = scores.total
    seconds = (total.errors.missed, total.errors.false_alarm, total.errors.confusion, total.errors.speech)
    assert seconds == pytest.approx(case.seconds, abs=1e-6)
    for rate, percent in ((total.der, case.der), (total.jer, case.jer)):
        assert 100 * rate == pytest.approx(math.nan if percent is None else percent, abs=5e-5, nan_ok=True)
    expected = [*case.warnings, *["no UEM"] * (not case.uem and "no UEM" not in case.warnings)]
    for words in expected:
        assert sum(words in warning for warning in scores.warnings) == 1, words
    assert len(scores.warnings) == len(expected), scores.warnings
    # A number where speech is scored, a dash where none is: in the table, too.
    row = scores.markdown().split("| total ")[1].split("|")
    shown = "-" if case.der is None else f"{case.der:.2f}" if case.der > 0.1 or not case.der else f"{case.der:.4f}"
    assert row[1].strip() == shown
    assert json.loads(scores.json())["total"]["der"] == (None if case.der is None else pytest.approx(total.der))


def test_a_silent_recording_has_a_dash_and_a_collar_its_meaning(tmp_path):
    (silent,), (collar,) = ([case for case in CASES if case.number == number] for number in (35, 13))
    page = score_files(*files(tmp_path, silent)).markdown()
    (row,) = [line for line in page.splitlines() if line.startswith("| g ")]
    assert [cell.strip() for cell in row.strip("|").split("|")] == [
        *("g", "-", "0.000", "5.000", "0.000", "0.000", "-", "0", "1", "+1"),
    ]
    assert "- no scored speech: g\n- md-eval and dscore leave these out: 5.000 s" in page
    assert "collar 0.25 s each side, overlap scored" in score_files(*files(tmp_path, collar), collar=0.25).markdown()


# Published pairs


@pytest.mark.parametrize(
    ("collar", "skip_overlap", "der", "seconds"),
    [
        (0.0, False, 16.3348, (4246.565, 0, 908.48, 31558.655)),
        (0.25, False, 9.6789, (1959.86, 0, 340.9, 23770.795)),
        (0.25, True, 1.5593, (0, 0, 311.48, 19976.195)),
        (0.0, True, 3.4199, (0.54, 0, 801.53, 23453.095)),
    ],
)
def test_vbx_on_ami_as_published(real_data: Path, collar, skip_overlap, der, seconds):
    folder = real_data / "rttm_pairs"
    scores = score_files(
        folder / "ami_ref", folder / "vbx_headset_dev", folder / "ami_uem", collar=collar, skip_overlap=skip_overlap
    )
    errors = scores.total.errors
    assert len(scores.recordings) == 18
    assert 100 * scores.total.der == pytest.approx(der, abs=5e-5)
    assert (errors.missed, errors.false_alarm, errors.confusion, errors.speech) == pytest.approx(seconds, abs=1e-3)
    assert 100 * scores.total.jer == pytest.approx(20.5632, abs=5e-5)


@pytest.mark.parametrize(
    ("collar", "skip_overlap", "der"),
    [(0.0, False, 26.3931), (0.25, False, 24.0114), (0.0, True, 23.3559), (0.25, True, 21.5329)],
)
def test_the_toy_pair_as_published(real_data: Path, collar, skip_overlap, der):
    folder = real_data / "rttm_pairs" / "dscore_toy"
    scores = score_files(folder / "ref.rttm", folder / "sys.rttm", collar=collar, skip_overlap=skip_overlap)
    assert 100 * scores.total.der == pytest.approx(der, abs=5e-5)
    assert 100 * scores.total.jer == pytest.approx(33.2171, abs=5e-5)
    # dscore counts JER on a grid of 10 ms.
    assert 100 * scores.total.jer == pytest.approx(33.23, abs=0.05)


# Recordings


def test_recordings_are_scored_as_files_are(tmp_path):
    case = next(case for case in CASES if case.number == 42)
    reference, hypothesis, _ = files(tmp_path, case)
    scores = score_recordings(dict(read_rttm(reference)), dict(read_rttm(hypothesis)))
    assert scores == score_files(reference, hypothesis)
    assert scores.recordings["f"] == Score(
        errors=Errors(0, 0, 5, 10), jaccard=(0.5, 1.0), speakers=2, predicted_speakers=1, miscounts=(-1,)
    )
    assert scores.recordings["f"] + scores.recordings["g"] == scores.total
    assert (scores.total.speakers, scores.total.predicted_speakers, scores.total.speaker_count_error) == (3, 2, 0.5)


def test_silent_missing_and_extra_recordings():
    spoken, silent = [Turn(0, 10, "A")], list[Turn]()
    references = {"a": spoken, "b": spoken, "c": silent, "d": silent}
    hypotheses = {"a": [Turn(0, 10, "X")], "d": [Turn(0, 5, "X")], "e": spoken, "empty": silent}
    scores = score_recordings(references, hypotheses)
    assert scores.total.errors == Errors(10, 5, 0, 20)
    assert scores.total.jer == 0.5
    assert [name for name, score in scores.recordings.items() if math.isnan(score.der)] == ["c", "d"]
    assert scores.warnings == (
        "no UEM: scored is the extent of reference and hypothesis together",
        "not in the hypothesis, so all missed: b",
        "not in the reference, so left out: e",
        "no scored speech: c, d",
        "md-eval and dscore leave these out: 5.000 s of false alarms, which are in the total",
    )
    # A UEM says what is scored: of b half, of d nothing, and nobody speaks in e.
    uems = {"a": [(0, 20)], "b": [(0, 5)], "e": [(0, 4)]}
    scores = score_recordings(references, hypotheses, uems)
    assert [*scores.recordings] == ["a", "b", "e"]
    assert scores.total.errors == Errors(5, 4, 0, 15)
    assert "not in the UEM, so left out: c, d" in scores.warnings


def test_many_names_are_the_first_and_their_number():
    references = {f"r{number:02}": [Turn(0, 1, "A")] for number in range(12)}
    (warning,) = [text for text in score_recordings(references, {}).warnings if "missed" in text]
    assert warning.endswith("r08, r09 and 2 more")


def test_turns_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="times are finite"):
        score_recordings({"f": [Turn(2, 1, "A")]}, {})


def test_no_recording_has_no_score():
    scores = score_recordings({}, {})
    assert (
        math.isnan(scores.total.der) and math.isnan(scores.total.jer) and math.isnan(scores.total.speaker_count_error)
    )


def test_folders_are_all_their_files_and_an_empty_one_is_silent(tmp_path):
    line = "SPEAKER {} 1 0 10 <NA> <NA> A <NA> <NA>\n"
    sides = [tmp_path / "ref", tmp_path / "hyp"]
    for side in sides:
        side.mkdir()
        (side / "f.rttm").write_text(line.format("f"))
    (sides[0] / "g.rttm").write_text("")
    (sides[1] / "g.rttm").write_text(line.format("g").replace(" 10 ", " 5 "))
    assert score_files(*sides).total.errors == Errors(0, 5, 0, 10)
    (sides[1] / "copy.rttm").write_text(line.format("f").replace(" 0 10 ", " 20 10 "))
    assert "hypothesis: several files were joined: f" in score_files(*sides).warnings


def test_nothing_to_score_is_one_line(tmp_path):
    for name in ("ref.rttm", "hyp.rttm", "all.uem"):
        (tmp_path / name).write_text("")
    paths = [tmp_path / name for name in ("ref.rttm", "hyp.rttm", "all.uem")]
    with pytest.raises(AffectError, match="nothing to score: .*ref.rttm names no recording"):
        score_files(*paths[:2])
    with pytest.raises(AffectError, match="nothing to score: .*all.uem names no recording"):
        score_files(*paths)
    assert read_uem(paths[2]) == {}
