"""Where the errors are: whom and what a model is wrong about, and its worst rows by name."""

from __future__ import annotations

import json
from pathlib import Path

from affect.report import mistakes, read
from affect.report.study import Study


def write(folder: Path, rows: list[dict], seed: int = 0, **recipe: object) -> None:
    """Write a finished run of an emotion recipe with these test rows."""
    path = folder / f"seed{seed}" / "fold1"
    path.mkdir(parents=True)
    data = {"corpus": "csv_folder", "fold": 1, "split": "speaker"}
    told = {"task": "emotion", "experiment": folder.name, "seed": seed, "data": data, **recipe}
    (path / "recipe.json").write_text(json.dumps(told))
    (path / "environment.json").write_text("{}")
    (path / "metrics.jsonl").write_text(json.dumps({"event": "end", "step": 1, "scores": {}}) + "\n")
    (path / "predictions-test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def rows_of(wrong: float) -> list[dict]:
    """Return 20 rows: those of the speaker b are off by `wrong`, the longest one by three times as much."""
    rows = []
    for k in range(20):
        off = (0.1 if k % 2 == 0 else wrong) * (3 if k == 19 else 1)
        row = {"id": f"u{k:02}", "prediction": {"valence": 2.0 + k % 3 + off}, "target": {"valence": 2.0 + k % 3}}
        row |= {"speaker": "ab"[k % 2], "gender": "fm"[k % 2], "seconds": 1.0 + k, "emotion": ("ang", "sad")[k < 10]}
        rows.append(row | {"session": "s", "dialogue": f"d{k}"})
    return rows


def table(text: str, first: str) -> list[list[str]]:
    """Return the cells of the table whose first column is headed so."""
    block = next(part for part in text.split("\n\n") if part.startswith(f"| {first}"))
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()]
    return [lines[0], *lines[2:]]


def test_errors_by_speaker_gender_emotion_and_length(tmp_path):
    write(tmp_path / "a", rows_of(1.0), targets=["valence"])
    text = mistakes.section(Study(runs=read(tmp_path / "a")))
    assert table(text, "speaker") == [
        ["speaker", "n", "valence: error", "valence: bias"],
        ["b", "10", "1.200", "+1.200"],
        ["a", "10", "0.100", "+0.100"],
    ]
    assert [row[0] for row in table(text, "gender")] == ["gender", "m", "f"]
    assert [row[0] for row in table(text, "emotion")] == ["emotion", "ang", "sad"]
    lengths = table(text, "seconds")
    assert [row[:2] for row in lengths[1:]] == [["1 to 5", "5"], ["6 to 10", "5"], ["11 to 15", "5"], ["16 to 20", "5"]]
    worst = table(text, "id")
    assert worst[0] == ["id", "speaker", "gender", "emotion", "seconds", "valence"]
    assert worst[1] == ["u19", "b", "m", "ang", "20", "3, predicted 6.000"]
    assert len(worst) == 9
    assert not any(kind in text for kind in ("| session", "| dialogue"))


def test_seeds_are_averaged_and_classes_are_wrong_or_not(tmp_path):
    for seed in (0, 1):
        rows = []
        for k in range(12):
            label = ("ang", "hap")[k % 2]
            said = label if k % 3 or seed else "sad"
            rows.append(
                {"id": f"u{k}", "prediction": {"emotion": said}, "target": {"emotion": label}, "speaker": "ab"[k < 6]}
            )
        write(tmp_path / "a", rows, seed=seed, targets=["emotion"])
    text = mistakes.section(Study(runs=read(tmp_path / "a")))
    # Two of six rows of each are wrong by one seed of two.
    assert table(text, "emotion")[1:] == [["ang", "6", "17 %"], ["hap", "6", "17 %"]]
    assert "ang, predicted" in text


def test_of_many_groups_the_worst_are_shown(tmp_path):
    rows = [
        {"id": f"u{k}", "prediction": {"valence": 3 + (k // 2) / 10}, "target": {"valence": 3.0 - (k % 2) * 1e-3},
         "speaker": f"s{k // 2}"} for k in range(40)
    ]  # fmt: skip
    write(tmp_path / "a", rows, targets=["valence"])
    speakers = table(mistakes.section(Study(runs=read(tmp_path / "a"))), "speaker")
    assert speakers[0][0] == "speaker (the worst 8 of 20)"
    assert [row[0] for row in speakers[1:]] == [f"s{k}" for k in range(19, 11, -1)]


def test_nothing_is_told_of_a_few_rows_or_of_rows_without_a_label(tmp_path):
    write(tmp_path / "a", rows_of(1.0)[:4], targets=["valence"])
    write(tmp_path / "b", [row | {"target": {"valence": None}} for row in rows_of(1.0)], targets=["valence"])
    for name in ("a", "b"):
        assert mistakes.section(Study(runs=read(tmp_path / name))) == ""
