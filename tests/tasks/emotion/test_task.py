"""The valence/arousal task: how a recipe's data is read, what it leaves out, and its scores."""

from __future__ import annotations

import io
import shlex

import numpy as np
import pytest
import soundfile
from datasets import Dataset

from affect import cli
from affect.errors import AffectError
from affect.metrics import regression
from affect.task import measured
from affect.tasks import make
from affect.tasks.emotion.config import Data, Emotion, Model
from affect.tasks.emotion.corpus import read_corpus
from affect.tasks.emotion.task import EmotionTask
from tests.launching import ROOT, experiments


@pytest.fixture(autouse=True)
def own_cache_of_datasets(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "hf_cache")


def tone(number: int) -> np.ndarray:
    return 0.3 * np.sin(2 * np.pi * (150 + 5 * number) * np.arange(4800) / 16_000)


def encoded(number: int) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, tone(number), 16_000, format="WAV")
    return buffer.getvalue()


def csv_folder(folder, lines, header="path,speaker,valence,arousal", recordings=6):
    (folder / "Audios").mkdir(parents=True)
    for number in range(recordings):
        soundfile.write(folder / "Audios" / f"{number}.wav", tone(number), 16_000)
    (folder / "Labels").mkdir()
    (folder / "Labels" / "consensus.csv").write_text("\n".join([header, *lines]) + "\n")
    (folder / "Labels" / "detailed.csv").write_text("x\n")
    return folder


def test_the_hub_example_of_the_readme(tmp_path):
    """Its flags, as they stand there, on a folder of parquet files with those columns."""
    count = 12
    sets = ["Train", "Development", "Test1"]
    Dataset.from_dict(
        {
            "audio": [{"bytes": encoded(k), "path": None} for k in range(count)],
            "EmoVal": [1.0 + k / 2 for k in range(count)],
            "EmoAct": [7.0 - k / 2 for k in range(count)],
            "SpkrID": [f"s{k}" for k in range(count)],
            "Split_Set": [sets[k % 3] for k in range(count)],
        }
    ).to_parquet(tmp_path / "corpus" / "train.parquet")
    text = (ROOT / "README.md").read_text(encoding="utf-8").replace("\\\n", " ")
    commands = [line for line in text.splitlines() if "finetune_wavlm.py" in line and "--data.corpus hub" in line]
    assert len(commands) == 1
    words = shlex.split(commands[0])
    name, *flags = words[words.index("recipes/finetune_wavlm.py") + 1 :]
    flags[flags.index("--data.root") + 1] = str(tmp_path / "corpus")
    recipe, _ = cli.parse(name, experiments()[name], flags)
    task = make(recipe)
    assert task.folds() == [1]
    parts = task.for_fold(0, 1).datasets()
    assert {part: sorted(rows["speaker"]) for part, rows in parts.items()} == {
        "train": ["s0", "s3", "s6", "s9"], "valid": ["s1", "s10", "s4", "s7"], "test": ["s11", "s2", "s5", "s8"],
    }  # fmt: skip
    assert sorted(parts["test"]["valence"]) == [2.0, 3.5, 5.0, 6.5]
    assert task.exclusions() == []


def test_every_option_reaches_the_csv_reader(tmp_path):
    lines = [f"{k}.wav,s{k},{k + 1},3,{'Train' if k < 3 else 'Test1'}" for k in range(6)]
    header = "FileName,SpkrID,EmoVal,EmoAct,Split_Set"
    data = Data(
        corpus="csv_folder", root=str(csv_folder(tmp_path / "c", lines, header)), scale=(1, 7),
        labels="Labels/consensus.csv", audio="Audios",
        columns=("path=FileName", "speaker=SpkrID", "valence=EmoVal", "arousal=EmoAct", "split=Split_Set"),
    )  # fmt: skip
    corpus, _ = read_corpus(Emotion(data=data))
    assert corpus.scale == (1, 7)
    assert corpus.utterances["valence"][:] == [1, 2, 3, 4, 5, 6]
    assert corpus.utterances["split"][:] == ["Train"] * 3 + ["Test1"] * 3
    assert corpus.exclusions == []


def test_several_tests_are_of_one_training_whose_baselines_are_fitted_once(tmp_path, monkeypatch):
    parts = ["Train"] * 6 + ["Development"] * 2 + ["Test1"] * 2 + ["Test2"] * 2
    lines = [f"{k}.wav,s{k},{1 + k % 5},{5 - k % 4},{part},in {part},one" for k, part in enumerate(parts)]
    root = csv_folder(tmp_path / "c", lines, "path,speaker,valence,arousal,split,dialogue,session", recordings=12)
    data = Data(corpus="csv_folder", root=str(root), labels="Labels/consensus.csv", audio="Audios", split="column")
    whole = make(Emotion(data=data))
    assert whole.folds() == [1]
    task = whole.for_fold(0, 1)
    assert {name: len(part) for name, part in task.datasets().items()} == {
        "train": 6, "valid": 2, "test1": 2, "test2": 2,
    }  # fmt: skip
    of_dialogues = make(Emotion(data=data, model=Model(dialogue="mamba"))).for_fold(0, 1)
    assert [len(part) for part in of_dialogues.datasets().values()] == [2, 1, 1, 1], "training alone is cut"
    assert [evaluation.name for evaluation in task.evaluations()] == ["train", "valid", "test1", "test2"]
    assert task.describe()["utterances"] == {"train": 6, "valid": 2, "test1": 2, "test2": 2}
    fitted = []
    monkeypatch.setattr(
        "affect.baselines.features.predict",
        lambda name, x, y, new, groups: fitted.append(name) or np.arange(len(new))[:, None] + np.zeros((1, 2)),
    )
    rows = task.baselines()
    assert fitted == ["constant", "ridge", "svr"]
    assert {part: [row["id"] for row in each["svr"]] for part, each in rows.items()} == {
        "test1": ["8.wav", "9.wav"], "test2": ["10.wav", "11.wav"],
    }  # fmt: skip
    assert [row["prediction"]["valence"] for row in rows["test2"]["constant"]] == [2.0, 3.0], (
        "by their places among all"
    )


