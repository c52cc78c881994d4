"""`affect score REF HYP`: the page and JSON, files and folders, and mistakes in one line."""

from __future__ import annotations

import json

import pytest

from tests.launching import assert_one_line
from tests.tasks.diarization.cases import CASES, files

PAGE = """\
2 recordings, collar 0 s, overlap scored

| recording | DER % | missed s | false alarm s | confusion s | speech s | JER % | speakers | predicted | count error |
| --------- | ----: | -------: | ------------: | ----------: | -------: | ----: | -------: | --------: | ----------: |
| f         | 50.00 |    0.000 |         0.000 |       5.000 |   10.000 | 75.00 |        2 |         1 |          -1 |
| g         |  0.00 |    0.000 |         0.000 |       0.000 |   10.000 |  0.00 |        1 |         1 |           0 |
| total     | 25.00 |    0.000 |         0.000 |       5.000 |   20.000 | 50.00 |        3 |         2 |        0.50 |

- no UEM: scored is the extent of reference and hypothesis together
"""


def case(number: int):
    return next(case for case in CASES if case.number == number)


def test_the_page(affect, tmp_path):
    reference, hypothesis, _ = files(tmp_path, case(42))
    assert affect("score", reference, hypothesis) == (0, PAGE, "")
    code, out, _ = affect("score", reference, hypothesis, "--output", tmp_path / "page.md")
    assert (code, out) == (0, f"scores: {tmp_path / 'page.md'}\n")
    assert (tmp_path / "page.md").read_text(encoding="utf-8") == PAGE


def test_json_has_fractions_seconds_and_null(affect, tmp_path):
    reference, hypothesis, uem = files(tmp_path, case(35))
    code, out, _ = affect("score", reference, hypothesis, "--uem", uem, "--format", "json")
    record = json.loads(out)
    assert code == 0
    zero = {"missed": 0, "confusion": 0, "predicted_speakers": 1}
    assert record["recordings"] == {
        "f": {**zero, "der": 0, "jer": 0, "false_alarm": 0, "speech": 10, "speakers": 1, "speaker_count_error": 0},
        "g": {**zero, "der": None, "jer": None, "false_alarm": 5, "speech": 0, "speakers": 0, "speaker_count_error": 1},
    }
    assert (record["total"]["der"], record["total"]["speaker_count_error"]) == (0.5, 0.5)
    assert (record["collar"], record["skip_overlap"], len(record["warnings"])) == (0, False, 2)


def test_collar_and_overlap(affect, tmp_path):
    reference, hypothesis, _ = files(tmp_path, case(32))
    code, out, _ = affect("score", reference, hypothesis, "--collar", ".25", "--skip-overlap")
    assert code == 0
    assert out.startswith("1 recording, collar 0.25 s each side, overlap left out\n")
    assert "|    7.000 | 16.67 |" in out
    _, out, _ = affect("score", reference, hypothesis)
    assert "| 16.67 |    2.000 |" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere.rttm", "hyp.rttm"], ["no RTTM file 'nowhere.rttm'"]),
        (["ref.rttm", "empty"], ["empty holds no .rttm file"]),
        (["ref.rttm", "bad.rttm"], ["bad.rttm line 2: a SPEAKER line has 8 to 10 fields, not 3"]),
        (["ref.rttm", "hyp.rttm", "--uem", "bad.uem"], ["bad.uem line 1: 'x' is no time in seconds"]),
        (["ref.rttm", "hyp.rttm", "--collar", "-1"], ["--collar must be 0 or more seconds, not -1"]),
        (["ref.rttm", "hyp.rttm", "--output", "empty"], ["empty can't be written"]),
        (["ref.rttm", "hyp.rttm", "--output", "ref.rttm"], ["--output ref.rttm is read, too"]),
        (["ref.rttm", "deep", "--output", "deep/er/hyp.RTTM"], ["hyp.RTTM is read, too"]),
        (["ref.rttm", "hyp.rttm", "--uem", "other.uem"], ["other.uem names no recording of ref.rttm"]),
        (["late.rttm", "hyp.rttm"], ["late.rttm line 1: '1e308' is no time in seconds, from 0 to 1e+10"]),
        (["ref.rttm", "hyp.rttm", "--format", "csv"], ["--format", "csv"]),
        (["ref.rttm"], ["affect score", "HYP"]),
    ],
)
def test_a_mistake_is_one_line(affect, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    files(tmp_path, case(1))
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.rttm").write_text("\nSPEAKER f 1\n")
    (tmp_path / "bad.uem").write_text("f 1 x 2\n")
    (tmp_path / "other.uem").write_text("elsewhere 1 0 2\n")
    (tmp_path / "late.rttm").write_text("SPEAKER f 1 1e308 1e308 <NA> <NA> a\n")
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "hyp.RTTM").write_text("SPEAKER f 1 0 1 <NA> <NA> a\n")
    code, out, err = affect("score", *arguments)
    assert_one_line(code, err, *words)
    assert out == ""


def test_folders_are_read_below(affect, tmp_path):
    reference, hypothesis, _ = files(tmp_path, case(42))
    (tmp_path / "deep" / "er").mkdir(parents=True)
    hypothesis.rename(tmp_path / "deep" / "er" / "hyp.RTTM")
    assert affect("score", reference, tmp_path / "deep") == (0, PAGE, "")


def test_help_says_what_a_collar_is(affect):
    code, out, _ = affect("score", "--help")
    assert code == 0
    text = " ".join(out.replace("│", " ").split())
    assert "REF HYP" in text and "each side of every boundary" in text and "--skip-overlap" in text
