import csv
import filecmp
import itertools
import json
import threading
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from affect.data import synthetic_emotions, synthetic_features
from affect.data.synthetic_features import FEATURES, PARTS, GeneratorSettings, generate
from affect.errors import AffectError

SMALL = GeneratorSettings(train=60, test=12, widths=(6, 8, 5))
SHARES = np.array([871, 822, 689, 383, 462, 146]) / 3373
EMOTIONS = ["neutral", "angry", "happy", "sad", "worried", "surprise"]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    root = tmp_path_factory.mktemp("small") / "corpus"
    generate(root, SMALL)
    return root


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    """Corpora of the default size at three settings of the noise, as arrays."""
    folder = tmp_path_factory.mktemp("corpora")
    for noise in (0.5, 1.0, 2.0):
        generate(folder / str(noise), GeneratorSettings(noise=noise))
    return {noise: load(folder / str(noise)) for noise in (0.5, 1.0, 2.0)}


def labels(root):
    with np.load(root / "label-6way.npz", allow_pickle=True) as file:
        assert sorted(file) == sorted(f"{part}_corpus" for part in PARTS)
        assert all(file[key].shape == () and file[key].dtype == object for key in file)
        return {part: file[f"{part}_corpus"].item() for part in PARTS}


def vector(place):
    """A feature as a reader sees it: rows averaged, frames averaged, float32."""
    if place.with_suffix(".npy").exists():
        value = np.load(place.with_suffix(".npy")).astype(np.float32)
    else:
        value = np.stack([np.load(frame) for frame in sorted(place.iterdir())])
    return value.mean(axis=0) if value.ndim == 2 else value


def load(root):
    """By part: the three features [N, D], emotion [N] and valence [N]."""
    return {
        part: (
            [np.stack([vector(root / "features" / feature / name) for name in own]) for feature in FEATURES],
            np.array([label["emo"] for label in own.values()]),
            np.array([label["val"] for label in own.values()], float),
        )
        for part, own in labels(root).items()
    }


def table(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def files(root):
    return sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file())


def weighted_f1(corpus, part, modalities=(0, 1, 2), classifier=None):
    """Weighted F1 on a part of a linear classifier (or another one) fitted to the training part."""
    model = classifier or make_pipeline(StandardScaler(), LogisticRegression(C=0.02, max_iter=300))
    train, test = (np.concatenate([corpus[p][0][m] for m in modalities], axis=1) for p in ("train", part))
    return f1_score(corpus[part][1], model.fit(train, corpus["train"][1]).predict(test), average="weighted")


def test_labels_are_the_public_layouts(small):
    found = labels(small)
    assert {part: len(own) for part, own in found.items()} == {"train": 60, "test1": 12, "test2": 12, "test3": 12}
    names = [name for own in found.values() for name in own]
    assert len(set(names)) == 96 and all(len(n) == 18 and n.startswith("samplenew_") for n in names)
    for part, own in found.items():
        for label in own.values():
            assert set(label) == {"emo", "val"} and label["emo"] in EMOTIONS
            if part == "test3":
                assert type(label["val"]) is int and label["val"] == -10
            else:
                assert type(label["val"]) is float and -5.0 <= label["val"] <= 4.25 and label["val"] % 0.25 == 0
        header, *rows = table(small / f"{part}-label.csv")
        assert header == ["name", "discrete", "valence"]
        assert rows == [[name, label["emo"], str(label["val"])] for name, label in own.items()]


def test_features_have_every_form_of_the_public_ones(small):
    names = {name for own in labels(small).values() for name in own}
    forms = {}
    for feature, width in zip(FEATURES, SMALL.widths, strict=True):
        places = list((small / "features" / feature).iterdir())
        assert {p.name.removesuffix(".npy") for p in places} == names and len(places) == len(names)
        for place in places:
            frames = sorted(place.iterdir()) if place.is_dir() else [place]
            arrays = [np.load(frame, allow_pickle=False) for frame in frames]
            assert all(a.shape[-1] == width and np.isfinite(a).all() for a in arrays)
            form = "folder" if place.is_dir() else f"{arrays[0].dtype}, {arrays[0].ndim}"
            forms.setdefault(feature, Counter())[form] += 1
    audio, text, video = (forms[feature] for feature in FEATURES)
    assert set(audio) == {"float32, 1", "float32, 2"} and 5 <= audio["float32, 2"] <= 12
    assert set(text) == {"float32, 1"}
    assert set(video) == {"float32, 1", "float16, 1", "folder"} and 3 <= video["folder"] <= 10
    assert 15 <= video["float16, 1"] <= 35


