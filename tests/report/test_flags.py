from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from affect import report
from affect.findings import Flag
from affect.recipe import FREE
from affect.report import Run, read
from affect.report import flags as all_flags
from affect.report.gaps import by_chance, outlying, surprise
from affect.report.learning_curves import fall, still
from affect.report.study import Study
from affect.tasks.emotion.config import Emotion
from affect.tasks.emotion.task import EmotionTask

pytestmark = pytest.mark.usefixtures("no_plots")
PAPER = EmotionTask(Emotion())


def flags(runs: list[Run]) -> list[Flag]:
    return all_flags.flags(Study(runs=runs, given=PAPER if any(run.reported for run in runs) else None))


VALENCE = {1: 0.6496, 2: 0.6779, 3: 0.4720, 4: 0.5634, 5: 0.5464}
AROUSAL = {1: 0.7309, 2: 0.6825, 3: 0.6637, 4: 0.6569, 5: 0.7424}


def kinds(folder: Path) -> set[tuple[str, str]]:
    return {(flag.kind, flag.where) for flag in flags(read(folder))}


def only(folder: Path) -> Flag:
    (flag,) = flags(read(folder))
    return flag


def change_rows(path: Path, change: Callable[[int, dict[str, Any]], None], part: str = "test") -> None:
    file = path / f"predictions-{part}.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    for i, row in enumerate(rows):
        change(i, row)
    file.write_text("\n".join(map(json.dumps, rows)) + "\n")


