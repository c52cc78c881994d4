"""The end of a run: which parts are predicted how, and what is written of them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from datasets import Dataset, DatasetDict

from affect.train import ending


class Stub:
    """A task whose predictions are its rows; keeps what it was asked."""

    tests = ("first", "second")

    def __init__(self):
        self.asked = []
        self.score = "count"

    def metrics(self, rows):
        return {"count": float(len(rows)), "none": float("nan")}

    def examine(self, predict):
        found = {name: len(predict(PARTS[name], "dark")) for name in self.tests}
        return {"counts": np.array(list(found.values())), "names": np.array(list(found))}

    def baselines(self):
        return {name: {"mean": [{"id": "x", "part": name}], "other": []} for name in ("valid", *self.tests)}

    def predict(self, part, condition=None):
        self.asked.append((part[0]["id"][0], len(part), condition))
        return [{"id": row["id"], "value": float("nan")} for row in part]


SIZES = {"train": 4321, "valid": 5, "first": 3, "second": 4}
PARTS = DatasetDict(
    {name: Dataset.from_dict({"id": [f"{name[0]}{k:05d}" for k in range(size)]}) for name, size in SIZES.items()}
)


def finish(task, folder, ends, *, main=True):
    return ending.finish(task, PARTS, ends, task.predict, folder, lambda write: write() if main else None)


def test_a_whole_run_predicts_all_parts():
    assert ending.parts_of(Stub()) == ("train", "valid", "first", "second")


def test_everything_is_written(tmp_path):
    task = Stub()
    scores = finish(task, tmp_path, ending.parts_of(task))
    assert {part: found["count"] for part, found in scores.items()} == {
        "train": 2000.0, "valid": 5.0, "first": 3.0, "second": 4.0,
    }  # fmt: skip
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["conditions.npz"]
        + [f"predictions-{part}.jsonl" for part in ("valid", "first", "second")]
        + [f"baseline-{name}-{part}.jsonl" for part in ("valid", "first", "second") for name in ("mean", "other")]
    )
    rows = [json.loads(line) for line in (tmp_path / "predictions-first.jsonl").read_text().splitlines()]
    assert rows == [{"id": f"f{k:05d}", "value": None} for k in range(3)], "what is no number is null"
    with np.load(tmp_path / "conditions.npz", allow_pickle=False) as arrays:
        assert arrays["counts"].tolist() == [3, 4]
        assert arrays["names"].tolist() == ["first", "second"]
    assert (tmp_path / "baseline-other-valid.jsonl").read_text() == ""


def test_each_part_is_predicted_once_as_it_is(tmp_path):
    task = Stub()
    finish(task, tmp_path, ending.parts_of(task))
    assert [(part, size) for part, size, condition in task.asked if condition is None] == [
        ("t", 2000), ("v", 5), ("f", 3), ("s", 4),
    ]  # fmt: skip
    assert [part for part, _, condition in task.asked if condition == "dark"] == ["f", "s"]


@pytest.mark.parametrize("ends", [("valid",), ("train", "valid"), ("valid", "first")])
def test_without_all_tests_nothing_is_examined(tmp_path, ends):
    """A search's trial and a run that is judged by its fold alone never look at a test part."""
    task = Stub()
    scores = finish(task, tmp_path, ends)
    assert list(scores) == list(ends)
    assert [condition for _, _, condition in task.asked] == [None] * len(ends)
    assert {path.name for path in tmp_path.iterdir()} == {f"predictions-{p}.jsonl" for p in ends if p != "train"}


def test_only_the_main_rank_writes_and_all_predict(tmp_path):
    task = Stub()
    assert len(finish(task, tmp_path, ending.parts_of(task), main=False)) == 4
    assert not list(tmp_path.iterdir())
    assert len(task.asked) == 6


@pytest.mark.parametrize(("size", "wanted"), [(10, 10), (2000, 2000), (2001, 2000), (9999, 2000)])
def test_training_rows_are_spread_evenly(size, wanted):
    part = Dataset.from_dict({"k": list(range(size))})
    found = ending._spread(part, 2000)["k"][:]
    assert len(found) == len(set(found)) == wanted
    assert (found[0], found[-1]) == (0, size - 1)
    assert np.diff(found).max() <= -(-size // wanted) + 1