def test_a_missing_text_has_no_words(small):
    header, *rows = table(small / "transcription-engchi-polish.csv")
    assert header == ["name", "chinese", "english"] and len(rows) == 96
    silent = {name for name, chinese, english in rows if not chinese and not english}
    zero = {
        name
        for own in labels(small).values()
        for name in own
        if not vector(small / "features" / FEATURES[1] / name).any()
    }
    assert silent == zero and len(zero) == 6 + 3 * 1
    for name, chinese, english in rows:
        if name not in silent:
            assert chinese.endswith("。") and english.endswith(".") and 3 < len(english) < 80


def test_classes_have_the_corpus_shares(corpora):
    for corpus in corpora.values():
        for part, (_, emotion, _) in corpus.items():
            shares = [np.mean(emotion == name) for name in EMOTIONS]
            np.testing.assert_allclose(shares, SHARES, atol=0.01 if part != "train" else 0.004)


@given(st.integers(0, 5000))
def test_counts_add_up_and_follow_the_shares(total):
    counts = synthetic_emotions.counts(total)
    assert counts.sum() == total
    assert (counts >= (1 if total >= 6 else 0)).all()
    assert np.abs(counts - SHARES * total).max() <= 2.5  # one of each class costs the common ones up to 6 * .26 places


def test_valence_follows_class(corpora):
    _, emotion, valence = corpora[1.0]["train"]
    mean = {name: valence[emotion == name].mean() for name in EMOTIONS}
    assert mean["happy"] > 2.0 and abs(mean["neutral"]) < 0.3 and mean["angry"] < -2.0 and mean["sad"] < -2.0
    assert mean["sad"] < mean["worried"] < mean["neutral"] < mean["happy"]
    assert 2.0 < valence.var() < 6.0
    assert 0.3 < valence[emotion == "happy"].std() < 1.5


@pytest.mark.parametrize(("noise", "text", "video"), [(0.5, 0.05, 0.04), (1.0, 0.1, 0.08), (2.0, 0.2, 0.16)])
def test_shares_of_what_is_missing(corpora, noise, text, video):
    for features, _, _ in corpora[noise].values():
        missing = [np.mean(~values.any(axis=1)) for values in features]
        assert missing == pytest.approx([0.0, text, video], abs=0.51 / len(features[0]))


def test_every_modality_tells_something_and_all_three_most(corpora):
    for noise, low, high in ((0.5, 0.5, 0.75), (1.0, 0.45, 0.6), (2.0, 0.32, 0.5)):
        corpus = corpora[noise]
        majority = weighted_f1(corpus, "test1", classifier=DummyClassifier())
        for part in ("test1", "test2", "test3"):
            scores = {c: weighted_f1(corpus, part, c) for r in (1, 2, 3) for c in itertools.combinations(range(3), r)}
            trimodal = scores.pop((0, 1, 2))
            single = [scores.pop((m,)) for m in range(3)]
            assert min(single) > majority + 0.15
            assert max(single) < min(trimodal - 0.1, max(scores.values()))
            assert max(scores.values()) < trimodal + 0.01  # the best of three pairs on 150 utterances
            if part == "test1":
                assert low < np.mean(single) < high
                assert np.mean(list(scores.values())) < trimodal - 0.05
            if part == "test1" and noise == 1.0:
                assert 0.68 < trimodal < 0.82


def test_more_noise_is_harder_and_test3_easier(corpora):
    scores = {n: [weighted_f1(c, part) for part in ("test1", "test2", "test3")] for n, c in corpora.items()}
    for mild, harsh in ((0.5, 1.0), (1.0, 2.0)):
        assert all(easy > hard for easy, hard in zip(scores[mild], scores[harsh], strict=True))
        assert np.mean(scores[mild]) > np.mean(scores[harsh]) + 0.03
    assert all(test3 > max(others) for *others, test3 in scores.values())


def test_speakers_are_stronger_than_emotions(corpora):
    """Of a feature's variance, classes explain little, though they can be read from it."""
    features, emotion, _ = corpora[1.0]["train"]
    for values in features:
        here = values.any(axis=1)
        x = (values[here] - values[here].mean(axis=0)) / values[here].std(axis=0)
        means = np.stack([x[emotion[here] == name].mean(axis=0) for name in emotion[here]])
        assert 0.02 < means.var(axis=0).mean() < 0.3


def test_test2_is_corrupted_not_missing():
    def spread(part, modality, noise):
        made = synthetic_emotions.sample(part, 400, (48, 96, 40), noise, 0).features[modality]
        return np.linalg.svd(made - made.mean(axis=0), compute_uv=False)

    # noise in audio fills the directions that neither evidence nor traits use; the text is as clean as ever
    assert spread("test2", "audio", 1.0)[20] > 1.5 * spread("test1", "audio", 1.0)[20]
    assert spread("test2", "audio", 2.0)[20] > 1.2 * spread("test2", "audio", 1.0)[20]
    assert spread("test2", "text", 1.0)[20] == pytest.approx(spread("test1", "text", 1.0)[20], rel=0.1)
    assert (spread("test2", "video", 1.0) < 0.95 * spread("test1", "video", 1.0))[10:].all()


