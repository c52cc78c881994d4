"""`affect push` and what comes of it, each in a process of its own with the client as a user has it."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from affect.commands import sharing
from affect.errors import AffectError
from affect.workflows import prediction
from tests.hub.double import TOKEN, Hub
from tests.launching import ROOT


@pytest.fixture
def server():
    with Hub() as hub:
        yield hub


def python(server: Hub, folder, *command: str) -> subprocess.CompletedProcess[str]:
    own = {
        "HF_ENDPOINT": server.url, "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(folder / "hf"), "HF_TOKEN": TOKEN,
        "HF_HUB_OFFLINE": "0", "OMP_NUM_THREADS": "1", "AFFECT_THREADS": "1", "PYTHONPATH": str(ROOT),
        "HF_EVALUATE_OFFLINE": "0",
    }  # fmt: skip
    return subprocess.run(
        [sys.executable, *command], cwd=folder, env={**os.environ, **own}, capture_output=True, text=True, timeout=240,
        check=False,
    )  # fmt: skip


MAIN = "from affect.cli import main; main()"


def test_push_and_predict_by_name(server, spoken, tmp_path):
    run = str(spoken / "seed0" / "fold1")
    pushed = python(server, tmp_path, "-c", MAIN, "push", run, "--repo", "someone/model", "--private")
    assert pushed.returncode == 0, pushed.stderr
    assert pushed.stdout.startswith(f"{server.url}/someone/model (commit ")
    assert server.repos["someone/model"].private
    soundfile.write(tmp_path / "a.wav", 0.1 * np.sin(np.arange(16000) / 20), 16000)
    said = python(server, tmp_path, "-c", MAIN, "predict", "someone/model", "a.wav")
    assert said.returncode == 0, said.stderr
    output = io.StringIO()
    prediction.predict_files(spoken / "seed0" / "fold1", [tmp_path / "a.wav"], output)
    assert json.loads(said.stdout) == json.loads(output.getvalue()) | {"path": "a.wav"}


def test_a_pushed_metric_module_is_loaded_by_its_name(server, tmp_path):
    pushed = python(server, tmp_path, "-c", MAIN, "push", "ccc", "--repo", "someone/ccc")
    assert pushed.returncode == 0, pushed.stderr
    assert pushed.stdout.startswith(f"{server.url}/spaces/someone/ccc (commit ")
    repo = server.repos["someone/ccc"]
    assert repo.sdk == "static"
    folder = ROOT / "affect" / "metrics" / "evaluate_modules" / "ccc"
    assert repo.files == {name: (folder / name).read_bytes() for name in ("README.md", "ccc.py")}
    code = "import evaluate; print(evaluate.load('someone/ccc').compute(predictions=[1, 2, 4], references=[1, 2, 3]))"
    loaded = python(server, tmp_path, "-c", code)
    assert loaded.returncode == 0, loaded.stderr
    assert json.loads(loaded.stdout.replace("'", '"')) == {"ccc": pytest.approx(6 / 7)}
    assert any("/spaces/someone/ccc/resolve/" in line for line in server.log)


def test_a_dry_run_shows_files_and_card_and_asks_nobody(hub, spoken, capsys):
    sharing.push(spoken / "seed0" / "fold1", "someone/model", dry_run=True)
    shown = capsys.readouterr().out
    assert "someone/model/model.safetensors: 0." in shown
    assert "## Limits" in shown
    sharing.push(Path("emoval"), "someone/emoval", dry_run=True)
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
        sharing.push(Path(run), repo)
    assert hub.log == []