def change_events(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    file = path / "metrics.jsonl"
    events = [json.loads(line) for line in file.read_text().splitlines()]
    for event in events:
        change(event)
    file.write_text("\n".join(map(json.dumps, events)) + "\n")


def change_recipe(path: Path, part: str, **fields: object) -> None:
    recipe = json.loads((path / "recipe.json").read_text())
    recipe[part] |= fields
    (path / "recipe.json").write_text(json.dumps(recipe))


def paper(fold: int, valid: dict[str, float] | None = None, seed: int = 0, **test: float) -> Run:
    """Return what a paper says of a fold: its scores, and nothing else."""
    parts = {"test": test, "valid": valid or {}}
    scores = {part: {f"ccc_{name}": value for name, value in found.items()} for part, found in parts.items()}
    name = f"seed{seed}/fold{fold}"
    return Run(name=name, seed=seed, fold=fold, finished=True, reported=True, end={"scores": scores})


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


FOUND = [
    (
        "outlying fold",
        "fold 3",
        "CCC-V 0.472, the other folds have 0.609 ± 0.064 (2.1 deviations, p .15); "
        "chance alone makes some fold odd in about 8 of 10 five-fold runs",
    ),
    ("valid above test", "seed0/fold5", "CCC-V: valid 0.690, test 0.546 (-0.144)"),
]
"""What report 000's author found in a day."""


def test_the_runs_of_report_000(report_runs: Path) -> None:
    found = flags(read(report_runs))
    assert [(flag.kind, flag.where, flag.evidence) for flag in found] == FOUND
    assert "half of lr and encoder_lr" in found[0].advice
    words = ("dropout (.5)", "weight_decay (0.001)", "--train.patience", "--augment.noise")
    assert all(word in found[1].advice for word in words)


def test_the_numbers_of_report_000_alone() -> None:
    runs = [
        paper(fold, {"valence": 0.69, "arousal": 0.73} if fold == 5 else None, valence=VALENCE[fold], arousal=arousal)
        for fold, arousal in AROUSAL.items()
    ]
    assert [(flag.kind, flag.where, flag.evidence) for flag in flags(runs)] == FOUND
    assert flags([paper(0, valence=0.5896, arousal=0.6867)]) == []


def test_an_odd_fold_is_one_flag_whatever_the_targets() -> None:
    runs = [paper(fold, valence=v, arousal=v + 0.1) for fold, v in ((1, 0.6), (2, 0.61), (3, 0.62), (4, 0.3))]
    (flag,) = flags(runs)
    assert (flag.kind, flag.where) == ("outlying fold", "fold 4")
    assert flag.evidence.startswith("CCC-V 0.300, the other folds have 0.610")
    assert "; CCC-A 0.400, the other folds have 0.710" in flag.evidence


def test_how_surprising_an_odd_fold_is_is_scipys() -> None:
    others = [0.6496, 0.6779, 0.5634, 0.5464]
    mean, deviation = float(np.mean(others)), float(np.std(others, ddof=1))
    # The t test of two samples, one of them of one value.
    assert surprise(0.472, mean, deviation, 4) == pytest.approx(scipy.stats.ttest_ind([0.472], others).pvalue)
    drawn = np.random.default_rng(5).normal(size=(2000, 5))
    often = np.mean([bool(outlying(dict(enumerate(row)))) for row in drawn])
    assert by_chance(5) == pytest.approx(often, abs=0.03)


def test_odd_folds_come_by_how_surprising_they_are() -> None:
    values = {1: 0.60, 2: 0.61, 3: 0.62, 4: 0.63, 5: 0.60, 6: 0.61, 7: 0.2}
    other = {1: 0.60, 2: 0.62, 3: 0.64, 4: 0.61, 5: 0.59, 6: 0.80, 7: 0.63}
    runs = [paper(fold, valence=values[fold], arousal=other[fold]) for fold in values]
    found = flags(runs)
    assert [flag.where for flag in found] == ["fold 7", "fold 6"]
    assert "repeat it with other seeds" in found[0].advice
    assert "an easy fold" in found[1].advice, "better than the others"
    assert all("seven-fold runs" in flag.evidence for flag in found)


def test_a_mean_is_no_fold() -> None:
    runs = [paper(fold, valence=v) for fold, v in ((0, 0.1), (1, 0.6), (2, 0.61), (3, 0.62), (4, 0.63))]
    assert [flag for flag in flags(runs) if flag.where == "fold 0" or "0.1" in flag.evidence] == []


def test_the_limit_of_a_gap_is_a_twentieth(tmp_path: Path, write_run) -> None:
    for fold, valid in ((1, 0.549), (2, 0.551), (3, 0.449)):
        write_run(tmp_path / "a", fold, {"valence": 0.5}, valid={"valence": valid})
    assert kinds(tmp_path / "a") == {("valid above test", "seed0/fold2"), ("test above valid", "seed0/fold3")}


def test_a_gap_is_a_row_a_fold_whatever_the_seeds() -> None:
    gaps = {(1, 0): (0.3, 0.1), (1, 1): (0.3, -0.08), (1, 2): (0.01, 0.1), (2, 0): (-0.2, 0.0)}
    gaps |= {(2, 1): (-0.2, 0.0), (2, 2): (-0.2, 0.0), (3, 0): (0.1, 0.0), (3, 1): (-0.1, 0.0), (3, 2): (0.0, 0.0)}
    runs = [
        paper(fold, {"valence": 0.5 + v, "arousal": 0.5 + a}, seed=seed, valence=0.5, arousal=0.5 + 0.1 * (seed > 0))
        for (fold, seed), (v, a) in gaps.items()
    ]
    found = [(flag.kind, flag.where, flag.evidence) for flag in flags(runs) if "test" in flag.kind]
    assert found == [
        ("valid above test", "fold 1, 2 of 3 seeds", "CCC-V: valid 0.703, test 0.500 (-0.203)"),
        (
            "test above valid",
            "fold 2, 3 of 3 seeds",
            "CCC-V: valid 0.300, test 0.500 (+0.200); CCC-A: valid 0.500, test 0.567 (+0.067)",
        ),
        ("test above valid", "fold 3, 2 of 3 seeds", "CCC-A: valid 0.500, test 0.567 (+0.067)"),
    ]


def test_many_runs_with_every_fault_are_a_dozen_rows(tmp_path: Path, write_run) -> None:
    """Six folds of three seeds, all of which fall, explode, repeat themselves and lie apart."""
    random = np.random.default_rng(0)
    for seed in (0, 1, 2):
        for fold in range(1, 7):
            test = {"valence": 0.5 if fold < 6 else 0.05, "arousal": 0.6}
            valid = {"valence": test["valence"] + random.normal(0, 0.3), "arousal": 0.6 + random.uniform(-0.2, 0.2)}
            path = write_run(
                tmp_path / "a", fold, test, seed=seed, valid=valid, epochs=10, size=40, waiting=0.5, dialogues=False
            )
            course(path, RISING_THEN_FALLING if fold % 2 else [0.3] * 10, lambda step: 0.3 + 0.01 * step)
            (path / "environment.json").unlink()
    found = flags(read(tmp_path / "a"))
    assert 8 <= len(found) <= 13
    rows = {flag.kind: flag for flag in found}
    assert rows["unreadable"].where == "18 of 18 runs, the first seed0/fold1"
    assert "; also in " in rows["falling score"].evidence
    assert rows["falling score"].where.startswith("9 of 18 runs, most in seed")
    shown = report.write(tmp_path / "a").read_text(encoding="utf-8").split("## Flags")[1].split("## Training")[0]
    for flag in found[:6]:
        if flag.advice:
            assert shown.count(flag.advice.replace("*", "\\*")) == 1, "each advice once"
    order = [flag.kind for flag in found]
    assert order.index("unreadable") < order.index("rising loss") < order.index("test above valid")


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
    assert found[kind].evidence.startswith("test arousal: 3 of 200" if value is None else "test arousal: deviation")


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
        file.write('{"step": 9, "seconds": 80.0, "waiting": 0.32}\n')
    (flag,) = flags(read(tmp_path / "a"))
    assert (flag.kind, flag.evidence.split()[0]) == ("data-bound", "30%")


def course(path: Path, values: list[float], losses: Callable[[int], float] | None = None) -> None:
    """Give a run these validation scores, an epoch each, and this loss by step."""

    def change(event: dict[str, Any]) -> None:
        if event["event"] == "eval":
            event["scores"]["ccc_valence"] = values[event["step"] // 20 - 1]
        if event["event"] == "step" and losses is not None:
            event["loss"] = losses(event["step"])

    change_events(path, change)


def test_a_validation_score_that_stands_still(tmp_path: Path, write_run) -> None:
    path = write_run(tmp_path / "a", 1, {"valence": 0.5})
    course(path, [0.4 - 0.001 * k for k in range(1, 7)])
    flag = only(tmp_path / "a")
    words = "valid CCC-V 0.399 in the first third, 0.395 in the last, below 0.60"
    assert (flag.kind, flag.evidence) == ("stands still", words)
    assert all(rate in flag.advice for rate in ("5e-5", "5e-6"))
    course(path, [0.4, 0.4, 0.4, 0.41, 0.42, 0.43])
    assert kinds(tmp_path / "a") == set()


RISING_THEN_FALLING = [0.40, 0.55, 0.56, 0.54, 0.52, 0.50, 0.49, 0.48, 0.47, 0.46]


def test_a_validation_score_that_falls_while_the_loss_does_too(tmp_path: Path, write_run) -> None:
    path = write_run(tmp_path / "a", 1, {"valence": 0.5}, epochs=10)
    course(path, RISING_THEN_FALLING, lambda step: 1 / step)
    flag = only(tmp_path / "a")
    assert flag.kind == "falling score"
    assert flag.evidence.startswith("valid CCC-V 0.560 at epoch 3, 0.470 at last; the training loss went from ")
    assert "earlier stopping (--train.patience), encoder_lr 5e-6" in flag.advice
    assert "encoder_lr 5e-6" in flag.advice
    course(path, RISING_THEN_FALLING, lambda step: 0.3 + 0.0005 * step)
    found = {flag.kind: flag for flag in flags(read(tmp_path / "a"))}
    assert "rates are too high" in found["falling score"].advice and "loss does not fall" in found


@pytest.mark.parametrize(
    "values",
    [
        [*RISING_THEN_FALLING[:3], 0.55, 0.54, 0.54, 0.54, 0.54, 0.54, 0.54],  # by .02 only
        [0.4, 0.75, 0.41, 0.42, 0.43, 0.44, 0.45, 0.5, 0.55, 0.57],  # one lucky evaluation
    ],
)
def test_what_is_no_fall(tmp_path: Path, write_run, values: list[float]) -> None:
    course(write_run(tmp_path / "a", 1, {"valence": 0.5}, epochs=10), values)
    assert kinds(tmp_path / "a") == set()


@pytest.mark.parametrize(
    "values",
    [
        [0.5, 0.45, 0.4, 0.3, 0.2],
        [0.5, 0.4, 0.3],
        [0.4, 0.66, 0.6],
        [0.66 * (1 - math.exp(-k / 3)) for k in range(1, 13)] + [0.2] * 3,  # a collapse at the end
        [0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.58, 0.56, 0.5, 0.4],  # best late
    ],
)
def test_a_fall_from_wherever_the_best_is(tmp_path: Path, write_run, values: list[float]) -> None:
    course(write_run(tmp_path / "a", 1, {"valence": 0.5}, epochs=len(values)), values)
    assert kinds(tmp_path / "a") == {("falling score", "seed0/fold1")}


def test_noise_around_a_low_level_stands_still(tmp_path: Path, write_run) -> None:
    path = write_run(tmp_path / "a", 1, {"valence": 0.5}, epochs=20)
    # No quick check: the corpus has no other fold.
    change_recipe(path, "data", split="column")
    random = np.random.default_rng(0)
    for _ in range(8):
        course(path, list(0.45 + random.uniform(-0.02, 0.02, 20)))
        assert kinds(tmp_path / "a") == {("stands still", "seed0/fold1")}
        course(path, list(np.linspace(0.40, 0.50, 20) + random.uniform(-0.02, 0.02, 20)))
        assert kinds(tmp_path / "a") == set(), "a rise of .1 is none"


@pytest.mark.parametrize("shape", ["uniform", "normal"])
def test_noise_is_called_still_and_not_falling(shape: str) -> None:
    random = np.random.default_rng(1)
    noises = random.uniform(-0.02, 0.02, (300, 20)) if shape == "uniform" else random.normal(0, 0.02, (300, 20))
    courses = [0.45 + noise for noise in noises]
    assert np.mean([fall(values) is None for values in courses]) > 0.94
    assert np.mean([still(values) is not None for values in courses]) > 0.94


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=6, max_size=25))
def test_what_only_rises_never_falls_and_what_only_falls_is_still(values: list[float]) -> None:
    up, down = np.array(sorted(values)), np.array(sorted(values, reverse=True))
    assert fall(up) is None
    assert still(down) is not None
    size = len(values) // 3
    assert still(up) is None or up[-size:].mean() - up[:size].mean() <= 0.03 + 1e-9


