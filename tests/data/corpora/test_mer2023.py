import csv
import math
import shutil
from dataclasses import replace

import numpy as np
import pytest

from affect.data import corpora
from affect.data.corpora import mer2023
from affect.data.corpora.mer2023 import CLASSES, PARTS, USUAL, read
from affect.errors import AffectError
from affect.tasks.multimodal_emotion.config import Data, MultimodalEmotion
from affect.tasks.multimodal_emotion.task import read_corpus
from tests.launching import assert_one_line

A, T, V = USUAL.values()
ALL = {"audio": [A], "text": [T], "video": [V]}
SIZES = {"train": 7, "test1": 3, "test2": 2, "test3": 4}
WIDTHS = {A: 5, T: 6, V: 4}


def labels() -> dict[str, dict[str, dict[str, object]]]:
    """Return labels as the npz file has them, names out of order, by part."""
    numbers = iter(range(99, 0, -1))
    return {
        part: {
            f"sample_{next(numbers):08d}": {
                "emo": CLASSES[k % 6],
                "val": -10 if part == "test3" else k / 4 - 1,
            }
            for k in range(size)
        }
        for part, size in SIZES.items()
    }


def write_npz(root, made):
    np.savez(root / "label-6way.npz", **{f"{part}_corpus": np.array(own, dtype=object) for part, own in made.items()})


def write_csv(root, made):
    for part, own in made.items():
        with (root / f"{part}-label.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(("name", "discrete", "valence"))
            writer.writerows((name, label["emo"], label["val"]) for name, label in own.items())


def vector(name: str, width: int) -> np.ndarray:
    return np.random.default_rng(int(name[-4:])).normal(size=width).astype(np.float32)


@pytest.fixture
def root(tmp_path):
    """A small corpus in the public layout: text of the first training row is zero, video of the second has no file."""
    made = labels()
    folder = tmp_path / "mer"
    for feature, width in WIDTHS.items():
        (folder / "features" / feature).mkdir(parents=True)
        for name in (name for own in made.values() for name in own):
            np.save(folder / "features" / feature / f"{name}.npy", vector(name, width))
    names = list(made["train"])
    np.save(folder / "features" / T / f"{names[0]}.npy", np.zeros(WIDTHS[T], np.float32))
    (folder / "features" / V / f"{names[1]}.npy").unlink()
    write_npz(folder, made)
    return folder


def message(caught) -> str:
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_whole_corpus(root, caplog):
    corpus = read(root, **ALL)
    made = labels()
    data = corpus.utterances
    assert data.column_names == ["id", "part", "emotion", "valence", "digest"]
    assert data["id"][:] == [name for own in made.values() for name in own], "the file's order, which folds depend on"
    assert data["emotion"][:] == [label["emo"] for own in made.values() for label in own.values()]
    for part in PARTS:
        rows = corpus.indices(part)
        assert data.select(rows)["part"][:] == [part] * SIZES[part]
        expected = [math.nan if part == "test3" else label["val"] for label in made[part].values()]
        np.testing.assert_array_equal(data.select(rows)["valence"][:], expected)
    assert corpus.classes == ("neutral", "angry", "happy", "sad", "worried", "surprise")
    assert [(s.modality, s.name, s.width) for s in corpus.streams] == [("audio", A, 5), ("text", T, 6), ("video", V, 4)]
    assert corpus.keys == ("audio", "text", "video")
    missing = np.zeros((16, 3), bool)
    missing[0, 1] = missing[1, 2] = True
    np.testing.assert_array_equal(corpus.present, ~missing)
    np.testing.assert_array_equal(np.argwhere(corpus.absent), [[1, 2]])
    for index, (_, width) in enumerate(WIDTHS.items()):
        expected = np.array([vector(name, width) for name in data["id"]])
        expected[missing[:, index]] = 0
        np.testing.assert_array_equal(corpus.arrays[index], expected)
    names = data["id"]
    assert [(e.what, e.reason) for e in corpus.exclusions] == [(names[1], f"absent feature file: {V}")]
    assert f"video feature {V} has no file of 1 of 16 utterances" in caplog.text


def test_csv_and_npz_say_the_same(root):
    write_csv(root, labels())
    by_npz, by_csv, by_auto = (read(root, **ALL, labels=kind) for kind in ("npz", "csv", "auto"))
    assert by_npz.fingerprint == by_csv.fingerprint == by_auto.fingerprint
    (root / "label-6way.npz").unlink()
    assert read(root, **ALL).fingerprint == by_npz.fingerprint
    lines = (root / "test3-label.csv").read_text().replace(",-10", "").replace(",valence", "")
    (root / "test3-label.csv").write_text("\ufeff" + lines, encoding="utf-8")
    assert read(root, **ALL).fingerprint == by_npz.fingerprint, "test3 need not have the column"


def test_streams_of_one_modality_and_features_deeper_down(root):
    shutil.copytree(root / "features" / A, root / "features" / "deep" / "hubert")
    corpus = read(root, video=[V], audio=[A, "deep/hubert"], widths=[5, 5, 4])
    assert corpus.keys == ("audio", "audio_2", "video")
    np.testing.assert_array_equal(corpus.arrays[0], corpus.arrays[1])
    assert read(root).streams == ()
    assert read(root).present.shape == (16, 0)


def test_the_fingerprint_follows_labels_and_features_not_the_place(root, tmp_path):
    before = read(root, **ALL).fingerprint
    shutil.copytree(root, tmp_path / "elsewhere")
    assert read(tmp_path / "elsewhere", **ALL).fingerprint == before
    assert read(root, audio=[A], text=[T]).fingerprint != before
    made = labels()
    next(iter(made["test1"].values()))["val"] = 0.25
    write_npz(tmp_path / "elsewhere", made)
    assert read(tmp_path / "elsewhere", **ALL).fingerprint != before
    place = next((root / "features" / A).iterdir())
    np.save(place, np.load(place) + 1)
    assert read(root, **ALL).fingerprint != before


def test_missing_labels_stay_missing(root):
    made = labels()
    (first, second, third, *_) = made["train"].values()
    first.update(emo="", val=-10.0)
    second.update(val=float("nan"))
    third.update(val=np.float64(-5))
    write_npz(root, made)
    data = read(root).utterances
    assert data["emotion"][0] == ""
    np.testing.assert_array_equal(data["valence"][:3], [math.nan, math.nan, -5])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"emo": "happpy"}, ["unknown emotion 'happpy'", "did you mean 'happy'?"]),
        ({"emo": 3}, ["must have a word as 'emo' and a number as 'val'"]),
        ({"val": "high"}, ["must have a word as 'emo' and a number as 'val'"]),
        ({"val": 5.25}, ["label out of range: valence 5.25 on -5..5 (-10: none)"]),
        ({"val": -9.0}, ["label out of range: valence -9.0 on"]),
        ({"val": float("inf")}, ["label is no number: valence 'inf'"]),
    ],
)
def test_bad_labels_name_the_utterance(root, change, words):
    made = labels()
    name = list(made["test1"])[1]
    made["test1"][name].update(change)
    write_npz(root, made)
    with pytest.raises(AffectError) as caught:
        read(root, **ALL)
    assert all(word in message(caught) for word in [name, "label-6way.npz, test1_corpus", *words])


