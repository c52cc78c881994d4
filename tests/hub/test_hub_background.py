"""Pushing while a run trains: the newest offer wins, a failure stops nothing and is repeated, the end is bounded."""

from __future__ import annotations

import logging
import shutil
import threading
import time

import pytest

from affect import checksums
from affect.errors import AffectError
from affect.hub import background
from affect.hub.background import Pusher, pushing

REPO = "someone/model"


def save_best(run, mark: bytes) -> None:
    """Replace the best weights as the loop does: another folder in the place of the old one."""
    best = run / "checkpoints" / "best"
    new = run / "checkpoints" / "new"
    shutil.copytree(best, new)
    (new / "model.safetensors").unlink()
    (new / "model.safetensors").write_bytes(mark)
    checksums.write(new)
    shutil.rmtree(best)
    new.rename(best)


def until(condition, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.01)


def warned(caplog) -> str:
    """Return what affect itself has warned of."""
    return "\n".join(record.getMessage() for record in caplog.records if record.name == "affect")


def leftovers(run) -> list[str]:
    return [path.name for path in (run / "checkpoints").iterdir() if path.name.startswith(".push")]


def test_offers_do_not_wait_and_the_newest_wins(hub, run):
    hub.gate.clear()
    pusher = Pusher(REPO, run)
    begun = time.monotonic()
    save_best(run, b"first")
    pusher.offer()
    until(lambda: any("/upload/" in line for line in hub.log))
    for mark in (b"second", b"third"):
        save_best(run, mark)
        pusher.offer()
    assert time.monotonic() - begun < 10
    assert hub.repos[REPO].files == {}, "nothing is there before the first upload is through"
    hub.gate.set()
    assert pusher.finish(30) is None
    repo = hub.repos[REPO]
    assert [repo.history[commit]["model.safetensors"] for commit in repo.commits[1:]] == [b"first", b"third"]
    assert leftovers(run) == []
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("push to")]


def test_a_failed_push_is_a_warning_and_is_repeated_at_the_end(hub, run, caplog):
    hub.cut = 1000
    pusher = Pusher(REPO, run)
    with caplog.at_level(logging.WARNING, "affect"):
        pusher.offer()
        until(lambda: warned(caplog))
    assert "no connection to" in caplog.text
    assert "the run goes on" in caplog.text
    hub.cut = 0
    assert pusher.finish(30) is None
    assert "model.safetensors" in hub.repos[REPO].files
    assert leftovers(run) == []


def test_a_later_push_makes_good_an_earlier_failure(hub, run, caplog):
    hub.cut = 1000
    pusher = Pusher(REPO, run)
    with caplog.at_level(logging.WARNING, "affect"):
        pusher.offer()
        until(lambda: warned(caplog))
        hub.cut = 0
        save_best(run, b"later")
        pusher.offer()
        assert pusher.finish(30) is None
    assert len(hub.repos[REPO].commits) == 2, "the failed one is not repeated over the later one"
    assert hub.repos[REPO].files["model.safetensors"] == b"later"


def test_what_fails_to_the_end_is_said_with_the_command_that_repeats_it(hub, run):
    hub.down = True
    pusher = Pusher(REPO, run)
    pusher.offer()
    error = pusher.finish(30)
    assert error is not None
    assert error.startswith(f"{REPO}: no connection to")
    assert error.endswith(f"affect push {run} --repo {REPO}")
    assert leftovers(run) == []


def test_the_end_waits_no_longer_than_told(hub, run):
    hub.gate.clear()
    pusher = Pusher(REPO, run)
    pusher.offer()
    begun = time.monotonic()
    error = pusher.finish(0.5)
    assert time.monotonic() - begun < 5
    assert error is not None
    assert "was not done after" in error
    assert leftovers(run) == []


def test_a_run_that_can_not_be_staged_trains_on(hub, run, caplog):
    pusher = Pusher(REPO, run)
    shutil.rmtree(run / "checkpoints" / "best")
    with caplog.at_level(logging.WARNING, "affect"):
        pusher.offer()
    assert "holds no best weights yet" in caplog.text
    assert "holds no best weights yet" in str(pusher.finish(5))


def test_several_runs_have_a_repo_each_and_the_card_says_training_goes_on(hub, run):
    lines = (run / "metrics.jsonl").read_text().splitlines()
    (run / "metrics.jsonl").write_text("\n".join(lines[:-1]) + "\n")
    with pushing(REPO, run, private=True, several=True) as saved:
        saved()
        until(lambda: len(getattr(hub.repos.get(f"{REPO}-seed0-fold1"), "commits", ())) == 2)
        repo = hub.repos[f"{REPO}-seed0-fold1"]
        card = repo.files["README.md"].decode()
        assert "Training goes on: step 6" in card
        assert "split: valid" in card
        assert "split: test" not in card
        assert repo.private
        (run / "metrics.jsonl").write_text("\n".join(lines) + "\n")
        saved()
    card = repo.files["README.md"].decode()
    assert "Training goes on" not in card
    assert "split: test" in card
    assert set(hub.repos) == {f"{REPO}-seed0-fold1"}


def test_a_run_that_ends_by_an_error_is_not_held_up(hub, run):
    hub.gate.clear()
    begun = time.monotonic()
    with pytest.raises(KeyError), pushing(REPO, run, private=False, several=False) as saved:
        saved()
        raise KeyError
    assert time.monotonic() - begun < 5
    assert leftovers(run) == []


def test_a_missing_token_is_known_at_once(hub, run, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    with (
        pytest.raises(AffectError, match="no token for the Hub"),
        pushing(REPO, run, private=False, several=False),
    ):
        pass
    assert background.PATIENCE > 0
