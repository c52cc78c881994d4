"""A task of another package, found by its entry point, goes its whole way: no file of affect names it.

It is unlike both of affect's: outputs a frame, predictions that are lists, a measure where lower is better, a predict
that loops over a recording, one fold, examples drawn anew each epoch. Pushing and loading: tests/hub/test_hub_third.py.
"""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from affect import cli
from affect.training import step
from tests import forked

ROOT = Path(__file__).parents[2]
RECIPE = str(ROOT / "tests" / "third" / "recipes.py")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """An empty folder, beside it a package that brings the task."""
    top = tmp_path_factory.mktemp("third")
    installed = top / "site" / "activity-1.0.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: activity\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text("[affect.tasks]\nactivity = tests.third.task:ActivityTask\n")
    return top


def run(place: Path, *words: str, fails: bool = False, steps: int | None = None) -> str:
    """Run `affect` or the recipe file in the folder and return what it printed (or its error).

    It is interrupted in the step after `steps`.
    """

    def work() -> None:
        os.chdir(place)
        sys.path.insert(0, str(place / "site"))
        sys.argv = list(words)
        if steps is not None:
            interrupt_after(steps)
        if words[0] == "affect":
            cli.main()
        else:
            runpy.run_path(words[0], run_name="__main__")

    done = forked.program(work)
    assert (done.returncode != 0) == fails, done.stderr
    return done.stderr if fails else done.stdout


def interrupt_after(steps: int) -> None:
    real, seen = step.accumulate, []

    def cut(*given, **named):
        seen.append(1)
        if len(seen) > steps:
            raise KeyboardInterrupt
        return real(*given, **named)

    step.accumulate = cut


@pytest.fixture(scope="module")
def trained(place) -> Path:
    """The demo and, from its weights, a second stage."""
    run(place, RECIPE, "both")
    return place / "runs" / "demo" / "seed0" / "fold1"


def lines(folder: Path, event: str) -> list[dict]:
    found = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [line for line in found if line["event"] == event]


def test_it_trains_on_rows_drawn_anew_and_is_evaluated_twice(trained):
    steps, evals, (end,) = lines(trained, "step"), lines(trained, "eval"), lines(trained, "end")
    assert len(steps) == 12
    assert len({line["diagnostics"]["frames"] for line in steps if "diagnostics" in line}) > 3, "other rows each epoch"
    assert [line["evaluation"] for line in evals] == ["valid"] * 4
    assert set(end["scores"]) == {"train", "valid", "test", "test@loud"}
    errors = [line["scores"]["error"] for line in evals]
    assert end["best_epoch"] == int(np.argmin(errors)), "lower is better"
    row = json.loads((trained / "predictions-test.jsonl").read_text().splitlines()[0])
    assert len(row["prediction"]["active"]) == len(row["target"]["active"]) > 4


def test_the_weights_of_its_terms_follow_their_values(trained):
    weights = [line["weights"] for line in lines(trained, "step")]
    assert weights[0] == {"bce_active": 1.0, "mse_share": 1.0}
    assert weights[-1] != weights[0]
    assert sum(weights[-1].values()) == pytest.approx(2.0)


def test_a_second_stage_starts_from_the_first_ones_weights(place, trained):
    log = (place / "runs" / "tuned" / "seed0" / "fold1" / "train.log").read_text()
    assert "starting from other weights: 6 tensors taken, 0 new, 0 of theirs left" in log
    recipe = json.loads((place / "runs" / "tuned" / "seed0" / "fold1" / "recipe.json").read_text())
    assert recipe["train"]["init_from"] == "runs/demo"


def test_an_interrupted_run_goes_on_byte_for_byte(place, trained):
    """The state of the scheduled weights is in the checkpoint."""
    run(place, RECIPE, "demo", "--runs", "cut", steps=19, fails=True)
    assert 6 < len(lines(place / "cut" / "demo" / "seed0" / "fold1", "step")) < 12
    run(place, RECIPE, "demo", "--runs", "cut")
    resumed = place / "cut" / "demo" / "seed0" / "fold1"
    assert (resumed / "metrics.jsonl").read_bytes() == (trained / "metrics.jsonl").read_bytes()


def test_it_is_reported_and_compared(place, trained):
    run(place, RECIPE, "wide")
    said = run(place, "affect", "report", "runs/wide", "--against", "demo", "--target", "error=.01")
    assert "error rate" in said and "Against demo" in said and "not reached" in said
    page = (place / "runs" / "wide" / "report.md").read_text()
    for words in ("## Frames", "frames were tested", "one recording room", "### loud", "made-up recordings"):
        assert words in page
    comparison = (place / "runs" / "comparison.md").read_text()
    assert "model.hidden 12 to 24" in comparison


def test_recordings_are_predicted_and_weights_exported(place, trained):
    np.save(place / "call.npy", np.random.default_rng(0).normal(size=(9, 5)).astype(np.float32))
    (line,) = map(json.loads, run(place, "affect", "predict", str(trained), "call.npy").splitlines())
    assert len(line["active"]) == 9
    again = json.loads(run(place, "affect", "predict", str(trained), "call.npy", "--options", "threshold=0"))
    assert again["active"] == line["active"] and again["count"] == 9 >= line["count"]
    told = run(place, "affect", "predict", str(trained), "call.npy", "--options", "limit=1", fails=True)
    assert "a model of activity has no option 'limit=1'" in told and "threshold=0.5" in told
    refused = run(place, "affect", "predict", str(trained), "--text", "hello", fails=True)
    assert refused.count("\n") == 1 and "--text" in refused
    assert "model.npz" in run(place, "affect", "export", str(trained), "--format", "npz")
    arrays = dict(np.load(trained / "export" / "model.npz"))
    assert "body.0.weight" in arrays
    told = run(place, "affect", "export", str(trained), "--format", "npz", "--options", "scale=2")
    assert told.startswith(f"{len(arrays)} arrays\n")
    assert (np.load(trained / "export" / "model.npz")["body.0.weight"] == 2 * arrays["body.0.weight"]).all()
    for option, words in (("size=2", "no option 'size=2'; its options and their defaults, NAME=VALUE: scale=1"),
                          ("scale=big", "--options scale=big: scale must be float, not 'big'")):  # fmt: skip
        assert words in run(place, "affect", "export", str(trained), "--format", "npz", "--options", option, fails=True)
    assert "unknown format 'onnx'" in run(place, "affect", "export", str(trained), "--format", "onnx", fails=True)


def test_it_adds_a_subcommand(place):
    assert "rooms" in run(place, "affect", "--help")
    # As a user's own shell would find it.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(place / "site")])}
    command = (sys.executable, "-c", "from affect.cli import main; main()", "rooms", "--count", "2")
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "room0 room1\n"), done.stderr