@pytest.mark.parametrize("key", ["emo", "val"])
def test_an_incomplete_label(root, key):
    made = labels()
    name = list(made["test1"])[1]
    del made["test1"][name][key]
    write_npz(root, made)
    with pytest.raises(AffectError) as caught:
        read(root)
    assert f"utterance {name!r} has no {key!r}" in message(caught)


@pytest.mark.parametrize("name", ["../up", "a/b", "a\\b", "..", ".", "", " ", "a\nb", "a\0b"])
def test_names_that_are_no_file_names(root, name):
    made = labels()
    made["train"][name] = {"emo": "sad", "val": 0}
    write_npz(root, made)
    with pytest.raises(AffectError) as caught:
        read(root)
    assert f"{name!r} is no name of an utterance" in message(caught)


def test_names_twice(root):
    made = labels()
    name = next(iter(made["train"]))
    made["test2"][name] = {"emo": "sad", "val": 0}
    write_npz(root, made)
    with pytest.raises(AffectError, match=f"utterance {name} is in train and in test2"):
        read(root)
    made = labels()
    write_csv(root, made)
    with (root / "train-label.csv").open("a") as file:
        file.write(f"{name},sad,1\n")
    with pytest.raises(AffectError, match=rf"train-label\.csv:9: utterance {name} is twice in train"):
        read(root, labels="csv")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name,discrete\na,sad\n", "has no column 'valence'; it has: name, discrete"),
        ("", "has no column 'name'; it has: none"),
        ("name,discrete,valence\na,sad,good\n", "train-label.csv:2: label is no number: valence 'good'"),
        ("name,discrete,valence\na,sad,1,2\n", "train-label.csv:2: more cells than columns"),
        ("name,discrete,valence\n", "has no utterance in train"),
        ("name,discrete,valence\na,bored,1\n", "utterance a has the unknown emotion 'bored'"),
    ],
)
def test_bad_tables(root, text, words):
    write_csv(root, labels())
    (root / "train-label.csv").write_text(text)
    with pytest.raises(AffectError) as caught:
        read(root, labels="csv")
    assert words in message(caught)


