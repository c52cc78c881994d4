import math
import os

import pytest

from affect.data.table_file import SURPLUS, columns_of, json_object, no_number, number, read_csv
from affect.errors import AffectError

BREAKS = "\u2028\u2029\x0b\x0c\x1c\x1d\x1e\x85"
"""At which str.splitlines would begin another line."""


def table(folder, text):
    path = folder / "t.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize("mark", BREAKS)
def test_a_text_may_hold_what_splitlines_breaks_at(tmp_path, mark):
    path = table(tmp_path, f"id,text\na,one{mark}two\nb,three\n")
    assert [cells for _, cells in read_csv(path, ())[1]] == [
        {"id": "a", "text": f"one{mark}two"},
        {"id": "b", "text": "three"},
    ]


def test_cells_stay_the_texts_that_they_are(tmp_path):
    texts = ["None", "null", "NA", "nan", "001", "7.0", "1e3", "true", "-"]
    path = table(tmp_path, "text\n" + "\n".join(texts) + "\n")
    assert [cells["text"] for _, cells in read_csv(path, ())[1]] == texts


def test_lines_columns_and_surplus_cells(tmp_path):
    path = table(tmp_path, '\ufeffName , Text\r\na,"one\u2028two"\r\n\r\nb\r\nc,x,y\r\nd,x,,\r\n')
    columns, records = read_csv(path, ("name",), lower=True)
    assert columns == ["name", "text"]
    assert records == [
        (2, {"name": "a", "text": "one\u2028two"}),
        (4, {"name": "b", "text": ""}),
        (5, {"name": "c", "text": "x", SURPLUS: "y"}),
        (6, {"name": "d", "text": "x"}),
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name;speaker;name\nx;y;z\n", "has the column 'name' more than once"),
        ('name;text\na;"hello\nb;bye\nc;x\n', "t.csv:2: unexpected end of data"),
        ('name;text\na;x\nb;"hello\nc;"bye"\n', "t.csv:3: ';' expected after"),
        ("other\n", "has no column 'name'; it has: other"),
        (b"name\n\xff\n", r"is not UTF-8 \(byte 5\)"),
    ],
)
def test_what_would_be_read_wrongly_is_refused(tmp_path, text, words):
    with pytest.raises(AffectError, match=words) as caught:
        read_csv(table(tmp_path, text), ("name",), separators=",;")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("path;text\n", ["path", "text"]), ('"a;b;c",d,e,f\n', ["a;b;c", "d", "e", "f"]), ("path\n", ["path"]),
        ("a\tb\tc,d\n", ["a", "b", "c,d"]), ("", []),
    ],
)  # fmt: skip
def test_the_separator_is_the_one_that_makes_most_columns(tmp_path, text, columns):
    path = table(tmp_path, text)
    assert columns_of(path) == columns == read_csv(path, (), separators=",;\t")[0]


@pytest.mark.parametrize("text", ["0_3", "1e400", "-1e999", "inf", "Infinity", "3,5", "٣", "1.2.3", "two", "0x1"])
def test_what_is_no_number(text):
    with pytest.raises(ValueError, match=r".*"):
        number(text)


def test_what_is_a_number():
    assert [number(text) for text in (" 2.5 ", "-1e2", ".5", "007", 3, 0.1)] == [2.5, -100, 0.5, 7, 3, 0.1]
    assert all(math.isnan(number(text)) for text in ("", "NaN", "n/a", "N_A", "none", None))
    assert (number("-3,5", ","), number("4", ",")) == (-3.5, 4)
    for text in ("1.234,5", "1.5"):
        with pytest.raises(ValueError, match=r".*"):
            number(text, ",")
    assert no_number("3,5") == "'3,5' (decimal commas? --data.decimal ,)" and no_number("x") == "'x'"


@pytest.mark.parametrize("make", [lambda path: os.mkfifo(path), lambda path: os.symlink("/dev/zero", path)])
def test_what_never_ends_is_not_opened(tmp_path, make):
    make(tmp_path / "t.csv")
    with pytest.raises(AffectError, match="cannot be read .it is a (FIFO|device) and no file"):
        read_csv(tmp_path / "t.csv", ())
    assert columns_of(tmp_path / "t.csv") == []


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("[" * 100_000, "t:1: it is no JSON"),
        ('{"a": 1, "b": 2, "a": 3}', "the key 'a' comes twice"),
        ("[1]", "no object"),
    ],
)
def test_lines_of_json_that_are_no_row(line, words):
    with pytest.raises(AffectError, match=words) as caught:
        json_object(line, "t:1")
    assert "\n" not in str(caught.value)