def test_every_option_reaches_the_hub_reader(monkeypatch):
    class Read(Exception):  # noqa: N818
        pass

    def read(kind, corpus, root, **options):
        raise Read(corpus, root, options)

    monkeypatch.setattr("affect.tasks.emotion.corpus.corpora.read", read)
    data = Data(
        corpus="hub", root="owner/name", columns=("valence=EmoVal",), scale=(1, 7), subset="en", revision="v2", limit=5,
        streaming=True, name="calls", raters="mean", decimal=",",
    )  # fmt: skip
    with pytest.raises(Read) as read_with:
        read_corpus(Emotion(data=data))
    options = {
        "columns": {"valence": "EmoVal"}, "scale": (1, 7), "subset": "en", "revision": "v2", "limit": 5,
        "streaming": True, "name": "calls", "raters": "mean", "decimal": ",",
    }  # fmt: skip
    assert read_with.value.args == ("hub", "owner/name", options)


@pytest.mark.parametrize("streaming", [False, True])
def test_limit_and_streaming(tmp_path, streaming):
    Dataset.from_dict(
        {"audio": [{"bytes": encoded(k)} for k in range(5)], "speaker": list("abcde"), "valence": [2.0] * 5}
    ).to_parquet(tmp_path / "train.parquet")
    data = Data(corpus="hub", root=str(tmp_path), limit=3, streaming=streaming)
    assert read_corpus(Emotion(data=data))[0].utterances["speaker"][:] == ["a", "b", "c"]


def test_exclusions_are_counted_by_reason_and_listed(tmp_path, caplog):
    caplog.set_level("WARNING", logger="affect")
    lines = [f"{k}.wav,s{k},2,3," for k in range(5)]
    lines += ["5.wav,s5,,,3", "6.wav,s6,2,2,", "7.wav,s7,2,2,", "0.wav,s8,x,2,", "1.wav,s9,9,2,"]
    root = csv_folder(tmp_path / "c", lines, "path,speaker,valence,arousal,dominance")
    data = Data(
        corpus="csv_folder",
        root=str(root),
        labels="Labels/consensus.csv",
        audio="Audios",
        split="speaker",
        scale=(1, 5),
    )
    task = make(Emotion(data=data, model=Model(encoder="none")))
    assert task.exclusions() == [
        {"what": "6.wav", "reason": "missing audio file"},
        {"what": "7.wav", "reason": "missing audio file"},
        {"what": "0.wav", "reason": "label is no number: valence 'x'"},
        {"what": "1.wav", "reason": "label out of range: valence 9 on 1..5"},
        {"what": "5.wav", "reason": "no label: neither valence nor arousal"},
    ]
    said = task.for_fold(0, 1).describe()
    assert said["exclusions"] == {
        "missing audio file": 2, "label is no number": 1, "label out of range": 1, "no label": 1,
    }  # fmt: skip
    assert (said["scale"], said["scale_inferred"]) == ([1, 5], False)
    assert said["corpus"] == f"csv_folder@{said['fingerprint'][:8]}"
    assert said["excluded"] == 5 == len(task.for_fold(0, 1).exclusions())
    assert sum(said["utterances"].values()) == 5
    assert "1 utterances have no label for valence or arousal" in caplog.text


def row(name: str, valence: float, arousal: float) -> dict:
    return {
        "id": name,
        "prediction": {"valence": valence, "arousal": arousal},
        "target": {"valence": 2 * valence if np.isfinite(valence) else 1.0, "arousal": 3.0 + 2 * (int(name[-1]) % 2)},
    }


def test_scores_are_those_of_the_metrics():
    task = EmotionTask(Emotion())
    rows = [row(str(k), k / 2, 4.0) for k in range(5)]
    scores = measured(task.measures, rows)
    values = np.arange(5) / 2
    assert scores["ccc_valence"] == regression.ccc(values, 2 * values)
    assert scores["rmse_arousal"] == 1.0
    assert scores["ccc"] == scores["ccc_valence"] / 2


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_prediction_that_is_not_finite_is_named(bad):
    task = EmotionTask(Emotion())
    rows = [row(f"u{k}", 2.0 + k, bad if k in (1, 3) else 3.0) for k in range(5)]
    with pytest.raises(AffectError) as error:
        measured(task.measures, rows)
    assert str(error.value) == "2 of 5 predictions of arousal are not finite: u1, u3"
    with pytest.raises(AffectError) as error:
        measured(task.measures, [row(f"u{k}", bad, 1.0) for k in range(9)])
    assert str(error.value) == "9 of 9 predictions of valence are not finite: u0, u1, u2, u3, u4 and 4 more"