def test_label_files_that_are_not_there(root, tmp_path):
    with pytest.raises(AffectError, match=r"train-label\.csv cannot be read \(No such file"):
        read(root, labels="csv")
    with pytest.raises(AffectError, match="labels must be one of auto, npz, csv, not 'xls'"):
        read(root, labels="xls")
    made = labels()
    del made["test2"]
    write_npz(root, made)
    with pytest.raises(AffectError, match="has no array 'test2_corpus'"):
        read(root)
    write_npz(root, {**made, "test2": {}})
    with pytest.raises(AffectError, match="has no utterance in test2"):
        read(root)
    (root / "label-6way.npz").unlink()
    with pytest.raises(AffectError, match=r"label-6way\.npz cannot be read"):
        read(root, labels="npz")
    with pytest.raises(AffectError, match=r"has no label-6way\.npz, or train-label\.csv"):
        read(root)
    with pytest.raises(AffectError, match="absent is not a folder"):
        read(tmp_path / "absent")
    (root / "train-label.csv").write_bytes(b"name,discrete,valence\n\xe9,sad,1\n")
    with pytest.raises(AffectError, match=r"is not UTF-8 \(byte 22\)"):
        read(root)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"audio": ["chinese-hubert-base-UTT"]}, [f"did you mean {A!r}?", f"there are: {T}, {A}, {V}"]),
        ({"text": ["xyz"]}, ["no text feature 'xyz'", f"there are: {T}, {A}, {V}"]),
        ({"text": [f"../features/{T}"]}, ["no text feature"]),
        ({"text": [""]}, ["no text feature ''"]),
        ({"text": ["/tmp"]}, ["no text feature '/tmp'"]),
        ({"text": [T, T]}, [f"text feature {T!r} is named more than once"]),
        ({**ALL, "widths": [5, 6, 5]}, [f"video feature {V!r} has 4 numbers, not the 5 asked for"]),
        ({**ALL, "widths": [5, 6]}, ["widths names 2 numbers for 3 features"]),
    ],
)
def test_features_that_are_not_there_or_not_so_wide(root, options, words):
    with pytest.raises(AffectError) as caught:
        read(root, **options)
    assert all(word in message(caught) for word in words)


def test_feature_folders_that_hold_nothing_of_use(root):
    shutil.rmtree(root / "features" / V)
    (root / "features" / V).mkdir()
    with pytest.raises(AffectError, match=f"{V} has no file of any of the 16 utterances"):
        read(root, **ALL)
    shutil.rmtree(root / "features")
    with pytest.raises(AffectError, match=r"features cannot be read \(No such file"):
        read(root, **ALL)


def test_detect(root):
    assert corpora.detect(root) == "mer2023"
    write_csv(root, labels())
    (root / "label-6way.npz").unlink()
    assert corpora.detect(root) == "mer2023"
    shutil.rmtree(root / "features")
    with pytest.raises(AffectError):
        mer2023.CORPUS.find(root)


def test_readers_of_features_and_of_recordings_are_kept_apart(root):
    assert corpora.read(corpora.FEATURES, "mer2023", root, audio=[A]).keys == ("audio",)
    with pytest.raises(AffectError, match="'mer2023' is of features of utterances, not of the recordings"):
        corpora.read(corpora.UTTERANCES, "mer2023", root)
    with pytest.raises(AffectError, match="did you mean 'mer2023'"):
        corpora.read(corpora.FEATURES, "mer2024", root)
    with pytest.raises(AffectError, match="'mer2023' has no option 'vidoe': did you mean 'video'"):
        corpora.read(corpora.FEATURES, "mer2023", root, vidoe=[V])


