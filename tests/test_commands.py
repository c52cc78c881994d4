"""The `affect` command: report, predict and inspect."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import soundfile

from affect import cli
from tests.launching import ROOT, assert_one_line, exit_code, own_log
from tests.train import runs


@pytest.fixture(scope="module")
def experiment(small_corpus, tmp_path_factory):
    """The folder of an experiment of one seed and fold."""
    top = tmp_path_factory.mktemp("runs") / "demo"
    runs.make(runs.recipe(small_corpus, epochs=1), top / "seed0" / "fold1").train()
    return top


@pytest.fixture
def affect(capsys, monkeypatch):
    """Run the command in this process: exit code, standard output and standard error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["affect", *map(str, arguments)])
        capsys.readouterr()
        with own_log():
            code = exit_code(cli.main)
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def test_help_names_the_subcommands(affect):
    code, out, _ = affect("--help")
    assert code == 0
    assert all(name in out for name in ("report", "predict", "inspect"))
    code, out, _ = affect("predict", "--help")
    assert code == 0
    assert "--window" in out
    assert "scale and order stated" in " ".join(out.split())


def test_report(affect, experiment):
    code, out, _ = affect("report", experiment)
    assert code == 0
    assert "CCC-V" in out
    assert f"report: {experiment / 'report.md'}" in out
    assert "CCC" in (experiment / "report.md").read_text()


def test_predict_writes_json_lines(affect, experiment, small_corpus, tmp_path):
    wavs = sorted(small_corpus.rglob("*.wav"))[:2]
    code, out, _ = affect("predict", experiment / "seed0" / "fold1", *wavs, "--window", "10")
    lines = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [line["path"] for line in lines] == [str(path) for path in wavs]
    assert all(line["scale"] == [1.0, 5.0] and line["order"] == ["valence", "arousal"] for line in lines)
    for line, path in zip(lines, wavs, strict=True):
        assert line["end"] == pytest.approx(soundfile.info(path).duration, abs=1e-3)


def test_predict_ends_with_1_where_a_file_is_bad(affect, experiment, small_corpus, tmp_path):
    wav = sorted(small_corpus.rglob("*.wav"))[0]
    empty = tmp_path / "empty.wav"
    empty.write_bytes(b"")
    code, out, err = affect("predict", experiment / "seed0" / "fold1", empty, wav)
    lines = [json.loads(line) for line in out.splitlines()]
    assert code == 1
    assert "is empty" in lines[0]["error"]
    assert "prediction" in lines[1]
    assert "Traceback" not in err


def test_inspect(affect, small_corpus):
    code, out, _ = affect("inspect", small_corpus)
    assert code == 0
    assert "40" in out
    assert "Ses01" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["report", "nowhere"], ["nowhere"]),
        (["report", "."], ["."]),
        (["predict", "nowhere", "x.wav"], ["nowhere holds no weights"]),
        (["inspect", "nowhere"], ["nowhere"]),
        (["inspect", "."], ["."]),
        (["inspect", ".", "--corpus", "iemocap"], ["."]),
    ],
)
def test_a_folder_that_is_not_one_is_one_line(affect, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    code, out, err = affect(*arguments)
    assert_one_line(code, err, *words)
    assert out == ""


def test_a_reader_that_leaves_is_no_error(experiment, small_corpus):
    """affect predict RUN *.wav | head -1"""
    wavs = " ".join(f"'{path}'" for path in sorted(small_corpus.rglob("*.wav"))[:8])
    run = experiment / "seed0" / "fold1"
    command = f"'{sys.executable}' -c 'from affect.cli import main; main()' predict '{run}' {wavs} | head -1"
    done = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert len(done.stdout.splitlines()) == 1
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr
