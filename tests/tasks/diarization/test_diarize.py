"""`affect diarize`: files, folders and a pipe to RTTM, what else it writes, and what goes wrong in one line."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from affect.data.rttm import read_rttm
from affect.tasks.diarization import predict
from affect.tasks.diarization.files import until_interrupted
from affect.tasks.diarization.timelines import timeline
from tests.launching import assert_one_line
from tests.tasks.diarization import saved

DELAYED = r"told ([\d.]+) s after their ends \(median, at most ([\d.]+) s\)"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return saved.model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def talk(tmp_path_factory):
    return saved.recording(tmp_path_factory.mktemp("sound") / "talk.wav", 6.3)


@pytest.fixture
def rttm(affect, run, talk):
    code, out, err = affect("diarize", run, talk)
    assert code == 0
    assert "talk.wav: 6.3 s" in err
    (delays,) = re.findall(DELAYED, err)
    median, most = map(float, delays)
    # A window of 2 s is heard before the first line, and nothing of it is told before.
    assert 0.05 < median < most < 2.8
    assert "of real time" in err
    return out


def test_turns_are_written_as_rttm(affect, run, talk, rttm, tmp_path):
    assert affect("diarize", run, talk, "-o", tmp_path / "out.rttm")[:2] == (0, "")
    assert (tmp_path / "out.rttm").read_text() == rttm
    turns = read_rttm(tmp_path / "out.rttm")["talk"]
    assert len(turns) > 3
    assert len({turn.speaker for turn in turns}) > 1
    assert max(turn.end for turn in turns) <= 6.3


def test_predict_says_the_same(affect, run, talk, rttm):
    code, out, _ = affect("predict", run, talk)
    line = json.loads(out)
    assert (code, line["seconds"]) == (0, 6.3)
    told = [f"{turn['start']:.3f} {turn['end'] - turn['start']:.3f}" for turn in line["turns"]]
    assert told == [" ".join(row.split()[3:5]) for row in rttm.splitlines()]
    _, again, _ = affect("predict", run, talk, "--options", "offline=True")
    assert json.loads(again)["turns"] != line["turns"]


@pytest.mark.parametrize("form", ["wav", "raw"])
def test_a_pipe_is_told_live_and_the_same(affect, run, talk, rttm, monkeypatch, form):
    data, options = talk.read_bytes(), []
    if form == "raw":
        data, options = saved.noise(6.3).clip(-1, 1).astype("<f4").tobytes(), ["--rate", 16_000, "--raw", "f32"]
    lines: list[int] = []
    source = io.BytesIO(data)
    read = source.read
    monkeypatch.setattr(predict, "live", counting(predict.live, lines, source))
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=SimpleNamespace(read=lambda size: read(min(size, 4000)))))
    code, out, err = affect("diarize", run, "-", *options)
    assert code == 0
    (said,) = err.splitlines()
    told = f"standard input: 6.3 s, {len(out.splitlines())} turns of"
    assert re.fullmatch(rf"{told} \d+ speakers, online, {DELAYED}, [\d.]+ of real time", said)
    assert sorted(out.replace(" stdin ", " talk ").splitlines()) == sorted(rttm.splitlines())
    assert min(lines) < len(data) / 2, "told while more was to come"


def counting(live, lines, source):
    def told(*arguments):
        for turn in live(*arguments):
            lines.append(source.tell())
            yield turn

    return told


def test_a_bad_file_is_one_line_and_the_others_are_done(affect, run, talk, rttm, tmp_path):
    (tmp_path / "bad.wav").write_bytes(b"RIFF")
    code, out, err = affect("diarize", run, tmp_path / "bad.wav", talk, tmp_path / "gone.wav")
    assert (code, out) == (1, rttm)
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert [Path(line.split(":")[1].split("'")[-2] if "'" in line else line.split(":")[1]).name for line in errors] == [
        "bad.wav", "gone.wav",
    ]  # fmt: skip


def test_a_cut_pipe_is_one_line(affect, run, talk, monkeypatch):
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(talk.read_bytes()[:-5000])))
    code, out, err = affect("diarize", run, "-")
    assert code == 1
    assert out
    assert "error: standard input: is truncated" in err
    assert "of real time" in err, "of what was heard"


def test_a_microphone_ends_with_an_interrupt(affect, run, monkeypatch):
    """^C at what would be the end of a file tells as much as the end does, while it waits and while it computes."""
    data = saved.noise(6.3)[: 24 * 4096].clip(-1, 1).astype("<f4").tobytes()

    def told(end, live):
        source = io.BytesIO(data)
        stdin = SimpleNamespace(buffer=SimpleNamespace(read=lambda size: source.read(min(size, 4000)) or end()))
        monkeypatch.setattr("sys.stdin", stdin)
        monkeypatch.setattr(predict, "live", live)
        code, out, err = affect("diarize", run, "-", "--rate", 16_000, "--raw", "f32")
        return code, out, re.findall(r"standard input: [\d.]+ s, \d+ turns", err), "interrupted" in err

    def interrupt():
        os.kill(os.getpid(), signal.SIGINT)
        return b""

    def computing(stream, blocks):
        """The interrupt comes with the last block, which is still taken in."""

        def each():
            for number, block in enumerate(blocks, 1):
                if number == -(-len(data) // 4000):
                    interrupt()
                yield block

        return live(stream, each())

    live = predict.live
    whole = told(bytes, live)
    assert whole[0] == 0 and whole[1]
    assert told(interrupt, live) == whole
    assert told(bytes, computing) == whole


def test_a_second_interrupt_is_one():
    def blocks():
        os.kill(os.getpid(), signal.SIGINT)
        yield np.zeros(1, np.float32)

    taken = iter(until_interrupted(iter([np.zeros(1, np.float32)] * 3)))
    next(taken)
    os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
    assert [*taken] == []
    assert [*until_interrupted(blocks())] == []
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["-o", "{talk}"], "--output {talk} is read, too"),
        (["--embeddings", "{talk}"], "--embeddings {talk} is read, too"),
        (["--uem", "all.uem", "-o", "./all.uem"], "--output all.uem is read, too"),
        (["-o", "new", "--embeddings", "new"], "--embeddings new is what another option writes"),
    ],
)
def test_what_is_read_is_not_written(affect, run, talk, tmp_path, monkeypatch, options, words):
    monkeypatch.chdir(tmp_path)
    copy = tmp_path / "talk.wav"
    copy.write_bytes(talk.read_bytes())
    (tmp_path / "all.uem").write_text("talk 1 0 9\n")
    code, _, err = affect("diarize", run, tmp_path, *(word.format(talk=copy) for word in options))
    assert_one_line(code, err, words.format(talk=copy))
    assert copy.read_bytes() == talk.read_bytes()
    assert (tmp_path / "all.uem").read_text() == "talk 1 0 9\n"
    assert not (tmp_path / "new").exists()


def test_names_are_as_rttm_writes_them(affect, run, talk, tmp_path):
    """Blanks in a recording's name become _, in all that names it; bytes that are no UTF-8 are one line."""
    (tmp_path / "a b.wav").write_bytes(talk.read_bytes())
    (tmp_path / "all.uem").write_text("a_b 1 1 4\n")
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/b\xff.wav")
    Path(odd).write_bytes(talk.read_bytes())
    options = ["-o", tmp_path / "out.rttm", "--embeddings", tmp_path / "who.npz"]
    code, _, err = affect("diarize", run, tmp_path / "a b.wav", odd, *options)
    assert code == 1
    assert [line for line in err.splitlines() if "name that is no UTF-8" in line] == [err.splitlines()[-1]]
    assert {line.split()[1] for line in (tmp_path / "out.rttm").read_text().splitlines()} == {"a_b"}
    assert set(np.load(tmp_path / "who.npz")["recordings"]) == {"a_b"}
    code, out, _ = affect("diarize", run, tmp_path / "a b.wav", "--uem", tmp_path / "all.uem")
    assert code == 0 and out and all(1 <= float(line.split()[3]) < 4 for line in out.splitlines())
    code, _, err = affect("diarize", run, talk, "--uem", tmp_path / "all.uem")
    assert_one_line(code, err, "all.uem names none of the recordings, talk for one")
    (tmp_path / "a_b.wav").write_bytes(talk.read_bytes())
    code, _, err = affect("diarize", run, tmp_path / "a b.wav", tmp_path / "a_b.wav")
    assert_one_line(code, err, "would be one recording in RTTM")