@pytest.mark.parametrize(
    ("level", "test", "ridge", "found"),
    [(0.7, 0.7, 0.5, False), (0.7, 0.7, 0.75, True), (0.58, 0.58, 0.5, True), (0.7, 0.7, None, False)],
)
def test_a_good_level_from_the_first_epoch_on_is_no_fault(tmp_path, write_run, level, test, ridge, found) -> None:
    beside = {} if ridge is None else {"ridge": {"valence": ridge}}
    path = write_run(tmp_path / "a", 1, {"valence": test}, baselines=beside, epochs=10)
    course(path, [level + 0.004 * (-1) ** k for k in range(10)])
    flagged = [flag for flag in flags(read(tmp_path / "a")) if not flag.kind.startswith("quick")]
    below = ["below a trivial model"] if ridge is not None and ridge > test else []
    assert [flag.kind for flag in flagged] == [*below, *(["stands still"] if found else [])]
    if ridge == 0.75:
        assert "ridge has 0.750 on test, the network 0.700" in flagged[1].evidence


@pytest.mark.parametrize(
    ("model", "blamed"),
    [
        ({"encoder": "none", "train_encoder": "transformer"}, False),
        ({"encoder": "mel", "train_encoder": "transformer"}, False),
        ({"encoder": "microsoft/wavlm-large", "train_encoder": "none"}, False),
        ({"encoder": "microsoft/wavlm-large", "train_encoder": "none", "lora": 8}, True),
        ({"encoder": "microsoft/wavlm-large", "train_encoder": "all"}, True),
        ({"encoder": "none", "text": "tiny", "train_text": "all"}, True),
    ],
)
def test_a_rate_that_decides_nothing_is_not_blamed(tmp_path: Path, write_run, model: dict, blamed: bool) -> None:
    for fold, value in ((1, 0.5), (2, 0.51), (3, 0.5), (4, 0.1)):
        path = write_run(tmp_path / "a", fold, {"valence": value}, valid={"valence": value + 0.3}, epochs=10)
        recipe = json.loads((path / "recipe.json").read_text()) | {"model": model}
        (path / "recipe.json").write_text(json.dumps(recipe))
        course(path, RISING_THEN_FALLING if fold == 1 else [0.4] * 10, lambda step: 0.3 + 0.01 * step)
        with (path / "metrics.jsonl").open("r+") as file:
            text = file.read().replace('"grad_norm": 1.0', '"grad_norm": 900.0', 1)
            file.seek(0)
            file.write(text)
    found = flags(read(tmp_path / "a"))
    seen = {flag.kind for flag in found}
    assert {"stands still", "falling score", "rising loss", "valid above test", "outlying fold"} <= seen
    assert any("encoder_lr" in flag.advice for flag in found) == blamed
    assert all(flag.advice for flag in found)


