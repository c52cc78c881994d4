"""The demos reach what they promise: minutes long, so behind `make soak`."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(experiment: str, folder: Path) -> tuple[dict[str, dict[str, float]], float]:
    """Return the test scores by run folder, and the seconds that the command took."""
    start = time.perf_counter()
    command = [str(Path(sys.executable).with_name("accelerate")), "launch", "-q", "--config_file"]
    command += ["accelerate_configs/cpu.yaml", "recipes/finetune_wavlm.py", experiment]
    command += ["--runs", str(folder / "runs"), "--data.root", str(folder / "data")]
    subprocess.run(command, cwd=ROOT, check=True, timeout=1200)
    seconds = time.perf_counter() - start
    scores = {}
    for path in sorted(folder.glob("runs/*/seed0/fold*/metrics.jsonl")):
        end = json.loads(path.read_text().splitlines()[-1])
        assert end["event"] == "end"
        scores[path.parent.name] = end["scores"]["test"]
    return scores, seconds


@pytest.mark.soak
@pytest.mark.timeout(1300)
def test_demo_reaches_its_scores_on_every_session_in_five_minutes(tmp_path):
    scores, seconds = run("demo", tmp_path)
    assert len(scores) == 5
    for fold, found in scores.items():
        assert found["ccc_valence"] >= 0.60, fold
        assert found["ccc_arousal"] >= 0.60, fold
    assert (tmp_path / "runs" / "demo" / "report.md").is_file()
    assert seconds < 300


@pytest.mark.soak
@pytest.mark.timeout(1300)
def test_the_encoder_alone_learns(tmp_path):
    scores, _ = run("demo_encoder", tmp_path)
    assert min(scores["fold1"]["ccc_valence"], scores["fold1"]["ccc_arousal"]) >= 0.40
