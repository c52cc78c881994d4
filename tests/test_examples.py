"""What documents show of Python runs as it stands: docs/python.md, block by block, and the notebooks, cell by cell."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

from affect import figures
from tests.launching import ROOT
from tests.tasks.diarization import saved
from tests.tasks.talking_face import small as clips

RATE = 16_000


def blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.fixture
def place(spoken, fused, fused_corpus, clips_root, tmp_path, monkeypatch):
    """A folder with the runs and files that the page names."""
    (tmp_path / "runs").mkdir()
    for name, top in (("demo", spoken), ("robust_ours", fused)):
        (tmp_path / "runs" / name).symlink_to(top)
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    task = clips.task(clips_root)
    network = task.new_model()
    for name in ("seed0/fold1", "seed0/fold2"):
        task.save(network, network.state_dict(), tmp_path / "runs" / "optimized" / name / "checkpoints" / "best")
    saved.model(tmp_path / "runs" / "meetings" / "seed0" / "fold1" / "checkpoints" / "best")
    saved.recording(tmp_path / "meeting.wav", 4.0)
    for name, seconds in (("a", 0.6), ("long", 2.5)):
        soundfile.write(tmp_path / f"{name}.wav", saved.noise(seconds).clip(-1, 1), RATE)
    config = json.loads(next(fused.glob("*/*/checkpoints/best/config.json")).read_text())
    for modality, _, width in config["data"]["streams"]:
        np.save(tmp_path / f"{modality}.npy", np.ones(width, np.float32))
    np.savez(tmp_path / "clip.npz", **{name: np.ones((6, width), np.float32) for name, width in task.features})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(figures, "write", lambda plot, folder: False)
    return tmp_path


def test_the_page_on_python_runs(place, capsys):
    names: dict = {}
    for number, block in enumerate(blocks(ROOT / "docs" / "python.md")):
        exec(compile(block, f"docs/python.md, block {number + 1}", "exec"), names)
    assert len(names["said"]["windows"]) > 1
    assert names["states"].ndim == 2
    assert names["scores"]["prediction"] == names["quality"](dict(np.load("clip.npz")))["prediction"]
    assert (place / "runs" / "from_python" / "report.md").is_file()
    assert names["longer"].train.epochs == 30
    low, high = names["model"]("a.wav")["scale"]["valence"]
    assert low + (high - low) * names["outputs"]["valence_unit"].item() == pytest.approx(
        names["outputs"]["valence"].item(), abs=1e-5
    )
    assert "missing.wav" in capsys.readouterr().out


def test_the_table_of_tasks_names_every_task():
    from affect import tasks

    text = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    assert [name for name in tasks.TASKS if f"| {name.replace('_', ' ')} |" not in text] == []


NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_offline_cell_by_cell(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    # Plots take seconds, and are held by the tests of reports.
    monkeypatch.setattr(figures, "write", lambda plot, folder: False)
    monkeypatch.setattr(logging.getLogger("affect"), "level", logging.WARNING)
    book = json.loads(path.read_text(encoding="utf-8"))
    assert (book["nbformat"], len(book["cells"])) >= (4, 1)
    names: dict = {}
    for cell in book["cells"]:
        assert cell.keys() >= {"cell_type", "id", "metadata", "source"}
        if cell["cell_type"] == "code":
            # What runs leave would be out of date with the next change.
            assert (cell["outputs"], cell["execution_count"]) == ([], None)
            exec(compile("".join(cell["source"]), f"{path.name}, {cell['id']}", "exec"), names)
    assert names["said"]["prediction"].keys() == {"valence", "arousal"}
    assert "CCC" in capsys.readouterr().out


def test_there_is_a_notebook():
    assert NOTEBOOKS
