"""A search over a small model: all seeds and folds of a trial train together, and are pruned by their mean."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import optuna
import pytest
import torch

from affect.experiments import search as searching
from affect.experiments.definitions import Search, resolve
from affect.experiments.optuna_study import Study
from affect.experiments.search import PrunedError, Together
from affect.options import Options
from affect.training import stacked_trainer, trainer
from affect.training.run import DivergedError, Run
from tests.tasks.multimodal_emotion import small

RANGES = ("optim.lr=1e-4..1e-2 log",)
PLACES = ["seed0/fold1", "seed0/fold2", "seed1/fold1", "seed1/fold2"]


def stored(top: Path) -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name="search", storage=f"sqlite:///{top / 'study.db'}").trials


@pytest.fixture
def recipe(feature_corpus):
    return small.recipe(feature_corpus, epochs=2)


@pytest.fixture
def search(tmp_path, recipe):
    def run(trials: int = 2, *, prune: bool = False, name: str = "search", ranges=RANGES, **changes) -> Path:
        options = Options(runs=tmp_path / "runs", seeds=(0, 1), report=False)
        made = Search(of="base", ranges=ranges, trials=trials, prune=prune)
        base = small.with_(recipe, **changes)
        return searching.run(name, made, base, options, "a command", again=["base"])

    return run


# Trials


@pytest.mark.parametrize("width", [3, None])
def test_a_trial_trains_its_runs_at_once_and_its_score_is_their_mean(search, monkeypatch, width):
    seen = []
    real = stacked_trainer.train

    def counted(chosen, watch=None):
        seen.append(len(chosen))
        return real(chosen, watch)

    def alone(run):
        raise AssertionError("a run of its own")

    monkeypatch.setattr(stacked_trainer, "train", counted)
    monkeypatch.setattr(trainer, "train", alone)
    top = search(together=width)
    assert seen == ([3, 1] if width else [4]) * 2
    for trial in stored(top):
        folder = top / f"trial{trial.number}"
        assert [str(path.relative_to(folder)) for path in small.folders(folder)] == PLACES
        ends = [small.lines(path, "end")[0]["scores"] for path in small.folders(folder)]
        assert [list(end) for end in ends] == [["valid"]] * 4
        assert trial.value == pytest.approx(np.mean([end["valid"]["emoval"] for end in ends]), abs=1e-12)
        best = [max(e["scores"]["emoval"] for e in small.lines(path, "eval")) for path in small.folders(folder)]
        assert trial.value == pytest.approx(np.mean(best), abs=1e-12)
        assert not [path for path in folder.rglob("*") if "test" in path.name or "@" in path.name]
    kept = {path.parents[2].name for path in top.rglob("checkpoints")}
    assert kept == {f"trial{max(stored(top), key=lambda t: t.value).number}"}


def test_a_trial_gives_what_its_runs_give_one_after_another(search, monkeypatch):
    one = [trial.value for trial in stored(search())]
    monkeypatch.setattr(stacked_trainer, "can_stack", lambda *_: False)
    two = [trial.value for trial in stored(search(name="loop"))]
    assert one == pytest.approx(two, abs=1e-5)


@pytest.mark.parametrize("stacked", [True, False])
def test_a_trial_is_judged_by_what_chooses_its_epochs(search, monkeypatch, stacked):
    """By more than the fold as it is, here: a score that only validation computes."""
    if not stacked:
        monkeypatch.setattr(stacked_trainer, "can_stack", lambda *_: False)
    top = search(choose="subsets")
    for trial in stored(top):
        best = [
            max(event["score"] for event in small.lines(path, "selection"))
            for path in small.folders(top / f"trial{trial.number}")
        ]
        assert trial.value == pytest.approx(np.mean(best), abs=1e-6)


@pytest.mark.parametrize(("method", "call"), [("begin_step", 4), ("begin_step", 14), ("finish", 3)])
def test_an_interrupted_trial_goes_on(search, monkeypatch, tmp_path, method, call):
    """In its first or second epoch, and when some of its runs are predicted already."""
    whole = [trial.value for trial in stored(search(name="whole"))]
    real, calls = getattr(Run, method), []

    def interrupted(self, *arguments):
        calls.append(self.folder)
        if len(calls) == call:
            raise KeyboardInterrupt
        return real(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Run, method, interrupted)
        with pytest.raises(KeyboardInterrupt):
            search()
    (left,) = stored(tmp_path / "runs" / "search")
    assert left.state.name == "RUNNING"
    top = search()
    assert [trial.state.name for trial in stored(top)] == ["COMPLETE"] * 2
    assert stored(top)[0].params == left.params
    assert [trial.value for trial in stored(top)] == whole
    times = {path: path.stat().st_mtime_ns for path in top.rglob("metrics.jsonl")}
    assert len(stored(search(trials=3))) == 3
    assert {path: path.stat().st_mtime_ns for path in times} == times, "finished trials are left alone"


@pytest.mark.parametrize("error", [DivergedError("step 2: the loss is not a finite number"), MemoryError()])
def test_a_trial_of_which_a_run_fails_is_recorded_and_the_search_goes_on(search, monkeypatch, error):
    real = Run.update

    def failing(self, *arguments):
        if "trial0/seed0/fold2" in str(self.folder):
            raise error
        return real(self, *arguments)

    monkeypatch.setattr(Run, "update", failing)
    top = search()
    assert [trial.state.name for trial in stored(top)] == ["FAIL", "COMPLETE"]
    words = "1 of 4 runs diverged" if isinstance(error, DivergedError) else "out of memory"
    assert words in stored(top)[0].user_attrs["note"]
    assert words in (top / "report.md").read_text()


def test_the_study_is_told_the_mean_of_the_best_scores_so_far(search):
    """Stack by stack: of three runs, then of these at their end and the fourth."""
    top = search(trials=1, together=3)
    (trial,) = stored(top)
    scores = [
        np.maximum.accumulate([line["scores"]["emoval"] for line in small.lines(folder, "eval")])
        for folder in small.folders(top / "trial0")
    ]
    first = np.mean(scores[:3], axis=0)
    second = (np.sum([mine[-1] for mine in scores[:3]]) + scores[3]) / 4
    told = [value for _, value in sorted(trial.intermediate_values.items())]
    assert told == pytest.approx([*first, *second], abs=1e-12)
    assert told[-1] == pytest.approx(trial.value, abs=1e-12)


def test_a_pruned_trial_ends_at_once_and_the_search_goes_on(search, monkeypatch):
    real = Study.report

    def report(self, number, epoch, score, *, runs=None):
        real(self, number, epoch, score, runs=runs)
        return number == 0

    monkeypatch.setattr(Study, "report", report)
    top = search(together=2)
    first, second = stored(top)
    assert (first.state.name, second.state.name) == ("PRUNED", "COMPLETE")
    assert len(first.intermediate_values) == 1
    assert [str(path.relative_to(top / "trial0")) for path in small.folders(top / "trial0")] == PLACES[:2]
    assert not [*(top / "trial0").rglob("checkpoints")]
    assert "| 0     | pruned" in (top / "report.md").read_text()


# Pruning


class Told:
    """A study that takes note of what it is told, and prunes from an epoch on."""

    def __init__(self, until: float = np.inf):
        self.said: list[tuple[int, float, tuple[int, int]]] = []
        self.until = until

    def report(self, number: int, epoch: int, score: float, *, runs: tuple[int, int]) -> bool:
        self.said.append((epoch, score, runs))
        return epoch >= self.until


def at(place: Path, epoch: int, best: float | None, *, done: bool = False) -> SimpleNamespace:
    """Return a run as it stands after an epoch of 10 steps."""
    state = SimpleNamespace(step=10 * (epoch + 1), best=best)
    return SimpleNamespace(
        folder=place, state=state, done=done, schedule=SimpleNamespace(epoch=lambda step: step // 10)
    )


def watch(
    study: Told, places: list[Path], earlier: tuple[float, ...] = (), choose: str = "best", sign: int = 1
) -> Together:
    train = SimpleNamespace(choose=choose)
    measure = SimpleNamespace(sign=sign)
    task = SimpleNamespace(measures=[measure], recipe=SimpleNamespace(train=train))
    return Together(study, 7, places, earlier, task)


def test_the_mean_of_all_runs_is_reported_when_all_have_come_to_an_epoch(tmp_path):
    a, b, study = tmp_path / "a", tmp_path / "b", Told()
    seen = watch(study, [a, b], earlier=(0.6,))
    seen([at(a, 0, 0.1)])
    assert study.said == [], "b is yet to come"
    seen([at(b, 0, 0.3)])
    assert study.said == [(0, pytest.approx(np.mean([0.6, 0.1, 0.3])), (1, 3))]
    seen([at(a, 1, 0.2, done=True)])
    assert len(study.said) == 1, "b is an epoch behind"
    seen([at(b, 1, 0.3)])
    seen([at(b, 2, 0.9)])
    assert study.said[1:] == [
        (1, pytest.approx(np.mean([0.6, 0.2, 0.3])), (1, 3)),
        (2, pytest.approx(np.mean([0.6, 0.2, 0.9])), (1, 3)),
    ], "a is over, and counts with its best"


def test_a_run_that_ended_in_an_earlier_session_counts(tmp_path):
    a, b, study = tmp_path / "a", tmp_path / "b", Told(until=1)
    a.mkdir()
    lines = [
        {"event": "step", "step": 10, "epoch": 0},
        *({"event": "selection", "epoch": k, "score": s} for k, s in enumerate((0.5, 0.4, 0.8))),
    ]
    (a / "metrics.jsonl").write_text("".join(f"{line}\n".replace("'", '"') for line in lines))
    seen = watch(study, [a, b])
    seen([at(b, 0, None)])
    assert study.said == [], "b has no score yet"
    with pytest.raises(PrunedError):
        seen([at(b, 1, 0.1)])
    assert study.said == [(1, pytest.approx(0.3), (0, 2))], "of a the best of the first two epochs"
    latest = watch(other := Told(), [a, b], choose="last")
    latest([at(b, 1, 0.1)])
    assert other.said == [(1, pytest.approx(0.25), (0, 2))], "where the last weights are kept, their score"
    lowest = watch(least := Told(), [a, b], sign=-1)
    lowest([at(b, 1, 0.1)])
    assert least.said == [(1, pytest.approx(0.25), (0, 2))], "where lower is better, the least of the first two"


def test_scores_of_other_runs_are_not_compared(tmp_path):
    """Five trials of two runs say nothing of one of three, and enough of another of two."""
    made = Search(of="base", ranges=RANGES, trials=9)
    study = Study(tmp_path, made, resolve(made, small.recipe(tmp_path)), 1)
    for score in (0.5, 0.6, 0.7, 0.8, 0.9):
        trial = study.next()
        assert not study.report(trial.number, 0, score, runs=(0, 2))
        study.finish(trial.number, score)
    trial = study.next()
    assert not study.report(trial.number, 0, 0.1, runs=(0, 3))
    assert not study.report(trial.number, 0, 0.1, runs=(3, 4))
    study.finish(trial.number, 0.1)
    trial = study.next()
    assert study.report(trial.number, 0, 0.65, runs=(0, 2))
    assert study.report(trial.number, 0, 0.65, runs=(0, 2)), "an epoch that is repeated is no error"
    study.close()


def test_a_median_of_few_trials_of_the_same_runs_does_not_prune(tmp_path):
    made = Search(of="base", ranges=RANGES, trials=9)
    study = Study(tmp_path, made, resolve(made, small.recipe(tmp_path)), 1)
    for k, score in enumerate((0.5, 0.6, 0.7, 0.8, 0.9)):
        trial = study.next()
        study.report(trial.number, 0, score, runs=(0, 1 + k % 2))
        study.finish(trial.number, score)
    assert not study.report(study.next().number, 0, 0.1, runs=(0, 1))
    study.close()


def test_memory_that_runs_out_on_a_device_is_the_trials_own_fault(search, monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory.\nmore lines")

    monkeypatch.setattr(stacked_trainer, "train", full)
    with pytest.raises(Exception, match="the first 3 trials failed") as error:
        search(trials=4)
    assert "give --together 1" in str(error.value)
