from __future__ import annotations

import json
from pathlib import Path

import pytest

from affect.report import read
from affect.report.flags import Flag, flags, outlying
from affect.train.folder import _FREE as FREE

VALENCE = {1: 0.6496, 2: 0.6779, 3: 0.4720, 4: 0.5634, 5: 0.5464}
AROUSAL = {1: 0.7309, 2: 0.6825, 3: 0.6637, 4: 0.6569, 5: 0.7424}


def kinds(folder: Path) -> set[tuple[str, str]]:
    return {(flag.kind, flag.where) for flag in flags(read(folder))}


def test_report_000_flags_exactly_fold_3() -> None:
    found = outlying(VALENCE)
    assert list(found) == [3]
    assert found[3] == (pytest.approx(0.609325), pytest.approx(0.064276, abs=1e-5))
    assert outlying(AROUSAL) == {}


def test_few_or_unknown_folds_flag_nothing() -> None:
    assert outlying({1: 0.6, 2: 0.6, 3: 0.1}) == {}
    assert outlying({1: 0.6, 2: 0.61, 3: 0.1, 4: float("nan")}) == {}
    assert list(outlying({1: 0.6, 2: 0.6, 3: 0.6, 4: 0.5})) == [4]
    assert outlying({1: 0.6, 2: 0.6, 3: 0.6, 4: 0.6}) == {}


def test_the_runs_of_report_000(report_runs: Path) -> None:
    assert flags(read(report_runs)) == [
        Flag("outlying fold", "fold 3", "CCC-V 0.472, the other folds have 0.609 ± 0.064 (2.1 deviations)"),
        Flag("valid above test", "seed0/fold5", "CCC-V: valid 0.690, test 0.546 (-0.144)"),
    ]


def test_the_limit_of_a_gap_is_a_twentieth(tmp_path: Path, write_run) -> None:
    for fold, valid in ((1, 0.549), (2, 0.551), (3, 0.449)):
        write_run(tmp_path / "a", fold, {"valence": 0.5}, valid={"valence": valid})
    assert kinds(tmp_path / "a") == {("valid above test", "seed0/fold2"), ("test above valid", "seed0/fold3")}


def test_unfinished_and_missing_folds(tmp_path: Path, write_run) -> None:
    for seed, fold, finished in ((0, 1, True), (0, 2, True), (1, 1, False)):
        write_run(tmp_path / "a", fold, {"valence": 0.5}, seed=seed, finished=finished)
    assert kinds(tmp_path / "a") == {("unfinished", "seed1/fold1"), ("missing folds", "seed 1")}


@pytest.mark.parametrize(("value", "kind"), [(None, "NaN predictions"), (2.9, "constant predictions")])
def test_predictions_that_say_nothing(tmp_path: Path, write_run, value: float | None, kind: str) -> None:
    path = write_run(tmp_path / "a", 1, {"valence": 0.5, "arousal": 0.5})
    rows = [json.loads(line) for line in (path / "predictions-test.jsonl").read_text().splitlines()]
    for row in rows[: 3 if value is None else None]:
        row["prediction"]["arousal"] = value
    (path / "predictions-test.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    found = {flag.kind: flag for flag in flags(read(tmp_path / "a"))}
    assert found[kind].evidence.startswith("arousal: 3 of 200" if value is None else "arousal: deviation")


def test_losses_and_gradients_that_are_no_numbers(tmp_path: Path, write_run) -> None:
    path = write_run(tmp_path / "a", 1, {"valence": 0.5}, finished=False)
    with (path / "metrics.jsonl").open("a") as file:
        file.write('{"event": "step", "step": 121, "loss": null, "grad_norm": 1.0}\n')
        file.write('{"event": "step", "step": 122, "loss": 0.3, "grad_norm": NaN}\n')
    found = {flag.kind: flag.evidence for flag in flags(read(tmp_path / "a"))}
    assert found["NaN loss"] == "1 of 122 logged steps, the first is 121"
    assert found["NaN gradient"] == "1 of 122 logged steps, first 122"


def test_waiting_is_weighed_by_time(tmp_path: Path, write_run) -> None:
    path = write_run(tmp_path / "a", 1, {"valence": 0.5}, waiting=0.09)
    assert kinds(tmp_path / "a") == set()
    with (path / "timing.jsonl").open("a") as file:
        file.write('{"step": 9, "seconds": 8.0, "waiting": 0.51}\n')
    (flag,) = flags(read(tmp_path / "a"))
    assert (flag.kind, flag.evidence.split()[0]) == ("data-bound", "30%")


def test_a_validation_score_that_stands_still(tmp_path: Path, write_run) -> None:
    path = write_run(tmp_path / "a", 1, {"valence": 0.5})
    events = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    for event in events:
        if event["event"] == "eval":
            event["scores"]["ccc_valence"] = 0.4 - 0.001 * event["step"] / 20
    (path / "metrics.jsonl").write_text("\n".join(map(json.dumps, events)) + "\n")
    (flag,) = flags(read(tmp_path / "a"))
    assert flag.kind == "stands still"
    assert "0.399 at first, 0.399 at best, 0.394 at last" in flag.evidence


def test_scores_that_disagree_with_the_predictions(tmp_path: Path, write_run) -> None:
    path = write_run(tmp_path / "a", 1, {"valence": 0.5})
    text = (path / "metrics.jsonl").read_text()
    (path / "metrics.jsonl").write_text(text.replace('"test": {"ccc_valence": 0.5}', '"test": {"ccc_valence": 0.6}'))
    (flag,) = flags(read(tmp_path / "a"))
    assert (flag.kind, flag.evidence) == (
        "scores disagree",
        "valence: 0.600 in metrics.jsonl, 0.500 from the predictions",
    )


def test_runs_of_different_settings_or_data(tmp_path: Path, write_run) -> None:
    write_run(tmp_path / "a", 1, {"valence": 0.5})
    path = write_run(tmp_path / "a", 2, {"valence": 0.5}, environment={"fingerprint": "other"})
    recipe = json.loads((path / "recipe.json").read_text())
    recipe["optim"]["lr"] = 3e-4
    recipe["train"]["workers"] = 7  # changes no score
    (path / "recipe.json").write_text(json.dumps(recipe))
    found = {flag.kind: flag.evidence for flag in flags(read(tmp_path / "a"))}
    assert found == {"mixed settings": "optim.lr is 0.0001 or 0.0003", "mixed corpus": "fingerprint is abc or other"}


@pytest.mark.parametrize("name", FREE)
def test_what_may_change_between_sessions_is_no_mixed_setting(tmp_path: Path, write_run, name: str) -> None:
    """The trainer and the report each hold this list, for neither may import the other: here they are kept in step."""
    scores = {"valence": 0.5, "arousal": 0.6}
    for fold, value in ((1, "one"), (2, "other")):
        path = write_run(tmp_path / "run", fold, scores) / "recipe.json"
        recipe = json.loads(path.read_text(encoding="utf-8"))
        part, field = name.split(".")
        recipe[part][field] = value
        path.write_text(json.dumps(recipe), encoding="utf-8")
    assert not [flag for flag in flags(read(tmp_path / "run")) if flag.kind == "mixed settings"]
