"""What misleads in a corpus that can be read: told by `affect inspect`, kept for the report."""

import numpy as np
import pytest
import soundfile

from affect.data import inspect, signs
from affect.data.corpora import UTTERANCES, read
from affect.tasks import make
from affect.tasks.emotion.config import Data, Emotion, Model


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    """Six speakers: the first silent, the second constant, classes in two spellings, one of them in the test alone."""
    monkeypatch.setenv("AFFECT_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "corpus"
    folder.mkdir()
    waves = [np.zeros(8000), np.full(8000, 0.25), *(np.random.default_rng(k).normal(0, 0.1, 8000) for k in range(4))]
    emotions = ["happy", "sad", "Happy", "sad", "fear", "happy"]
    splits = ["train", "train", "train", "dev", "test", "test"]
    lines = ["path,speaker,valence,arousal,emotion,split"]
    for k, wave in enumerate(waves):
        soundfile.write(folder / f"{k}.wav", wave, 16_000)
        lines.append(f"{k}.wav,s{k},{k / 2},{3 - k / 2},{emotions[k]},{splits[k]}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_inspect_says_it(corpus):
    text = inspect.describe(read(UTTERANCES, "csv_folder", corpus))
    assert "silent recordings: 2 of 6 recordings are silent or constant: 0.wav, 1.wav" in text
    assert "classes alike: 'Happy' (1) and 'happy' (2) are different classes" in text
    assert "  class not trained: test has 'fear' (1), of which train has none" in text


def test_a_run_keeps_it_for_the_report(corpus):
    data = Data(corpus="csv_folder", root=str(corpus), split="column")
    task = make(Emotion(data=data, model=Model(encoder="none"), targets=("valence", "emotion"))).for_fold(0, 1)
    told = task.describe()
    assert [sign["kind"] for sign in told["signs"]] == ["silent recordings", "classes alike", "class not trained"]
    assert told["ratings"] is None
    joined = Data(corpus="csv_folder", root=str(corpus), split="column", classes=("happy+Happy+fear", "sad"))
    task = make(Emotion(data=joined, model=Model(encoder="none"), targets=("emotion",))).for_fold(0, 1)
    assert [sign["kind"] for sign in task.describe()["signs"]] == ["silent recordings"]


def test_what_does_not_mislead_is_not_told():
    assert signs.still([], 4) == [] == signs.unnamed("")
    assert signs.classes_alike(["happy", "sad", "", "happy"]) == []
    assert signs.classes_untrained({"train": ["a", ""], "test": ["a", ""]}) == []
