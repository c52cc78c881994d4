import filecmp
import json
import re
import shutil
import threading
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from affect.data import corpora, prosody, synthetic
from affect.data.synthetic import Options, generate
from affect.errors import AffectError

read = partial(corpora.read, corpora.UTTERANCES, "synthetic")
SMALL = {"dialogues": 2, "utterances": 4, "seconds": (0.4, 0.6)}
LINE = re.compile(r"\[(\d+\.\d{4}) - (\d+\.\d{4})\]\t(\S+)\t(\w{3})\t\[(\d\.\d{4}), (\d\.\d{4}), (\d\.\d{4})\]")


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AFFECT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    root = tmp_path_factory.mktemp("small") / "corpus"
    generate(root, Options(**SMALL))
    return root


@pytest.fixture(scope="module")
def default(tmp_path_factory):
    return read(tmp_path_factory.mktemp("default") / "corpus")


def blocks(file):
    """The utterances of an evaluation file: bracket line, then each evaluator's lines."""
    header, *rest = file.read_text().strip().split("\n\n")
    assert header == "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]"
    for block in rest:
        first, *lines = block.strip().split("\n")
        match = LINE.fullmatch(first)
        assert match, first
        yield match.groups(), lines


def test_layout_is_iemocaps(small):
    assert sorted(p.name for p in small.iterdir()) == [*(f"Session{n}" for n in range(1, 6)), "synthetic.json"]
    for number in range(1, 6):
        dialog = small / f"Session{number}" / "dialog"
        names = sorted(p.stem for p in (dialog / "EmoEvaluation").iterdir())
        assert names == [f"Ses0{number}F_impro01", f"Ses0{number}F_script01_1"]
        for name in names:
            rows = list(blocks(dialog / "EmoEvaluation" / f"{name}.txt"))
            ids = [row[2] for row, _ in rows]
            assert ids == [f"{name}_{g}00{i}" for i in (0, 1) for g in "FM"]
            wavs = small / f"Session{number}" / "sentences" / "wav" / name
            assert sorted(p.name for p in wavs.iterdir()) == sorted(f"{i}.wav" for i in ids)
            words = (dialog / "transcriptions" / f"{name}.txt").read_text().splitlines()
            assert [re.fullmatch(r"(\S+) \[\d{3}\.\d{4}-\d{3}\.\d{4}\]: .+\.", w)[1] for w in words] == ids
            for (start, end, name_, *_), _ in rows:
                info = soundfile.info(wavs / f"{name_}.wav")
                assert (info.samplerate, info.channels, info.subtype) == (16000, 1, "PCM_16")
                assert info.duration == pytest.approx(float(end) - float(start), abs=2e-4)
                assert 0.4 <= info.duration <= 0.6


def test_brackets_are_the_evaluators_mean_and_majority(small):
    full = {name: code for code, name in synthetic.CATEGORIES.items()}
    checked = 0
    for file in small.glob("Session*/dialog/EmoEvaluation/*.txt"):
        for row, lines in blocks(file):
            ratings = [re.fullmatch(r"A-E\d:\tval (\d); act (\d); dom  (\d);\t\(\)", line) for line in lines]
            ratings = np.array([m.groups() for m in ratings if m], float)
            assert len(ratings) == 3 and ratings.min() >= 1 and ratings.max() <= 5
            np.testing.assert_allclose(ratings.mean(axis=0), [float(x) for x in row[4:]], atol=1e-4)
            votes = Counter(full[m[1]] for line in lines if (m := re.fullmatch(r"C-E\d:\t(\w+);\t\(\)", line)))
            top, count = votes.most_common(1)[0]
            assert row[3] == (top if count > 1 else "xxx") and sum(votes.values()) == 3
            gender = row[2].rsplit("_", 1)[1][0]
            assert sum(line.startswith((f"C-{gender}1:", f"A-{gender}1:")) for line in lines) == 2
            checked += 1
    assert checked == 40


def test_the_iemocap_reader_takes_all_of_it(small):
    corpus = read(small, **SMALL)
    rows = corpus.utterances
    assert corpus.name == "synthetic" and corpus.exclusions == [] and corpus.scale == (1.0, 5.0)
    assert len(rows) == 40 and len(set(rows["id"])) == 40
    assert Counter(rows["speaker"]) == {f"Ses0{n}{g}": 4 for n in range(1, 6) for g in "FM"}
    assert all(rows["transcript"])


def test_the_same_seed_gives_the_same_files(small, tmp_path):
    def files(root):
        return sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file())

    for seed, same in ((0, True), (1, False)):
        other = tmp_path / str(seed)
        generate(other, Options(**SMALL, seed=seed))
        assert files(other) == files(small)
        differ = filecmp.cmpfiles(small, other, files(small), shallow=False)[1]
        assert (not differ) if same else len(differ) > 40


def test_scripts_repeat_across_sessions_and_improvisations_do_not(small):
    def words(session, scene):
        lines = (small / f"Session{session}/dialog/transcriptions/Ses0{session}F_{scene}.txt").read_text().splitlines()
        return [line.split("]: ")[1].lower().replace(" ", "")[:4] for line in lines]  # tempo decides how many

    assert words(1, "script01_1") == words(2, "script01_1")
    assert words(1, "impro01") != words(2, "impro01")


