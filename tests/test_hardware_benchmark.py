"""The row that benchmarks/hardware.py makes of a run."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from affect import tasks
from affect.experiments import folds
from affect.options import Options
from tests.training import runs

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "hardware.md"


@pytest.fixture(scope="module")
def run(small_corpus, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("hardware") / "seed0" / "fold1"
    task = tasks.make(runs.recipe(small_corpus, epochs=1)).for_fold(0, 1)
    folds.run_one("tried", task, folder, Options(), "tried", only=("valid",))
    return folder


def hardware(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "benchmarks" / "hardware.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_row_is_added_to_the_page(run, tmp_path):
    page = tmp_path / "hardware.md"
    shutil.copy(PAGE, page)
    done = hardware(run, "--model", "small | one", "--add", page)
    assert done.returncode == 0, done.stderr
    assert page.read_text(encoding="utf-8") == PAGE.read_text(encoding="utf-8") + done.stdout
    head = next(line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| model"))
    cells = done.stdout.replace("\\|", "/").split("|")
    assert len(cells) == len(head.split("|"))
    assert cells[1].strip() == "small / one"
    assert "s of audio a second" in done.stdout
    assert "float32" in done.stdout


def test_a_run_of_before_and_a_page_without_the_table_are_one_line(run, tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# Else\n", encoding="utf-8")
    done = hardware(run, "--add", page)
    assert (done.returncode, page.read_text(encoding="utf-8")) == (2, "# Else\n")
    assert done.stderr.startswith("error: ")
    old = tmp_path / "seed0" / "fold1"
    shutil.copytree(run, old)
    (old / "timing.jsonl").write_text(json.dumps({"step": 1, "seconds": 1.0}) + "\n", encoding="utf-8")
    assert hardware(old).stderr.startswith(f"error: {old} has no step")
