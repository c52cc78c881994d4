"""benchmarks/device.py at tiny sizes on a CPU, with no more installed than a GPU machine without a network has."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "device.py"
MISSING = ("datasets", "pandas", "pyarrow", "optuna", "soundfile", "scipy", "sklearn", "matplotlib", "peft")
BLOCKED = f"""
import runpy, sys
sys.modules.update(dict.fromkeys({MISSING}))
sys.argv = sys.argv[1:]
sys.path.insert(0, {str(SCRIPT.parent)!r})
runpy.run_path(sys.argv[0], run_name="__main__")
"""
PARTS = ("product", "exactness", "attention", "mamba", "memory", "large", "aim")
"""All but the compiled ones, which take a minute."""


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", BLOCKED, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def test_every_part_runs_without_what_only_data_need(tmp_path):
    table = tmp_path / "device.md"
    done = run("--device", "cpu", "--tiny", "--output", table, "--parts", *PARTS)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert table.read_text() == done.stdout.removesuffix("\n")
    rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")][1:]
    assert tuple(dict.fromkeys(part for part, _, _ in rows)) == PARTS
    assert not [row for row in rows if "failed" in row[2] or "skipped" in row[2] or "nan" in row[2]]
    found = {f"{part}: {case}": words for part, case, words in rows}
    assert "gradient" in found["exactness: float32, uneven, one held, against one piece"]
    assert found["large: checkpointing on, attention dropout 0"].endswith("hold")


@pytest.mark.soak
def test_a_compiled_step_is_the_plain_one():
    done = run("--device", "cpu", "--tiny", "--parts", "compiled")
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    rows = [line for line in done.stdout.splitlines() if line.startswith("| compiled |")]
    assert len(rows) > 1
    assert not [row for row in rows if "failed" in row or "skipped" in row or "nan" in row]


def test_a_case_that_fails_or_is_out_of_time_is_a_line_and_a_code(monkeypatch, capsys):
    monkeypatch.syspath_prepend(SCRIPT.parent)
    import device

    def cases(setting):
        def fail() -> str:
            raise RuntimeError("a | b\nmore")

        def hang() -> str:
            time.sleep(60)
            return "never"

        yield "wrong", fail
        yield "right", lambda: "as it should be"
        setting.ends = time.perf_counter() + 1.1
        yield "endless", hang
        yield "late", lambda: "never"

    def broken(setting):
        raise OSError("no such model")

    monkeypatch.setattr(device, "PARTS", {"cases": cases, "broken": broken, "late": cases})
    assert device.main(["--device", "cpu", "--tiny", "--parts", "cases", "broken"]) == 1
    said = capsys.readouterr().out
    for line in (
        "| cases | wrong | **failed**: RuntimeError: a / b |",
        "| cases | right | as it should be |",
        "| cases | endless | skipped: stopped: the time is up |",
        "| cases | late | skipped: the time is up |",
    ):
        assert line in said


def test_a_cpu_at_real_sizes_is_refused_in_one_line(monkeypatch, capsys):
    monkeypatch.syspath_prepend(SCRIPT.parent)
    import device

    with pytest.raises(SystemExit) as error:
        device.main(["--device", "cpu"])
    assert error.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith(": give --device cpu --tiny")