@pytest.mark.parametrize(
    ("losses", "kind"),
    [
        (lambda step: 0.3 + 1.2 * step / 400, "rising loss"),  # steadily, from .3 to 1.5
        (lambda step: 0.9 - 0.006 * step if step < 100 else 0.3 + 0.002 * (step - 100), "rising loss"),  # and back
        (lambda step: 1 - 0.99 * step / 300 if step < 300 else 0.01 + 0.0003 * (step - 300), None),  # near 0 still
        (lambda step: 0.5 + 0.1 * math.sin(7.0 * step), "loss does not fall"),  # noise
        (lambda step: 0.4 + 0.1 * step / 400, "loss does not fall"),  # a little
        (lambda step: 0.5 + 0.1 * math.sin(7.0 * step) + (step < 11), None),  # all of its fall in ten steps
        (lambda step: 0.5 + 0.3 * math.sin(7.0 * step) - 0.1 * step / 400, None),  # a fall that many steps tell
    ],
)
def test_a_loss_that_rises_or_does_not_fall(
    tmp_path: Path, write_run, losses: Callable[[int], float], kind: str | None
) -> None:
    path = write_run(tmp_path / "a", 1, {"valence": 0.7}, epochs=20)
    course(path, [0.5 + 0.01 * k for k in range(20)], losses)
    found = [flag for flag in flags(read(tmp_path / "a")) if not flag.kind.startswith("quick")]
    assert [flag.kind for flag in found] == ([kind] if kind else [])
    if kind == "rising loss":
        assert "at last" in found[0].evidence
        assert "halve lr and encoder_lr" in found[0].advice
    elif kind:
        assert "in its first steps" in found[0].evidence and "learning rate" in found[0].advice


@pytest.mark.parametrize(
    ("losses", "kind"),
    [
        (lambda step: 0.4 if step < 80 else 0.4 + 0.05 * (step - 80), "exploding loss"),
        (lambda step: 3.0 if step == 70 else 0.4, "loss does not fall"),  # one odd batch
        (lambda step: 1.0 if step < 20 else 0.01 if step < 100 else 0.04, None),  # still far below its start
        (lambda step: -0.4 if step < 80 else -0.1, "loss does not fall"),  # log variances make losses negative
    ],
)
def test_a_loss_that_explodes(tmp_path: Path, write_run, losses: Callable[[int], float], kind: str | None) -> None:
    change_events(
        write_run(tmp_path / "a", 1, {"valence": 0.5}),
        lambda event: event.update(loss=losses(event["step"])) if event["event"] == "step" else None,
    )
    assert kinds(tmp_path / "a") == ({(kind, "seed0/fold1")} if kind else set())
    if kind == "exploding loss":
        flag = only(tmp_path / "a")
        assert "0.4 (median) before" in flag.evidence
        assert ".3" in flag.advice


