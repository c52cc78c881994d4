import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from affect.data.corpora.labels import SCALES, SURPLUS, UnusableError, infer_scale, label, read_csv, rows_of
from affect.data.corpus import Exclusion
from affect.errors import AffectError


@given(values=st.lists(st.floats(-1e6, 1e6) | st.just(math.nan), max_size=8))
def test_an_inferred_scale_holds_all_labels(values):
    low, high = infer_scale(values)
    assert low < high
    assert all(low <= value <= high for value in values if value == value)
    narrower = [scale for scale in SCALES if scale[1] - scale[0] < high - low]
    given_ = [value for value in values if value == value]
    if given_ and (low, high) in SCALES:
        assert not any(a <= min(given_) and max(given_) <= b for a, b in narrower)


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ([1.2, 4.8], (1, 5)), ([0.1, 5.0], (0, 5)), ([0.2, 0.7], (0, 1)), ([-0.4, 0.9], (-1, 1)), ([1, 6.5], (1, 7)),
        ([12, 88], (0, 100)), ([-7.5, 230], (-8, 230)), ([500.0], (500, 501)), ([], (0, 1)), ([math.nan, 3], (1, 5)),
    ],
)  # fmt: skip
def test_usual_scales(values, scale):
    assert infer_scale(values) == scale


def test_a_label_is_a_number_on_its_scale_or_missing():
    assert label("valence", " 2.5 ", (1, 5)) == 2.5 and label("valence", "900", None) == 900
    assert all(math.isnan(label("valence", text, (1, 5))) for text in ("", "NaN", "n/a", "N_A", "none", None))
    for text, reason in (("two", "label is no number: v 'two'"), ("6", "label out of range: v 6 on 1..5")):
        with pytest.raises(UnusableError, match=reason):
            label("v", text, (1, 5))


def test_tables_are_read_alike(tmp_path):
    table = tmp_path / "t.csv"
    table.write_bytes('\ufeffName , Text\r\na,"one\u2028two"\r\n\r\nb\r\nc,x,y\r\nd,x,,\r\n'.encode())
    columns, records = read_csv(table, ("name",), lower=True)
    assert columns == ["name", "text"]
    assert records == [
        (2, {"name": "a", "text": "one\u2028two"}),
        (4, {"name": "b", "text": ""}),
        (5, {"name": "c", "text": "x", SURPLUS: "y"}),
        (6, {"name": "d", "text": "x"}),
    ]
    rows, exclusions = rows_of(records, lambda cells: {"text": cells["text"] or fail("no text")}, "id", table)
    assert rows == [{"text": "one\u2028two"}, {"text": "x"}]
    assert exclusions == [Exclusion(what="t.csv:4", reason="no text"), Exclusion(what="t.csv:5", reason=SURPLUS)]
    table.write_text("name;speaker;name\nx;y;z\n")
    with pytest.raises(AffectError, match="has the column 'name' more than once"):
        read_csv(table, ("name",), separators=",;")


def fail(reason):
    raise UnusableError(reason)
