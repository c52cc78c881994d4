import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from affect.data.corpora.labels import SCALES, UnusableError, infer_scale, label, rows_of
from affect.data.corpus import Exclusion
from affect.data.table_file import SURPLUS, read_csv


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


def test_records_become_rows_and_exclusions(tmp_path):
    table = tmp_path / "t.csv"
    table.write_text("name,text\na,one\nb\nc,x,y\nd,x,,\n")
    rows, exclusions = rows_of(
        read_csv(table, ("name",))[1], lambda cells: {"text": cells["text"] or fail("no text")}, "id", table
    )
    assert rows == [{"text": "one"}, {"text": "x"}]
    assert exclusions == [
        Exclusion(what="t.csv:3", reason="no text"),
        Exclusion(what="t.csv:4", reason=f"{SURPLUS}: 'y' is beyond the last column"),
    ]


def fail(reason):
    raise UnusableError(reason)
