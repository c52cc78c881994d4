"""A diarization run pushed by the real client: its card, its program, and what the loaded model says of a recording."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
import soundfile
from huggingface_hub import ModelCard

from affect.experiments import folds
from affect.hub import from_pretrained, push
from affect.options import Options
from affect.tasks.diarization.blocks import Blocks
from affect.tasks.diarization.models import OursModel
from tests.tasks.diarization import small

REPO = "someone/diarizer"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    top = tmp_path_factory.mktemp("diarized")
    recipe = small.recipe(small.corpus(top / "voices"), epochs=1)
    # A model of a few steps is sure of nothing.
    online = replace(recipe.online, threshold=0.25, enrol=0.16, least=0.16)
    recipe = replace(recipe, online=online)
    return folds.run("small", recipe, Options(runs=top / "runs", report=False), "a command") / "seed0" / "fold1"


@pytest.fixture
def pushed(hub, run):
    push.run(run, REPO)
    return hub.repos[REPO].files


def test_its_card_has_der_and_how_it_was_scored(run, pushed):
    card = ModelCard(pushed["README.md"].decode())
    end = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])["scores"]
    scores = {(one.dataset_split, one.metric_type): one.metric_value for one in card.data.eval_results}
    tests = [part for part in end if part.startswith("test")]
    assert len(tests) == 2
    for part in tests:
        assert scores[part, "der"] == pytest.approx(end[part]["der"], abs=1e-4)
        assert (part, "jer") in scores
    assert {one.dataset_type for one in card.data.eval_results} == {"generated"}
    assert {one.dataset_name for one in card.data.eval_results} == {"generated@" + fingerprint(run)[:8]}
    given = {one.metric_type: one.metric_args for one in card.data.eval_results}
    scored = {"collar": 0.0, "skip_overlap": False}
    assert (given["der"], given["confusion"], given["jer"]) == (scored, scored, None)
    assert "unknown" not in card.text and "layout" not in card.text
    for words in ("collar 0", "overlap", "generated", f"affect predict {REPO} MEETING.wav"):
        assert words in card.text
    assert json.loads(pushed["preprocessor_config.json"])["latency_seconds"] == pytest.approx(0.8)


def test_loaded_without_a_recipe_it_says_what_the_run_said(run, pushed, affect, tmp_path, monkeypatch):
    model = from_pretrained(REPO)
    assert isinstance(model, OursModel)
    assert not model.training
    row = json.loads((run / "predictions-test_2_speakers_4s.jsonl").read_text().splitlines()[-1])
    samples = sound_of(run, row["id"])
    soundfile.write(tmp_path / "MEETING.wav", samples, 16_000, subtype="FLOAT")
    monkeypatch.chdir(tmp_path)
    code, out, _ = affect("diarize", REPO, "MEETING.wav")
    assert code == 0
    wanted = [[round(start, 3), round(end, 3), speaker] for start, end, speaker in row["prediction"]["turns"]]
    lines = [line.split() for line in out.splitlines()]
    assert [[float(line[3]), round(float(line[3]) + float(line[4]), 3), line[7]] for line in lines] == wanted
    code, out, _ = affect("predict", REPO, "MEETING.wav")
    assert [list(turn.values()) for turn in json.loads(out)["turns"]] == wanted


def test_its_card_has_a_program_that_runs(run, pushed, tmp_path, monkeypatch, capsys):
    row = json.loads((run / "predictions-test_2_speakers_4s.jsonl").read_text().splitlines()[-1])
    soundfile.write(tmp_path / "MEETING.wav", sound_of(run, row["id"]), 16_000, subtype="FLOAT")
    monkeypatch.chdir(tmp_path)
    program = re.search(r"```python\n(.*?)```", pushed["README.md"].decode(), re.DOTALL)
    assert program is not None
    capsys.readouterr()
    exec(program[1], {})
    turns = row["prediction"]["turns"]
    said = capsys.readouterr().out.splitlines()
    assert said == [f"{start:8.2f} {end:8.2f} speaker {speaker}" for start, end, speaker in turns]
    assert said


def fingerprint(run):
    return json.loads((run / "environment.json").read_text())["fingerprint"]


def sound_of(run, name):
    """Return the samples of a test conversation, simulated again."""
    task = small.task(run.parents[3] / "voices")
    row = next(row for row in task.datasets()["test_2_speakers_4s"] if row["id"] == name)
    return Blocks(task.corpus, task.recipe).recording(row)[0]