@pytest.mark.parametrize("options", [{}, {"seed": 1, "dialogues": 2}, {"utterances": 20, "dialogues": 1}])
def test_valence_tells_nothing_of_arousal(options, tmp_path):
    corpus = corpora.read(
        corpora.UTTERANCES, "synthetic", tmp_path / "c", **{"seconds": (0.3, 0.3), **options}
    ).utterances
    valence, arousal = np.array(corpus["valence"]), np.array(corpus["arousal"])
    assert abs(np.corrcoef(valence, arousal)[0, 1]) < 0.3
    assert valence.std() > 0.6 and arousal.std() > 0.6
    for session in set(corpus["session"]):
        own = np.array(corpus["session"]) == session
        assert valence[own].std() > 0.5 and arousal[own].std() > 0.5


def test_labels_drift_over_a_dialogue_and_emotions_follow_them(default):
    rows = default.utterances.to_pandas()
    for label in ("valence", "arousal"):
        steps = [np.abs(np.diff(d.sort_index()[label])).mean() for _, d in _in_order(rows)]
        assert np.mean(steps) < 0.65 * np.abs(np.diff(rows.sample(frac=1, random_state=0)[label])).mean()
    mean = rows.groupby("emotion")[["valence", "arousal"]].mean()
    assert mean.loc["ang", "arousal"] > 3.5 > 2.5 > mean.loc["ang", "valence"]
    assert mean.loc["sad"].max() < 2.5 and mean.loc["exc"].min() > 3.5 and mean.loc["hap", "valence"] > 3.5


def _in_order(rows):
    """Dialogues with their utterances in the order of speaking: the two speakers in turn."""
    turn = rows["id"].str[-3:].astype(int) * 2 + (rows["gender"] != rows["dialogue"].str[5])
    return rows.assign(turn=turn).set_index("turn").groupby("dialogue")


def test_ridge_learns_it_imperfectly_and_without_the_level(default):
    rows = prosody.add(default.utterances)
    features = np.array(rows["prosody"])
    level = np.array([name.startswith(("loudness", "energy")) for name in prosody.FUNCTIONAL_NAMES])
    session = np.array(rows["session"])
    for label in ("valence", "arousal"):
        target = np.array(rows[label])
        for columns in (np.full_like(level, True), ~level):
            scores = []
            for held in np.unique(session):
                own = session == held
                model = make_pipeline(StandardScaler(), Ridge(100.0))
                model.fit(features[~own][:, columns], target[~own])
                scores.append(_ccc(model.predict(features[own][:, columns]), target[own]))
            assert min(scores) > 0.6 and 0.7 < np.mean(scores) < 0.9, (label, scores)


def _ccc(x, y):
    return 2 * np.mean((x - x.mean()) * (y - y.mean())) / (x.var() + y.var() + (x.mean() - y.mean()) ** 2)


def test_a_corpus_is_written_once(small):
    stamp = (small / "synthetic.json").stat().st_mtime_ns
    read(small, **{**SMALL, "seconds": [0.4, 0.6]})
    assert (small / "synthetic.json").stat().st_mtime_ns == stamp


def test_other_options_write_it_anew(tmp_path):
    root = tmp_path / "c"
    options = {"dialogues": 1, "utterances": 2, "seconds": (0.3, 0.3)}
    assert len(read(root, **options).utterances) == 10
    (tmp_path / ".c.partial" / "Session1").mkdir(parents=True)  # as a killed run leaves it
    assert len(read(root, **{**options, "utterances": 3}).utterances) == 15
    assert json.loads((root / "synthetic.json").read_text())["settings"]["utterances"] == 3
    assert sorted(p.name for p in tmp_path.iterdir()) == [".c.lock", "c"]


def test_of_several_at_once_one_writes(tmp_path, monkeypatch):
    write, count = synthetic._write, []

    def counted(*args):
        count.append(1)
        write(*args)

    monkeypatch.setattr(synthetic, "_write", counted)
    found = []
    options = {"dialogues": 1, "utterances": 2, "seconds": (0.3, 0.3)}
    threads = [
        threading.Thread(target=lambda: found.append(len(read(tmp_path / "c", **options).utterances))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [10, 10, 10] and len(count) == 1


def test_what_is_not_a_generated_corpus_is_left_alone(small, tmp_path):
    real = tmp_path / "real"
    shutil.copytree(small / "Session1", real / "Session1")
    before = sorted(real.rglob("*"))
    with pytest.raises(AffectError, match="^[^\n]*real is there and is not a generated corpus[^\n]*$"):
        generate(real, Options(**SMALL))
    assert sorted(real.rglob("*")) == before
    (tmp_path / "file").write_text("mine")
    with pytest.raises(AffectError, match="not a generated corpus"):
        generate(tmp_path / "file", Options(**SMALL))
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dialogue": 3}, "'dialogue': did you mean 'dialogues'"),
        ({"utterances": 0}, "utterances=0 must be at least 1"),
        ({"seconds": (2.0, 1.0)}, "seconds"),
        ({"seconds": 2.0}, "seconds=2.0"),
        ({"seconds": (1.0,)}, "seconds"),
        ({"noise": -1.0}, "noise"),
        ({"seed": -1}, "seed"),
    ],
)
def test_bad_options_are_named(options, message, tmp_path):
    with pytest.raises(AffectError, match=message):
        read(tmp_path / "c", **options)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_refuses_leaves_nothing_behind(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(AffectError, match="can't be written: "):
        generate(tmp_path / "file" / "c", Options(**SMALL))

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(AffectError, match="can't be written: No space left on device"):
        generate(tmp_path / "c", Options(**SMALL))
    assert sorted(p.name for p in tmp_path.iterdir()) == [".c.lock", "file"]
