"""RTTM and UEM files with every trap, written and read again; turns of which no two are at once."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affect.data.rttm import Turn, exclusive, joined, read_rttm, read_uem, write_rttm
from affect.errors import AffectError

LINE = "SPEAKER f 1 0 1 <NA> <NA> A <NA> <NA>"


def file_of(folder: Path, text: str, name: str = "a.rttm") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_speaker_lines_alone_are_turns(tmp_path):
    text = """\ufeff;; by hand
; one semicolon, too

SPKR-INFO f 1 <NA> <NA> <NA> unknown A <NA> <NA>
  SPEAKER\tf  1 0.5 1.25 <NA> <NA> MÉO069 <NA> <NA>
SPEAKER a.b.c NA 3 4 <NA> <NA> B
NON-SPEECH f 1 4 2 <NA> noise <NA> <NA>
LEXEME f 1 .5 .2 word lex A .9
SPEAKER f 1 .1 .2 <NA> <NA> B .5\r
"""
    rttm = read_rttm(file_of(tmp_path, text))
    assert rttm == {"f": [(0.5, 1.75, "MÉO069"), (0.1, 0.3, "B")], "a.b.c": [(3, 7, "B")]}
    assert rttm["f"][0].speaker == "MÉO069"
    assert not rttm.empty and not rttm.repeated
    assert rttm.channels == {"f": {"1"}, "a.b.c": {"NA"}}


def test_what_is_dropped_or_joined_is_told_by_recording(tmp_path):
    lines = [
        LINE,
        LINE,
        LINE.replace(" 1 0 1 ", " 2 0 1 "),
        "SPEAKER f 1 5 0 <NA> <NA> B <NA> <NA>",
        "SPEAKER g 1 5 0.000 <NA> <NA> B <NA> <NA>",
    ]
    rttm = read_rttm(file_of(tmp_path, "\n".join(lines)))
    assert rttm == {"f": [(0, 1, "A"), (0, 1, "A")], "g": []}
    assert rttm.empty == {"f": 1, "g": 1}
    assert rttm.repeated == {"f": 1}
    assert rttm.channels == {"f": {"1", "2"}, "g": {"1"}}


def test_a_folder_is_all_its_files(tmp_path):
    one, other = file_of(tmp_path, LINE, "1.rttm"), file_of(tmp_path, LINE.replace(" 0 1 ", " 2 3 "), "2.rttm")
    file_of(tmp_path, "no RTTM", "README")
    rttm = read_rttm(tmp_path)
    assert rttm == {"f": [(0, 1, "A"), (2, 5, "A")]}
    assert rttm.files == {"f": [one, other]}
    assert read_rttm(str(one)).files == {"f": [one]}
    with pytest.raises(AffectError, match=r"holds no \.uem file"):
        read_uem(tmp_path)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("SPEAKER f 1 0 1 <NA> <NA>", "8 to 10 fields, not 7"),
        (LINE.replace(" A ", " Ann Lee "), "8 to 10 fields, not 11"),
        (LINE.replace(" 0 1 ", " x 1 "), "'x' is no time in seconds"),
        (LINE.replace(" 0 1 ", " 0 -1 "), "'-1' is no time in seconds"),
        (LINE.replace(" 0 1 ", " -1 2 "), "'-1' is no time in seconds"),
        (LINE.replace(" 0 1 ", " 0 nan "), "'nan' is no time in seconds"),
        (LINE.replace(" 0 1 ", " 0 inf "), "'inf' is no time in seconds"),
        (LINE.replace(" 0 1 ", " 0_3 1 "), "'0_3' is no time in seconds"),
        (LINE.replace(" 0 1 ", " 0 1e400 "), "'1e400' is no time in seconds"),
        ("f 1 0 10", "'f' is no type of an RTTM line"),
    ],
)
def test_a_malformed_line_is_named(tmp_path, line, words):
    path = file_of(tmp_path, f"{LINE}\n;; comment\n{line}\n")
    with pytest.raises(AffectError) as raised:
        read_rttm(path)
    assert str(raised.value).startswith(f"{path} line 3: ") and words in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_uem_is_read_and_its_lines_are_named(tmp_path):
    text = "f 1 0 15\nf 1 25 30.4\n; A comment.\n\na.b NA 4.5 13.24"
    assert read_uem(file_of(tmp_path, text, "a.uem")) == {"f": [(0, 15), (25, 30.4)], "a.b": [(4.5, 13.24)]}
    for line, words in (
        ("f 1 0", "4 fields, not 3"),
        ("f 1 0 ten", "'ten' is no time"),
        ("f 1 5 4", "ends at 4 s, before it starts at 5 s"),
        (LINE, "4 fields, not 10"),
    ):
        path = file_of(tmp_path, f"f 1 0 1\n{line}", "b.uem")
        with pytest.raises(AffectError, match=words) as raised:
            read_uem(path)
        assert str(raised.value).startswith(f"{path} line 2: ")


def test_files_that_are_none_are_one_line(tmp_path):
    with pytest.raises(AffectError, match="no RTTM file"):
        read_rttm(tmp_path / "nowhere.rttm")
    path = tmp_path / "latin.rttm"
    path.write_bytes(LINE.replace(" A ", " MÉO ").encode("latin-1"))
    with pytest.raises(AffectError, match="is not UTF-8"):
        read_rttm(path)
    assert read_rttm(file_of(tmp_path, "")) == {}


def test_what_is_written_is_read_again(tmp_path):
    turns = [Turn(0.0, 0.3, "A"), Turn(0.3, 1.2345678, "B b"), Turn(1.2345678, 2.0, "A"), Turn(3, 3.0004, "A")]
    stream = io.StringIO()
    write_rttm(stream, "my meeting.v2", turns)
    assert stream.getvalue().splitlines() == [
        "SPEAKER my_meeting.v2 1 0.000 0.300 <NA> <NA> A <NA> <NA>",
        "SPEAKER my_meeting.v2 1 0.300 0.935 <NA> <NA> B_b <NA> <NA>",
        "SPEAKER my_meeting.v2 1 1.235 0.765 <NA> <NA> A <NA> <NA>",
    ]
    read = read_rttm(file_of(tmp_path, stream.getvalue()))["my_meeting.v2"]
    assert read == [(0.0, 0.3, "A"), (0.3, 1.235, "B_b"), (1.235, 2.0, "A")]


def test_turns_are_joined_by_speaker():
    turns = [Turn(4, 10, "A"), Turn(0, 6, "A"), Turn(5, 7, "B"), Turn(10, 12, "A"), Turn(7.5, 8, "B")]
    assert joined(turns) == [(0, 12, "A"), (5, 7, "B"), (7.5, 8, "B")]


@pytest.mark.parametrize(
    ("turns", "alone"),
    [
        # Of two the later one has it, and the long one goes on after a short answer.
        ([(0, 6, "A"), (4, 10, "B")], [(0, 4, "A"), (4, 10, "B")]),
        ([(0, 10, "A"), (4, 4.5, "B")], [(0, 4, "A"), (4, 4.5, "B"), (4.5, 10, "A")]),
        ([(0, 10, "A"), (2, 8, "B"), (4, 5, "C")], [(0, 2, "A"), (2, 4, "B"), (4, 5, "C"), (5, 8, "B"), (8, 10, "A")]),
        # Together: the one that ends first, then by name.
        ([(0, 10, "A"), (0, 2, "B")], [(0, 2, "B"), (2, 10, "A")]),
        ([(0, 3, "B"), (0, 3, "A")], [(0, 3, "A")]),
        # A seam is no new beginning.
        ([(0, 5, "A"), (4, 7, "B"), (5, 10, "A")], [(0, 4, "A"), (4, 7, "B"), (7, 10, "A")]),
        ([(0, 1, "A"), (2, 3, "A")], [(0, 1, "A"), (2, 3, "A")]),
        ([], []),
    ],
)
def test_exclusive_turns_by_hand(turns, alone):
    assert exclusive([Turn(*turn) for turn in turns]) == alone


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20), st.sampled_from("ABC")), max_size=12))
def test_exclusive_turns_have_all_speech_once(drawn):
    turns = [Turn(start, start + length, speaker) for start, length, speaker in drawn]
    alone = exclusive(turns)
    assert all(one.end <= other.start for one, other in zip(alone, alone[1:], strict=False))

    def at(second: int, of: list[Turn]) -> set[str]:
        return {speaker for start, end, speaker in of if start <= second < end}

    for second in range(80):
        assert len(at(second, alone)) == bool(at(second, turns))
        assert at(second, alone) <= at(second, turns)