@pytest.mark.parametrize("options", [[], ["--corpus", "mer2023", "--labels", "npz"]])
def test_the_command_describes_it(affect, root, options):
    np.savez(root / "features" / "stray.npz", [1])
    (root / "features" / "empty").mkdir()
    code, out, _ = affect("inspect", root, *options)
    assert code == 0
    lines = out.splitlines()
    assert lines[0].startswith("mer2023: 16 utterances, fingerprint ")
    for line in (
        "by part: train 7, test1 3, test2 2, test3 4",
        "emotion, train: neutral 2, angry 1, happy 1, sad 1, worried 1, surprise 1",
        "emotion, test2: neutral 1, angry 1, happy 0, sad 0, worried 0, surprise 0",
        "valence, train: mean -0.250, deviation 0.500, from -1.000 to 0.500",
        "valence, test3: none",
        "features: 4",
        f"  {T}: 6 numbers, float32",
        "  empty: no .npy file",
        "presence, as present / all zero / no file:",
        f"  audio {A} (5): train 7 / 0 / 0, test1 3 / 0 / 0, test2 2 / 0 / 0, test3 4 / 0 / 0",
        f"  text {T} (6): train 6 / 1 / 0, test1 3 / 0 / 0, test2 2 / 0 / 0, test3 4 / 0 / 0",
        f"  video {V} (4): train 6 / 0 / 1, test1 3 / 0 / 0, test2 2 / 0 / 0, test3 4 / 0 / 0",
        "  all of them: train 5, test1 3, test2 2, test3 4",
        "patterns, train: ATV=0.714 (5) AT=0.143 (1) AV=0.143 (1)",
        "patterns, test1: ATV=1 (3)",
        "exclusions: 1",
        "  1 absent feature file",
    ):
        assert line in lines, line


def test_the_command_takes_other_features(affect, root):
    for feature in WIDTHS:
        (root / "features" / feature).rename(root / "features" / f"my-{feature}")
    frame = root / "features" / "frames" / "sample_00000099"
    frame.mkdir(parents=True)
    np.save(frame / "0.npy", np.ones(3, np.float16))
    (root / "features" / "broken").mkdir()
    (root / "features" / "broken" / "a.npy").write_bytes(b"x")
    _, out, _ = affect("inspect", root)
    assert "  audio: not looked at, name a feature (--audio-feature)" in out
    assert "  frames: 3 numbers, float16" in out
    assert "  broken: a.npy cannot be read" in out
    code, out, _ = affect("inspect", root, "--audio-feature", f"my-{A}", f"my-{T}", "--video-feature", "frames")
    assert code == 0
    assert f"  audio_2 my-{T} (6): train 6 / 1 / 0" in out
    assert "  video frames (3): train 1 / 0 / 6" in out
    assert "... and 5 more (--all lists them)" in out
    assert "  text: not looked at" in out
    _, out, _ = affect("inspect", root, "--video-feature", "frames", "--all")
    assert out.count(": absent feature file: frames") == 15


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--scale", "1", "5"], ["'mer2023'", "'scale'"]),
        (["--audio", "folder"], ["'mer2023'", "--audio-feature"]),
        (["--labels", "x.csv"], ["labels must be one of auto, npz, csv, not 'x.csv'"]),
        (["--text-feature", "x"], ["no text feature 'x'"]),
        (["--corpus", "iemocap", "--text-feature", "x"], ["iemocap"]),
    ],
)
def test_the_command_refuses_what_does_nothing(affect, root, options, words):
    code, out, err = affect("inspect", root, *options)
    assert_one_line(code, err, *words)
    assert out == ""


def test_utterances_with_the_very_same_features_are_said_and_refused_in_two_parts(affect, root, caplog):
    made = labels()
    for one, other in (("train", "test1"), ("train", "train")):
        first, second = list(made[one])[2], list(made[other])[1]
        for feature in WIDTHS:
            shutil.copy(root / "features" / feature / f"{first}.npy", root / "features" / feature / f"{second}.npy")
    read(root, **ALL)
    first, train, test = list(made["train"])[2], list(made["train"])[1], list(made["test1"])[1]
    assert (
        f"1 utterances with the very same features are there under two names: {train} (train) = {first}" in caplog.text
    )
    told = (
        f"1 utterances with the very same features are in two parts under two names: {train} (train) = {test} (test1)"
    )
    _, out, _ = affect("inspect", root, *sum(([f"--{m}-feature", *names] for m, names in ALL.items()), []))
    assert f"copies: {told}" in out
    recipe = MultimodalEmotion(data=Data(root=str(root), **{m: tuple(names) for m, names in ALL.items()}))
    with pytest.raises(AffectError) as caught:
        read_corpus(recipe)
    assert str(caught.value) == f"mer2023 leaks: {told} (allow_shared accepts it)"
    read_corpus(replace(recipe, data=replace(recipe.data, allow_shared=True)))
    assert f"mer2023 leaks: {told}" in caplog.text
    caplog.clear()
    # The same words may be said twice.
    read_corpus(replace(recipe, data=replace(recipe.data, audio=(), video=())))
    assert "very same" not in caplog.text