@pytest.mark.parametrize(("norm", "found"), [(99.0, False), (101.0, True)])
def test_a_gradient_that_explodes(tmp_path: Path, write_run, norm: float, found: bool) -> None:
    path = write_run(tmp_path / "a", 1, {"valence": 0.5})
    change_events(path, lambda event: event.update(grad_norm=norm) if event.get("step") == 33 else None)
    assert kinds(tmp_path / "a") == ({("exploding gradient", "seed0/fold1")} if found else set())
    if found:
        words = "norm 101 at step 33, the median is 1 (1 of 120 steps over 100 times it)"
        assert only(tmp_path / "a").evidence == words


@pytest.mark.parametrize(
    ("norms", "losses", "found"),
    [
        (lambda step: 1.0 if step < 60 else 1e-3, lambda step: 0.9 - 0.001 * step, "norm 0.001 at steps 115 on, 1"),
        (lambda step: 1.0 if step < 60 else 1e-3, lambda step: 0.9 * 0.98**step, None),  # what is wanted
        (lambda step: 1.0 if step < 60 else 2e-2, lambda step: 0.9 - 0.001 * step, None),
        (lambda step: 0.0, lambda step: 0.9 - 0.001 * step, "norm 0 at most, all steps"),
    ],
)
def test_a_gradient_that_vanishes(tmp_path: Path, write_run, norms, losses, found: str | None) -> None:
    path = write_run(tmp_path / "a", 1, {"valence": 0.5})

    def change(event: dict[str, Any]) -> None:
        if event["event"] == "step":
            event.update(grad_norm=norms(event["step"]), loss=losses(event["step"]))

    change_events(path, change)
    assert kinds(tmp_path / "a") == ({("vanishing gradient", "seed0/fold1")} if found else set())
    if found:
        assert only(tmp_path / "a").evidence.startswith(found) and "saturated" in only(tmp_path / "a").advice


@pytest.mark.parametrize(("train", "found"), [(0.63, False), (0.66, True)])
def test_a_model_that_knows_its_training_rows(tmp_path: Path, write_run, train: float, found: bool) -> None:
    for fold in (1, 2):
        path = write_run(tmp_path / "a", fold, {"valence": 0.5})
        value = train + 0.01 * fold - 0.01
        change_events(
            path, lambda e, v=value: e["scores"].update(train={"ccc_valence": v}) if "best_step" in e else None
        )
    assert bool(flags(read(tmp_path / "a"))) == found
    if found:
        flag = only(tmp_path / "a")
        assert (flag.kind, flag.where) == ("train above valid", "2 of 2 runs, most in seed0/fold2")
        assert flag.evidence == "CCC-V: train 0.670, valid 0.500; also in seed0/fold1"


@pytest.mark.parametrize(
    ("scale", "change", "kind", "words"),
    [
        ([1, 5], lambda v: v, None, ""),
        ([1, 5], lambda v: (v - 1) / 4, "label range", "labels from 0 to 1 on a scale of 1 to 5: 9"),
        ([0, 100], lambda v: v, "label range", "labels from 1 to 5 on a scale of 0 to 100: 4% of it used"),
        (None, lambda v: v / 100, None, ""),  # an unknown scale can't be left
    ],
)
def test_labels_that_do_not_fit_their_scale(tmp_path, write_run, scale, change, kind, words) -> None:
    path = write_run(tmp_path / "a", 1, {"valence": 0.5}, environment={"scale": scale})

    def apply(_: int, row: dict[str, Any]) -> None:
        row["target"]["valence"] = change(row["target"]["valence"])
        row["prediction"]["valence"] = min(max(change(row["prediction"]["valence"]), change(1.2)), change(4.8))

    change_rows(path, apply)
    found = [flag for flag in flags(read(tmp_path / "a")) if flag.kind not in ("valid above test",)]
    assert [flag.kind for flag in found if flag.kind == "label range"] == ([kind] if kind else [])
    assert any(words in flag.evidence for flag in found) == bool(words)


@pytest.mark.parametrize(
    ("value", "every", "kind"),
    [(5.5, 10, "predictions off the scale"), (5.5, 50, None), (4.99, 3, "predictions at the border"), (4.99, 10, None)],
)
def test_predictions_off_the_scale_or_at_its_border(tmp_path, write_run, value, every, kind) -> None:
    path = write_run(tmp_path / "a", 1, {"valence": 0.5}, environment={"scale": [1, 5]})

    def apply(i: int, row: dict[str, Any]) -> None:
        row["prediction"]["valence"] = value if i % every == 0 else min(max(row["prediction"]["valence"], 1.1), 4.9)

    change_rows(path, apply)
    found = {flag.kind: flag for flag in flags(read(tmp_path / "a")) if flag.kind.startswith("predictions")}
    assert list(found) == ([kind] if kind else [])
    assert all("--model.sigmoid" in flag.advice for flag in found.values())


