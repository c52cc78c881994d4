"""What the report says of speed."""

from __future__ import annotations

import json
from pathlib import Path

from affect import report
from affect.report import speed
from affect.report.experiment import load

STEP = {
    "seconds": 2.0, "loading_seconds": 0.1, "forward_seconds": 0.6, "exchange_seconds": 0.2, "backward_seconds": 1.0,
    "update_seconds": 0.1, "flops": 3e12, "tflops_per_second": 1.5, "peak_share": 0.345,
}  # fmt: skip


def told(path: Path, lines: list[dict[str, float]]) -> None:
    (path / "timing.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def test_a_line_a_run_and_its_first_step_counts_little(tmp_path: Path, write_run) -> None:
    warm = STEP | {"seconds": 90.0, "tflops_per_second": 0.03}
    told(write_run(tmp_path / "a", 1, {"valence": 0.5}), [warm, STEP, STEP])
    write_run(tmp_path / "a", 2, {"valence": 0.5})
    head, _, first, second = speed.table(load(tmp_path / "a")).split("\n\n")[0].splitlines()
    assert [cell.strip() for cell in head.split("|")[1:-1]] == [
        "run", "s a step", "loading", "forward", "exchange", "backward", "update", "TFLOP/s", "of the peak",
    ]  # fmt: skip
    cells = [cell.strip() for cell in first.split("|")[1:-1]]
    assert cells == ["seed0/fold1", "2", "0.1", "0.6", "0.2", "1", "0.1", "1.5", "34 %"]
    assert "–" in second, "a run of before knows no operations"


def test_runs_that_know_no_operations_have_no_section(tmp_path: Path, write_run) -> None:
    path = write_run(tmp_path / "a", 1, {"valence": 0.5})
    assert speed.table(load(tmp_path / "a")) == ""
    assert "## Speed" not in report.write(tmp_path / "a").read_text(encoding="utf-8")
    told(path, [STEP])
    text = report.write(tmp_path / "a").read_text(encoding="utf-8")
    assert text.index("## Training") < text.index("## Speed") < text.index("## Settings")
