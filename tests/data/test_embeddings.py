"""Speaker embeddings that somebody else computed, looked up by id."""

from __future__ import annotations

import json

import numpy as np
import pytest
from datasets import Dataset

from affect.data import embeddings
from affect.errors import AffectError

VALUES = {"a": [1.0, 2.0], "b": [3.0, 4.0], "c": [5.0, 6.0]}


def utterances() -> Dataset:
    return Dataset.from_dict({"id": ["b", "a"]})


def jsonl(folder, rows):
    path = folder / "table.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    return path


def test_a_table_and_a_folder_give_the_same(tmp_path):
    rows = [{"id": name, "embedding": value} for name, value in VALUES.items()]
    parquet = tmp_path / "table.parquet"
    Dataset.from_list(rows).to_parquet(parquet)
    folder = tmp_path / "arrays"
    folder.mkdir()
    for name, value in VALUES.items():
        np.save(folder / f"{name}.npy", np.array(value))
    for source in (parquet, jsonl(tmp_path, rows), folder):
        assert embeddings.add(utterances(), source)[embeddings.COLUMN][:] == [[3.0, 4.0], [1.0, 2.0]]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"id": "a", "embedding": [1.0]}], "no embedding of 1 of 2 utterances: b"),
        (
            [{"id": "a", "embedding": [1.0]}, {"id": "b", "embedding": [1.0, 2.0]}],
            "the embedding of a has 1 number, that of b 2",
        ),
        ([{"id": "a", "embedding": [1.0]}, {"id": "b", "embedding": [float("nan")]}], "b holds NaN"),
        ([{"id": "a", "xvector": [1.0]}], "has no column 'embedding'"),
        ([{"id": "a", "embedding": "x"}], "is no table of embeddings"),
    ],
)
def test_mistakes_are_one_line(tmp_path, rows, said):
    with pytest.raises(AffectError, match=said) as error:
        embeddings.add(utterances(), jsonl(tmp_path, rows))
    assert "\n" not in str(error.value)


def test_what_is_not_there_or_damaged_is_named(tmp_path):
    with pytest.raises(AffectError, match="there is no"):
        embeddings.add(utterances(), tmp_path / "nothing.parquet")
    (tmp_path / "a.npy").write_bytes(b"x")
    with pytest.raises(AffectError, match="a.npy is no readable npy file"):
        embeddings.add(utterances(), tmp_path)


@pytest.mark.parametrize("kind", ["complex64", "M8[s]", "O", "U4"])
def test_a_folder_of_what_are_no_numbers(tmp_path, kind):
    for name in VALUES:
        np.save(tmp_path / f"{name}.npy", np.array([1, 2]).astype(kind))
    with pytest.raises(AffectError, match="b.npy holds .*, not float16") as caught:
        embeddings.add(utterances(), tmp_path)
    assert "\n" not in str(caught.value)


def test_lines_of_a_table_end_at_line_ends_alone_and_names_come_once(tmp_path):
    odd = "a\u2028\x85b"
    path = tmp_path / "table.jsonl"
    path.write_text(json.dumps({"id": odd, "embedding": [1.0]}, ensure_ascii=False) + "\n", encoding="utf-8")
    assert embeddings.add(Dataset.from_dict({"id": [odd]}), path)[embeddings.COLUMN][:] == [[1.0]]
    for rows, said in (
        ([{"id": "a", "embedding": [1.0]}, {"id": "a", "embedding": [2.0]}], "it has 'a' more than once"),
        ([{"id": "a", "embedding": ["1"]}], "holds <U1, and no numbers"),
    ):
        with pytest.raises(AffectError, match=said):
            embeddings.add(utterances(), jsonl(tmp_path, rows))
    path.write_text("[" * 100_000)
    with pytest.raises(AffectError, match="table.jsonl:1: it is no JSON"):
        embeddings.add(utterances(), path)