def test_less_can_be_heard_before_anything_is_told(affect, run, monkeypatch):
    frames: list[int] = []
    monkeypatch.setattr(predict, "live", lambda stream, blocks: frames.append(stream.start) or iter(()))
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO()))
    for options in ([], ["--online.start", "0.96"]):
        assert affect("diarize", run, "-", *options)[0] == 0
    assert frames == [25, 12], "a window of 2 s at 12.5 a second"


def test_fewer_speakers_than_asked_for_are_told_of(affect, run, tmp_path):
    quiet = saved.recording(tmp_path / "quiet.wav", 3.0)
    _, out, err = affect("diarize", run, quiet, "--num-speakers", 40)
    found = len({line.split()[7] for line in out.splitlines()})
    assert f"of {found} of 40 speakers found, online" in err
    _, _, err = affect("diarize", run, quiet, "--num-speakers", found)
    assert f"of {found} speaker" in err and "found" not in err


def test_folders_uem_and_exclusive(affect, run, talk, tmp_path):
    folder = tmp_path / "sounds" / "deep"
    folder.mkdir(parents=True)
    saved.recording(folder / "one.WAV", 3.0, 2)
    saved.recording(folder / "two.wav", 3.0, 3)
    (folder / "notes.txt").write_text("")
    _, out, _ = affect("diarize", run, tmp_path / "sounds")
    assert {line.split()[1] for line in out.splitlines()} == {"one", "two"}
    (tmp_path / "all.uem").write_text("two 1 0.5 1.25\ntwo 1 1.0 2\nthree 1 0 9\n")
    code, out, err = affect("diarize", run, tmp_path / "sounds", "--uem", tmp_path / "all.uem", "--exclusive")
    assert code == 0
    assert "one.WAV: passed over" in err
    rows = [line.split() for line in out.splitlines()]
    spans = sorted((float(row[3]), float(row[3]) + float(row[4])) for row in rows)
    assert {row[1] for row in rows} == {"two"}
    assert spans[0][0] >= 0.5 and spans[-1][1] <= 2.0005
    assert all(a[1] <= b[0] + 1e-9 for a, b in zip(spans, spans[1:], strict=False))


