"""The `affect` command: report, predict and inspect."""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch

from affect.training import hardware, trainer
from tests.launching import ROOT, assert_one_line
from tests.training import runs


@pytest.fixture(scope="module")
def experiment(small_corpus, tmp_path_factory):
    """The folder of an experiment of one seed and fold."""
    top = tmp_path_factory.mktemp("runs") / "demo"
    trainer.train(runs.make(runs.recipe(small_corpus, epochs=1), top / "seed0" / "fold1"))
    return top


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
    assert all(
        [*line["scale"].values()] == [[1.0, 5.0]] * 2 and line["order"] == ["valence", "arousal"] for line in lines
    )
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


def test_every_command_that_a_text_names_is_there(affect):
    """A subcommand that a task adds, too, by the line that a user types."""
    texts = [ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("recipes/*"), *ROOT.glob("affect/**/*.py")]
    pattern = re.compile(r"(?:`|\()affect ([a-z]+)\b")
    named = {name for path in texts if path.is_file() for name in pattern.findall(path.read_text(encoding="utf-8"))}
    assert {"convert", "inspect", "predict"} <= named
    _, out, _ = affect("--help")
    assert {name for name in named if name not in out} == set()


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


@pytest.fixture
def rated(tmp_path):
    """A csv_folder on 1..7 with columns of its own: 4 recordings, two of them over 5, and 12 lines without one."""
    folder = tmp_path / "rated"
    folder.mkdir()
    lines = ["FileName,SpkrID,EmoVal,EmoAct,Split_Set"]
    for number in range(16):
        lines.append(f"{number}.wav,s{number},{4 + number % 4 * 0.9},3,Train")
        if number < 4:
            tone = 0.3 * np.sin(2 * np.pi * 200 * np.arange(3200) / 16_000)
            soundfile.write(folder / f"{number}.wav", tone, 16_000)
    (folder / "table.csv").write_text("\n".join(lines) + "\n")
    return folder


THEIRS = ["--columns", "path=FileName", "speaker=SpkrID", "valence=EmoVal", "arousal=EmoAct"]


def test_inspect_takes_scale_and_columns(affect, rated):
    code, out, _ = affect("inspect", rated, "--scale", "1", "7", *THEIRS)
    assert code == 0
    assert out.startswith("csv_folder: 4 utterances")
    assert "scale: 1 to 7" in out
    assert "out of range" not in out
    code, out, _ = affect("inspect", rated, *THEIRS)
    assert out.startswith("csv_folder: 4 utterances")
    assert "scale: 1 to 7, inferred" in out
    code, out, _ = affect("inspect", rated)
    assert code == 0 and out.startswith("csv_folder: 4 utterances"), "by the columns that it proposes"
    mapping = "path=FileName speaker=SpkrID valence=EmoVal arousal=EmoAct split=Split_Set"
    assert f"columns: read as with --data.columns {mapping}, which training needs" in out
    (rated / "table.csv").write_text("a,b\n1,2\n")
    code, out, err = affect("inspect", rated)
    assert_one_line(code, err, "has no column 'path'; it has: a, b")


def test_inspect_takes_raters_and_decimal_commas(affect, rated):
    lines = ["path;speaker;valence;arousal", "0.wav;s;1,5;2", "0.wav;s;2,5;3", "1.wav;t;4,5;4"]
    (rated / "table.csv").write_text("\n".join(lines) + "\n")
    code, out, err = affect("inspect", rated, "--decimal", ",")
    assert_one_line(code, err, "differ in labels", "--data.raters mean")
    code, out, _ = affect("inspect", rated, "--decimal", ",", "--raters", "mean")
    assert code == 0 and "labels: means of 3 rows of 2 recordings; Krippendorff's alpha: valence" in out
    assert "valence: mean 3.250" in out


def test_inspect_lists_ten_exclusions_or_all(affect, rated):
    options = [rated, "--scale", "1", "7", *THEIRS]
    _, out, _ = affect("inspect", *options)
    assert out.count(".wav: missing audio file") == 10
    assert "... and 2 more (--all lists them)" in out
    _, out, _ = affect("inspect", "--all", *options)
    assert out.count(".wav: missing audio file") == 12
    assert "more" not in out


def test_inspect_of_a_hub_folder(affect, rated, monkeypatch, tmp_path):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "hf_cache")
    code, out, _ = affect(
        "inspect", rated / "table.csv", "--corpus", "hub", "--scale", "1", "7", "--limit", "3",
        "--columns", "audio=FileName", "speaker=SpkrID", "valence=EmoVal", "arousal=EmoAct",
    )  # fmt: skip
    assert code == 0
    assert out.startswith("hub: 3 utterances")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--scale", "1", "7"], ["'iemocap'", "'scale'"]),
        (["--columns", "a=b"], ["'iemocap'", "'columns'"]),
        (["--limit", "0"], ["'iemocap'", "'limit'"]),
        (["--scale", "7", "1"], ["--scale must be low then high"]),
        (["--columns", "ab"], ["columns must be OURS=THEIRS, not 'ab'"]),
        (["--columns", "a=b", "a=c"], ["columns names 'a' more than once"]),
        (["--scale", "1"], ["--scale"]),
    ],
)
def test_inspect_refuses_what_does_nothing(affect, small_corpus, options, words):
    code, out, err = affect("inspect", small_corpus, *options)
    assert_one_line(code, err, *words)
    assert out == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["{launch, folds, report, predict, embed, export, push, inspect, info, score, diarize, convert}"]),
        (["report"], ["affect report", "runs/<experiment>"]),
        (["reprot", "x"], ["unknown command 'reprot'", "did you mean 'report'?"]),
        (["report", "--foo"], ["--foo"]),
        (["inspect"], ["Missing from affect inspect"]),
        (["predict", "x", "y", "--window", "z"], ["--window", "'z'"]),
        (["inspect", "x", "--corpus", "foo"], ["'foo'", "'iemocap'"]),
    ],
)
def test_a_wrong_command_is_one_line(affect, arguments, words):
    code, out, err = affect(*arguments)
    assert_one_line(code, err, *words)
    assert len(err.splitlines()) == 1
    assert out == ""


def test_the_version(affect):
    code, out, _ = affect("--version")
    assert (code, out) == (0, f"affect {importlib.metadata.version('affect')}\n")


def test_info_says_what_is_here(affect, tmp_path, monkeypatch):
    monkeypatch.setenv("AFFECT_CACHE", str(tmp_path))
    with (tmp_path / "half").open("wb") as file:
        file.truncate(2**29)
    code, out, err = affect("info")
    assert code == 0, err
    told = dict(re.split(r"  +", line, maxsplit=1) for line in out.splitlines())
    assert told["affect"].startswith(importlib.metadata.version("affect"))
    assert f"torch {torch.__version__}" in told["packages"]
    assert f"{hardware.cores()} cores" in told["CPU"] and "launching" in told
    assert "[onnx]" in told and "[deepspeed]" in told and "tensorboard" in told["trackers"]
    assert told["AFFECT_CACHE"] == f"{tmp_path}: 0.50 GiB in 1 file"
    assert ("GPU" in told) == (not torch.cuda.is_available())
