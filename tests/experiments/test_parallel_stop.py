"""Folds side by side that are told to stop, or whose parent is killed: each saves where it stands, none is left."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

RECIPE = Path(__file__).with_name("two_runs.py")


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGUSR1, 75), (signal.SIGKILL, -signal.SIGKILL)],
)
def test_an_interruption_stops_every_run_and_says_how_to_go_on(where, number, code):
    command = [sys.executable, "-c", "from affect.cli import main; main()", "folds", str(RECIPE), "base"]
    # Long enough to be met on its way.
    command += ["--jobs", "2", "--seeds", "0", "1", "2"]
    command += ["--train.epochs", "100000", "--train.checkpoint-every", "100000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            begun: set[str] = set()
            for line in process.stdout:
                # Behind the date and the time.
                begun |= {line.split()[2]} if "step" in line else set()
                if len(begun) == 2:
                    break
            children = psutil.Process(process.pid).children(recursive=True)
            assert len(children) == 2
            process.send_signal(number)
            _, err = process.communicate(timeout=60)
        finally:
            process.kill()
    psutil.wait_procs(children, timeout=30 if number == signal.SIGKILL else 0)
    assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
    assert process.returncode == code
    assert "Traceback" not in err
    folders = [where / "runs" / "base" / name for name in begun]
    last = [json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])["step"] for folder in folders]
    saved = [[path.name for path in folder.glob("checkpoints/step-*")] for folder in folders]
    if number == signal.SIGINT:
        assert "goes on from its last checkpoint when the command is given again" in err.splitlines()[-1]
        return
    assert saved == [[f"step-{step:07d}"] for step in last], "each saved where it stood"
    if number != signal.SIGKILL:
        assert err.splitlines()[-1] == (
            "stopped: every run that was begun is saved where it stands; give the command again to go on"
        )