def test_the_number_of_speakers_is_a_bound(affect, run, talk):
    for options in ([], ["--offline"]):
        _, out, err = affect("diarize", run, talk, "--num-speakers", 1, *options)
        assert {line.split()[7] for line in out.splitlines()} == {out.split()[7]}
        assert ("offline" in err) == bool(options)


def test_embeddings_and_plots_are_written(affect, run, talk, rttm, tmp_path):
    (tmp_path / "plots").mkdir()
    (tmp_path / "plots" / "mine.png").write_text("stays")
    other = saved.recording(tmp_path / "other.wav", 1.0, 5)
    options = ["--embeddings", tmp_path / "who.npz", "--plot", tmp_path / "plots"]
    assert affect("diarize", run, talk, other, *options)[0] == 0
    who = np.load(tmp_path / "who.npz")
    speakers = {line.split()[7] for line in rttm.splitlines()}
    assert speakers <= {name for name, where in zip(who["speakers"], who["recordings"], strict=True) if where == "talk"}
    assert set(who["recordings"]) <= {"talk", "other"}
    assert np.linalg.norm(who["embeddings"], axis=1) == pytest.approx(1, abs=1e-5)
    spoken = sum(float(line.split()[4]) for line in rttm.splitlines())
    assert who["seconds"][who["recordings"] == "talk"].sum() == pytest.approx(spoken, abs=0.01)
    assert sorted(path.name for path in (tmp_path / "plots").iterdir()) == ["mine.png", "other.png", "talk.png"]
    assert (tmp_path / "plots" / "talk.png").read_bytes().startswith(b"\x89PNG")


