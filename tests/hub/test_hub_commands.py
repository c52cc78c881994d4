"""`affect push` and what comes of it, in a process with the client as a user has it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from affect.cli import commands
from affect.errors import AffectError
from tests.hub.double import TOKEN, Hub
from tests.inference.asking import ask
from tests.launching import ROOT

MODULES = ("ccc", "emoval", "der", "quality")
CODE = """
import json, sys
from affect.cli import main

for command in json.loads(sys.argv[1]):
    sys.argv = ["affect", *command]
    main()

import evaluate

ccc, emoval, der, quality = (evaluate.load(f"someone/{name}") for name in ("ccc", "emoval", "der", "quality"))
happy, sad = {"emotion": "happy", "valence": 2.0}, {"emotion": "sad", "valence": None}
found = [
    ccc.compute(predictions=[1, 2, 4], references=[1, 2, 3]),
    emoval.compute(predictions=[{**happy, "valence": 1.0}, {**sad, "valence": -2.0}], references=[happy, sad]),
    der.compute(predictions=[[{"start": 0, "end": 8, "speaker": "x"}]],
                references=[[{"start": 0, "end": 6, "speaker": "a"}, {"start": 6, "end": 10, "speaker": "b"}]]),
    quality.compute(predictions=[1, 3, 2, 7], references=[1, 3, 5, 4]),
]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def server():
    with Hub() as hub:
        yield hub


@pytest.fixture(scope="module")
def said(server, spoken, tmp_path_factory) -> list[str]:
    """The lines of a session that pushes a run, predicts with it, and pushes and loads each metric module.

    All in one process: most of a command's time is its start.
    """
    folder = tmp_path_factory.mktemp("session")
    soundfile.write(folder / "a.wav", 0.1 * np.sin(np.arange(16000) / 20), 16000)
    commands = [
        ["push", str(spoken / "seed0" / "fold1"), "--repo", "someone/model", "--private"],
        ["predict", "someone/model", "a.wav"],
        *(["push", name, "--repo", f"someone/{name}"] for name in MODULES),
    ]
    own = {
        "HF_ENDPOINT": server.url, "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(folder / "hf"), "HF_TOKEN": TOKEN,
        "HF_HUB_OFFLINE": "0", "OMP_NUM_THREADS": "1", "AFFECT_THREADS": "1", "PYTHONPATH": str(ROOT),
        "HF_EVALUATE_OFFLINE": "0",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", CODE, json.dumps(commands)], cwd=folder, env={**os.environ, **own}, capture_output=True,
        text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_push_and_predict_by_name(server, said, spoken, tmp_path):
    assert said[0].startswith(f"{server.url}/someone/model (commit ")
    assert server.repos["someone/model"].private
    soundfile.write(tmp_path / "a.wav", 0.1 * np.sin(np.arange(16000) / 20), 16000)
    _, (line,) = ask(spoken / "seed0" / "fold1", tmp_path / "a.wav")
    assert json.loads(said[1]) == line | {"path": "a.wav"}


def test_each_pushed_metric_module_is_loaded_by_its_name(server, said):
    for name, line in zip(MODULES, said[2:6], strict=True):
        assert line.startswith(f"{server.url}/spaces/someone/{name} (commit ")
        repo = server.repos[f"someone/{name}"]
        assert repo.sdk == "static"
        folder = ROOT / "affect" / "metrics" / "evaluate_modules" / name
        assert repo.files == {file: (folder / file).read_bytes() for file in ("README.md", f"{name}.py")}
        assert any(f"/spaces/someone/{name}/resolve/" in line for line in server.log)
    ccc, emoval, der, quality = json.loads(said[6])
    assert ccc == {"ccc": pytest.approx(6 / 7)}
    assert emoval == {"emoval": 0.75, "weighted_f1": 1.0, "mse": 1.0}
    # Of 10 s, 2 are missed and 2 are the wrong speaker's; the speakers' Jaccard errors are 1/4 and 1.
    assert der["der"] == pytest.approx(0.4)
    assert der["jer"] == pytest.approx(0.625)
    assert quality["srcc"] == pytest.approx(0.4)


def test_a_dry_run_shows_files_and_card_and_asks_nobody(hub, spoken, capsys):
    commands.push(spoken / "seed0" / "fold1", "someone/model", dry_run=True)
    shown = capsys.readouterr().out
    assert "someone/model/model.safetensors: 0." in shown
    assert "## Limits" in shown
    commands.push(Path("emoval"), "someone/emoval", dry_run=True)
    assert "someone/emoval/emoval.py: " in capsys.readouterr().out
    assert hub.log == []


@pytest.mark.parametrize(
    ("run", "repo", "words"),
    [
        ("ccc", "someone/concordance", "push it to USER/ccc"),
        ("cc", "someone/cc", r"cc is no run's folder and no metric module; did you mean 'ccc'"),
        ("ccc", "ccc", "is not user/name"),
    ],
)
def test_what_can_not_be_pushed_is_said(hub, run, repo, words):
    with pytest.raises(AffectError, match=words):
        commands.push(Path(run), repo)
    assert hub.log == []
