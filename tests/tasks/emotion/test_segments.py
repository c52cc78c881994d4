"""Segments of dialogues: every utterance once, in the order they were said."""

from __future__ import annotations

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from affect.errors import AffectError
from affect.tasks.emotion.corpus import segments

NAN = float("nan")


def part(rows: list[tuple[str, str, float]]) -> Dataset:
    """Return utterances (id, dialogue, start)."""
    return Dataset.from_dict(
        {
            "id": [row[0] for row in rows],
            "session": ["s"] * len(rows),
            "dialogue": [row[1] for row in rows],
            "speaker": ["a"] * len(rows),
            "length": [1.0 + k for k in range(len(rows))],
            "start": [row[2] for row in rows],
        }
    )


def places(table: Dataset) -> dict[str, int]:
    return {name: k for k, name in enumerate(table["id"])}


def test_utterances_go_by_their_start_and_not_by_their_id():
    table = part([("F0", "d", 0.0), ("F1", "d", 4.0), ("M0", "d", 2.0), ("M1", "d", 6.0)])
    found = segments(table, places(table), 3)
    assert found["members"][:] == [["F0", "M0", "F1"], ["M1"]]
    assert found["rows"][:] == [[0, 2, 1], [3]]
    assert found["length"][:] == [1.0 + 3.0 + 2.0, 4.0]
    assert len(set(found["id"])) == 2


def test_without_times_they_go_by_id_and_the_log_says_so(caplog):
    caplog.set_level("WARNING", logger="affect")
    table = part([("b", "d", NAN), ("a", "d", 1.0), ("c", "e", NAN)])
    assert segments(table, places(table), None)["members"][:] == [["a", "b"], ["c"]]
    assert "2 of 2 dialogues have no start times" in caplog.text


def test_a_corpus_without_dialogues_is_refused():
    table = part([("a", "d", 0.0), ("b", "e", 0.0)])
    with pytest.raises(AffectError, match="each utterance is one of its own"):
        segments(table, places(table), 2)


@given(st.lists(st.integers(0, 4), min_size=2, max_size=40), st.one_of(st.none(), st.integers(1, 7)))
def test_every_utterance_is_in_one_segment_of_its_dialogue(dialogues, size):
    table = part([(f"u{k:02}", f"d{d}", float(-k)) for k, d in enumerate(dialogues)])
    if len(set(dialogues)) == len(dialogues):
        return
    found = segments(table, places(table), size)
    assert sorted(name for names in found["members"] for name in names) == sorted(table["id"])
    for names, rows in zip(found["members"], found["rows"], strict=True):
        assert len(names) <= (size or len(table))
        assert len({dialogues[row] for row in rows}) == 1
        # Starts fall with the number, so what is said later has the smaller one.
        assert np.all(np.diff(rows) < 0)