def test_a_timeline_has_a_line_a_speaker_and_a_stretch_two_minutes():
    from affect.data.rttm import Turn

    figure = timeline("x", [Turn(0, 5, "a"), Turn(4, 250, "b")], 300.0).draw()
    assert figure is not None
    assert len(figure.axes) == 3
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["speaker a, 5 s", "speaker b, 246 s"]
    assert len(timeline("x", [], 9 * 3600.0).draw().axes) == 12


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{run}", "{talk}", "--num-speakers", "x"], ["--num-speakers must be None or INT, not 'x'"]),
        (["{run}", "{talk}", "--num-speakers", "0"], ["--num-speakers must be at least 1, not 0"]),
        (["{run}", "{talk}", "--rate", "8000"], ["--rate is for standard input"]),
        (["{run}", "{talk}", "--raw", "f32"], ["--raw is for standard input"]),
        (["{run}", "-", "{talk}"], ["standard input (-) is diarized alone"]),
        (["{run}", "-", "--raw", "f32"], ["give their --rate"]),
        (["{run}", "{talk}", "--online.start", "9"], ["online.start must lie between", "not 9"]),
        (["{run}", "-", "--rate", "1"], ["rate of raw samples is 1 Hz"]),
        (["{run}", "-", "--offline"], ["--offline is for files"]),
        (["{run}", "-", "--exclusive"], ["--exclusive is for files"]),
        (["{run}", "-", "--plot", "p"], ["--plot is for files"]),
        (["{run}", "{talk}", "--uem", "gone.uem"], ["gone.uem"]),
        (["{run}", "{talk}", "-o", "no/where.rttm"], ["no/where.rttm can't be written"]),
        (["{run}", "{talk}", "--embeddings", "no/where.npz"], ["no/where.npz can't be written"]),
        (["{run}", "{talk}", "--plot", "{talk}"], ["talk.wav can't be written"]),
        (["{run}", "{talk}", "copy/talk.wav"], ["would be one recording in RTTM"]),
        (["{run}", "empty"], ["empty holds no recording ("]),
        (["empty", "{talk}"], ["empty"]),
        (["{run}"], ["AUDIO"]),
    ],
)
def test_a_mistake_is_one_line(affect, run, talk, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    code, _, err = affect("diarize", *(word.format(run=run, talk=talk) for word in arguments))
    assert_one_line(code, err, *words)


def test_help_helps(affect):
    code, out, _ = affect("diarize", "--help")
    assert code == 0
    for words in ("RTTM", "--num-speakers", "--exclusive", "--offline", "--plot", "--embeddings", "--uem", "-o"):
        assert words in out
    assert "--online.start" in out and "at most so many" in " ".join(out.split())


MEASURED = (
    "import resource, sys\nfrom affect.cli import main\n"
    "try:\n    main()\nfinally:\n    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_two_hours_take_under_a_gibibyte(tmp_path):
    """Through the command line, decoded twice, with plots and embeddings."""
    part = saved.noise(600).clip(-1, 1)
    with soundfile.SoundFile(tmp_path / "two_hours.wav", "w", 16_000, 1) as file:
        for _ in range(12):
            file.write(part)
    folder, outputs = (
        saved.model(tmp_path / "model", shortest=0.3),
        {name: tmp_path / name for name in ("rttm", "plots", "npz")},
    )
    command = [
        sys.executable, "-c", MEASURED, "diarize", folder, tmp_path / "two_hours.wav", "--offline", "-o",
        outputs["rttm"], "--plot", outputs["plots"], "--embeddings", outputs["npz"],
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run([*map(str, command)], check=True, capture_output=True, text=True, env=environment)
    peak = int(done.stdout)
    print(f"{peak / 1024:.0f} MiB; {done.stderr}")
    assert "two_hours.wav: 7200.0 s" in done.stderr
    assert len(read_rttm(outputs["rttm"])["two_hours"]) > 100
    assert (outputs["plots"] / "two_hours.png").stat().st_size > 0 < len(np.load(outputs["npz"])["embeddings"])
    assert peak < 1 << 20