def test_the_same_seed_gives_the_same_files(small, tmp_path):
    for seed, same in ((0, True), (1, False)):
        other = tmp_path / str(seed)
        generate(other, replace(SMALL, seed=seed))
        if same:
            assert files(other) == files(small)
            assert not filecmp.cmpfiles(small, other, files(small), shallow=False)[1]
        else:
            assert labels(other) != labels(small)


def test_a_modality_does_not_depend_on_anothers_width():
    small, large = (synthetic_emotions.sample("test1", 30, (6, 8, width), 1.0, 0) for width in (5, 9))
    np.testing.assert_array_equal(small.features["audio"], large.features["audio"])
    np.testing.assert_array_equal(small.emotion, large.emotion)


def test_a_corpus_is_written_once_and_says_with_what(small):
    stamps = {name: (small / name).stat().st_mtime_ns for name in files(small)}
    generate(small, SMALL)
    assert {name: (small / name).stat().st_mtime_ns for name in files(small)} == stamps
    settings = json.loads((small / "generator.json").read_text())["settings"]
    assert GeneratorSettings(**{**settings, "widths": tuple(settings["widths"])}) == SMALL


@pytest.mark.parametrize(
    "other", [{"train": 61}, {"test": 13}, {"widths": (6, 8, 6)}, {"noise": 0.5}, {"missing_text": 0.2}, {"seed": 3}]
)
def test_other_settings_in_the_same_folder_are_named(small, other):
    before = files(small)
    with pytest.raises(
        AffectError, match=f"^[^\n]*corpus was made with {next(iter(other))}=[^\n]*name another folder$"
    ):
        generate(small, replace(SMALL, **other))
    assert files(small) == before


@pytest.mark.parametrize(
    "lost", ["label-6way.npz", "test2-label.csv", "transcription-engchi-polish.csv", f"features/{FEATURES[1]}/*.npy"]
)
def test_a_corpus_that_lost_files_is_completed(small, tmp_path, lost):
    root = tmp_path / "c"
    generate(root, SMALL)
    next(root.glob(lost)).unlink()
    generate(root, SMALL)
    assert files(root) == files(small)
    assert not filecmp.cmpfiles(small, root, files(small), shallow=False)[1]


def test_what_a_killed_run_left_is_redone(small, tmp_path, monkeypatch):
    root = tmp_path / "c"
    save, count = np.save, []

    def killed(*args):
        count.append(1)
        if len(count) == 50:
            raise KeyboardInterrupt
        save(*args)

    monkeypatch.setattr(np, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        generate(root, SMALL)
    assert not root.exists()
    (tmp_path / ".c.partial" / "features").mkdir(parents=True)  # as one leaves it that could not clear up
    generate(root, SMALL)
    assert files(root) == files(small)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".c.lock", "c"]


def test_of_several_at_once_one_writes(tmp_path, monkeypatch):
    write, count = synthetic_features._write, []

    def counted(*args):
        count.append(1)
        write(*args)

    monkeypatch.setattr(synthetic_features, "_write", counted)
    threads = [threading.Thread(target=generate, args=(tmp_path / "c", SMALL)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(count) == 1 and len(labels(tmp_path / "c")["train"]) == 60


def test_what_is_not_a_generated_corpus_is_left_alone(tmp_path):
    real = tmp_path / "real"
    real.mkdir()
    (real / "train-label.csv").write_text("name,discrete,valence\n")
    (tmp_path / "file").write_text("mine")
    for root in (real, tmp_path / "file"):
        with pytest.raises(AffectError, match=f"^[^\n]*{root.name} is there and is not a generated corpus[^\n]*$"):
            generate(root, SMALL)
    assert files(tmp_path) == ["file", "real/train-label.csv"] and (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    "bad",
    [
        *({"train": 5}, {"test": 0}, {"widths": (6, 8)}, {"widths": (6, 3, 8)}, {"noise": 0.0}, {"noise": 11.0}),
        *({"missing_text": -0.1}, {"missing_video": 0.6, "noise": 2.0}, {"seed": -1}),
    ],
)
def test_bad_settings_are_named(bad):
    with pytest.raises(AffectError, match=f"^generated corpus: {next(iter(bad))}=[^\n]* must be [^\n]*$"):
        GeneratorSettings(**bad)


def test_a_disk_that_refuses_is_said_in_a_line(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(AffectError, match="^[^\n]* can't be written: [^\n]*$"):
        generate(tmp_path / "file" / "c", SMALL)

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(AffectError, match="No space left on device"):
        generate(tmp_path / "c", SMALL)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".c.lock", "file"]