def test_runs_of_different_scales(tmp_path: Path, write_run) -> None:
    for fold, scale in ((1, [1, 5]), (2, [1, 7])):
        write_run(tmp_path / "a", fold, {"valence": 0.5}, environment={"scale": scale})
    assert ("mixed corpus", "scale is 1 5 or 1 7") in [(f.kind, f.evidence) for f in flags(read(tmp_path / "a"))]


HELD_OUT = {"train": ["Ses03", "Ses04"], "valid": ["Ses02"], "test": ["Ses01"]}


@pytest.mark.parametrize(
    ("held_out", "words"),
    [(HELD_OUT, ""), (HELD_OUT | {"valid": ["Ses03", "Ses04"]}, "2 groups (Ses03 and 1 more) in train and valid")],
)
def test_groups_on_both_sides_of_a_split(tmp_path: Path, write_run, held_out: dict[str, list[str]], words: str) -> None:
    write_run(tmp_path / "a", 1, {"valence": 0.5}, environment={"held_out": held_out})
    assert [flag.evidence for flag in flags(read(tmp_path / "a"))] == ([words] if words else [])


@pytest.mark.parametrize(
    ("split", "shared", "words"),
    [
        (
            "speaker",
            {"dialogue": "d1", "session": "Ses01"},
            None,
        ),  # two speakers of one dialogue, as the protocol has it
        ("session", {"dialogue": "d1"}, "1 dialogue (d1) in valid and test"),
        ("speaker", {"speaker": "M"}, "1 speaker (M) in valid and test"),
        ("column", {"id": "a"}, "1 utterance (a) in valid and test"),
        ("column", {"speaker": None, "dialogue": None}, None),  # unknown is not the same
    ],
)
def test_rows_on_both_sides_of_a_split(tmp_path: Path, write_run, split: str, shared: dict, words: str | None) -> None:
    path = write_run(tmp_path / "a", 1, {"valence": 0.5})
    change_recipe(path, "data", split=split)
    for part in ("valid", "test"):
        change_rows(path, lambda i, row: row.update(shared if i == 0 else {}), part)
    assert [flag.evidence for flag in flags(read(tmp_path / "a"))] == ([words] if words else [])


def test_a_leak_is_one_flag_for_all_runs(tmp_path: Path, write_run) -> None:
    for fold in (1, 2, 3):
        path = write_run(tmp_path / "a", fold, {"valence": 0.5})
        change_recipe(path, "data", allow_shared=True)
        if fold > 1:
            for part in ("valid", "test"):
                change_rows(path, lambda i, row, n=fold: row.update(speaker=f"M{i % n}"), part)
    found = {flag.kind: (flag.where, flag.evidence) for flag in flags(read(tmp_path / "a"))}
    words = "3 speakers (M0 and 2 more) in valid and test; also in seed0/fold2"
    assert found["leaking split"] == ("2 of 3 runs, most in seed0/fold3", words)
    assert found["sharing allowed"][0].startswith("3 of 3 runs")


def test_the_advice_on_a_leak_is_what_the_corpus_can_do(tmp_path: Path, write_run) -> None:
    def written(name: str, shared: dict[str, Any], everyone: dict[str, Any], **data: object) -> str:
        path = write_run(tmp_path / name, 1, {"valence": 0.5})
        change_recipe(path, "data", **data)
        for part in ("valid", "test"):
            change_rows(path, lambda i, row: row.update(everyone | (shared if i == 0 else {})), part)
        return next(flag for flag in flags(read(tmp_path / name)) if flag.kind == "leaking split").advice

    text = {"speaker": None, "session": None}
    advice = written("text", {"dialogue": "d1"}, text, split="column", allow_shared=True)
    assert "new rows (sentences) of documents (dialogues) that training or validation knows" in advice
    assert "only with scores of the same split" in advice
    assert "speaker" not in advice
    speech = written("speech", {"dialogue": "d1"}, {}, split="column", allow_shared=True)
    assert "--data.split speaker tells about new speakers" in speech
    assert written("rows", {"id": "a"}, {}, split="column") == (
        "the same row in two parts is a mistake of the split: give each row one part"
    )
    assert "split by session or speaker" not in written("bare", {"dialogue": "d1"}, text, split="session")
    assert "split by speaker (--data.split)" in written("plain", {"dialogue": "d1"}, {}, split="session")


@pytest.mark.parametrize(("used", "found"), [(0.89, False), (0.91, True)])
def test_memory_that_is_nearly_full(tmp_path: Path, write_run, used: float, found: bool) -> None:
    path = write_run(tmp_path / "a", 1, {"valence": 0.5}, environment={"device_memory_bytes": 24 * 2**30})
    with (path / "timing.jsonl").open("a") as file:
        file.write(json.dumps({"step": 9, "seconds": 1.0, "waiting": 0.0, "memory_bytes": used * 24 * 2**30}) + "\n")
    assert kinds(tmp_path / "a") == ({("memory nearly full", "seed0/fold1")} if found else set())
    if found:
        assert only(tmp_path / "a").evidence == "21.8 of 24.0 GB (91%)"


@pytest.mark.parametrize(
    ("valence", "epochs", "fold", "split", "kind"),
    [
        (0.63, 20, (1,), "session", "quick check passed"),
        (0.61, 20, (1,), "session", None),
        (0.59, 20, (1,), "session", "quick check failed"),
        (0.59, 12, (1,), "session", None),  # too early to say
        (0.63, 20, (1, 2), "session", None),  # no quick check
        (0.63, 20, (1,), "column", None),  # the corpus has no other fold
        (0.63, 20, (1,), "own", None),  # the bars are of one corpus
    ],
)
def test_a_quick_check(tmp_path, write_run, valence, epochs, fold, split, kind) -> None:
    for number in fold:
        path = write_run(tmp_path / "a", number, {"valence": valence}, epochs=epochs)
        own = {"corpus": "csv_folder", "split": "session"} if split == "own" else {"split": split}
        change_recipe(path, "data", **own)
    found = {flag.kind: flag for flag in flags(read(tmp_path / "a"))}
    assert list(found) == ([kind] if kind else [])
    if kind:
        assert found[kind].where == "fold 1"
        assert ("finetune_full" if "passed" in kind else "encoder_lr") in found[kind].advice


@pytest.mark.parametrize(("noise", "found"), [(0.02, False), (0.2, True)])
def test_seeds_that_differ_more_than_folds(noise: float, found: bool) -> None:
    folds = {1: 0.5, 2: 0.55, 3: 0.6}
    runs = [paper(f, seed=s, valence=v + noise * (s - 0.5)) for f, v in folds.items() for s in (0, 1)]
    seen = [(flag.kind, flag.evidence) for flag in flags(runs)]
    deviation = noise * math.sqrt(0.5)
    expected = [("seeds differ more than folds", f"CCC-V: ± {deviation:.3f} over seeds, ± 0.050 over folds")]
    assert seen == (expected if found else [])
    assert float(np.std([0.5, 0.55, 0.6], ddof=1)) == pytest.approx(0.05)


def test_a_class_that_is_always_predicted(tmp_path: Path, write_run) -> None:
    path = write_run(tmp_path / "a", 1, {"valence": 0.5})

    def classes(i: int, row: dict[str, Any]) -> None:
        row["target"]["emotion"], row["prediction"]["emotion"] = ("ang", "sad", None)[i % 3], "sad"

    change_rows(path, classes)
    flag = next(flag for flag in flags(read(tmp_path / "a")) if flag.kind == "constant predictions")
    assert flag.evidence == "test emotion: always sad, the labels have 2 classes"
    change_rows(path, lambda i, row: row["prediction"].update(emotion=None if i == 0 else "ang" if i == 1 else "sad"))
    found = {flag.kind: flag.evidence for flag in flags(read(tmp_path / "a"))}
    assert found["NaN predictions"] == "test emotion: 1 of 200; there is no score"
    assert "constant predictions" not in found


def test_a_paper_is_no_broken_run() -> None:
    runs = [paper(1, valence=0.5), paper(2, valence=0.5), paper(1, seed=1, valence=0.5)]
    assert flags(runs) == []
    assert [flag.kind for flag in flags([*runs, Run(name="seed0/fold1", seed=0, fold=1, finished=True)])] == [
        "no predictions"
    ]


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
    scores = {"valence": 0.5, "arousal": 0.6}
    for fold, value in ((1, "one"), (2, "other")):
        path = write_run(tmp_path / "run", fold, scores) / "recipe.json"
        recipe = json.loads(path.read_text(encoding="utf-8"))
        part, _, field = name.rpartition(".")
        (recipe[part] if part else recipe)[field] = value
        path.write_text(json.dumps(recipe), encoding="utf-8")
    assert not [flag for flag in flags(read(tmp_path / "run")) if flag.kind == "mixed settings"]


def test_what_a_run_says_of_its_data_is_flagged_once(tmp_path: Path, write_run) -> None:
    signs = [{"kind": "silent recordings", "evidence": "2 of 9 recordings are silent or constant: a, b"},
             {"kind": "class not trained", "evidence": "test has 'fear' (1), of which train has none"}]  # fmt: skip
    for fold in (1, 2):
        environment = {"signs": signs[: 3 - fold], "ratings": "means of 9 rows of 3 recordings"}
        write_run(tmp_path / "x", fold, {"valence": 0.5, "arousal": 0.5}, environment=environment)
    told = {flag.kind: flag for flag in flags(read(tmp_path / "x")) if flag.kind in {sign["kind"] for sign in signs}}
    assert told["silent recordings"].where == "2 of 2 runs, the first seed0/fold1"
    assert told["class not trained"].evidence == signs[1]["evidence"] and told["class not trained"].advice
    text = report.write(tmp_path / "x").read_text()
    assert "Labels are means of 9 rows of 3 recordings" in text and "test has 'fear' (1)" in text
    assert "{'kind'" not in text, "a sign stands among the flags alone"


@pytest.mark.parametrize(
    ("valence", "words"),
    [
        (0.11, "CCC-V 0.110, ridge 0.560 (-0.450 [-0."),
        (0.6, None),
        (0.55, "(-0.010 [-0."),
    ],
)
def test_a_network_below_a_trivial_model(tmp_path: Path, write_run, valence: float, words: str | None) -> None:
    near = {"ridge": {"valence": 0.56}, "constant": {"valence": 0.0}, "oracle_speech": {"valence": 0.99}}
    write_run(tmp_path / "a", 1, {"valence": valence}, baselines=near)
    found = {flag.kind: flag for flag in flags(read(tmp_path / "a"))}
    assert ("below a trivial model" in found) == (words is not None)
    if words:
        flag = found["below a trivial model"]
        assert words in flag.evidence and flag.where == "test" and "train score" in flag.advice
        assert ("within noise" in flag.evidence) == (valence == 0.55)


@pytest.mark.parametrize(
    ("model", "choose", "there", "absent"),
    [
        ({"encoder": "none"}, "last", ["fewer epochs (--train.epochs)"], ["mamba_layers", "encoder_lr", "patience"]),
        (
            {"encoder": "none", "prosody_dim": 128},
            "best",
            ["earlier stopping (--train.patience)", "prosody_dim 64"],
            ["mamba_layers", "augment", "encoder_lr"],
        ),
        ({"dialogue": "mamba", "mamba_layers": 4}, "best", ["mamba_layers 2", "--augment.noise"], []),
    ],
)
def test_advice_is_what_the_recipe_can_do(tmp_path: Path, write_run, model, choose, there, absent) -> None:
    path = write_run(tmp_path / "a", 1, {"valence": 0.5}, valid={"valence": 0.8}, epochs=20)
    change_recipe(path, "model", train_encoder="transformer" if "dialogue" in model else "none", **model)
    change_recipe(path, "train", choose=choose)
    course(path, [0.8 if k < 10 else 0.5 for k in range(20)], lambda step: 1.0 - step / 1000)
    found = {flag.kind: flag.advice for flag in flags(read(tmp_path / "a"))}
    text = f"{found['valid above test']} {found['falling score']}"
    assert all(words in text for words in there)
    assert not any(words in text for words in [*absent, "{", "report 0", "Report 0"])


def test_no_task_names_a_report_that_its_user_never_saw() -> None:
    from affect import tasks

    for name in tasks.names():
        advice = tasks.task_class(name)(tasks.task_class(name).recipe_class()).advice()
        assert not [kind for kind, text in {**all_flags.ADVICE, **advice}.items() if "report 00" in text.lower()]


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parents[2] / "recipes").glob("*.py")), ids=lambda path: path.stem
)
def test_no_list_of_experiments_names_a_report_that_its_user_never_saw(path: Path) -> None:
    from affect.cli.arguments import experiments_in
    from affect.cli.main import overview

    assert not re.search(r"report\W+00", overview(experiments_in(path)).lower())


def test_no_help_of_a_field_names_a_report_that_its_user_never_saw() -> None:
    import tyro

    from affect import tasks

    for name in tasks.names():
        shown = tyro.extras.get_parser(tasks.task_class(name).recipe_class).format_help()
        assert "--train.batch" in shown and not re.search(r"report\W+00", shown.lower()), name


def test_a_short_run_is_not_data_bound(tmp_path: Path, write_run) -> None:
    path = write_run(tmp_path / "a", 1, {"valence": 0.5}, waiting=0.9)
    assert kinds(tmp_path / "a") == set()
    with (path / "timing.jsonl").open("a") as file:
        file.write('{"step": 9, "seconds": 60.0, "waiting": 0.9}\n')
    assert kinds(tmp_path / "a") == {("data-bound", "seed0/fold1")}


def test_a_score_that_labels_do_not_define_is_told_of_its_fold(tmp_path: Path, write_run) -> None:
    for fold in (1, 2):
        path = write_run(tmp_path / "x", fold, {"valence": 0.5, "arousal": 0.6})
    change_rows(path, lambda i, row: row["target"].update(valence=3.0))
    (flag,) = [flag for flag in flags(read(tmp_path / "x")) if flag.kind == "undefined score"]
    assert (flag.where, flag.evidence) == ("seed0/fold2", "test: no CCC-V: fewer than two labels, or all the same")
    study = Study(runs=read(tmp_path / "x"))
    scored = study.scored("test", study.headline[0])
    assert scored.mean == pytest.approx(0.5, abs=0.02), "the mean of the folds that have one"
