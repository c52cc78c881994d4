"""The generated ac.pkl has the report's shape, and scores that its features tell of."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from affect.data.synthetic_scores import SCORES, WIDTHS, GeneratorSettings, _World, generate, made
from affect.errors import AffectError

SMALL = GeneratorSettings(clips=60, widths=(163, 24, 36, 17), frames=(5, 9))


def test_it_has_the_reports_shape(tmp_path):
    path = generate(tmp_path / "g", SMALL)
    data = pickle.loads(path.read_bytes())
    assert {split: len(rows) for split, rows in data.items()} == {"train": 36, "val": 12, "test": 12}
    for sample in data["train"]:
        assert set(sample) == {"video_id", "source", "identity", "generator", "features", "labels"}
        assert tuple(sample["labels"]) == SCORES and sample["features"]
        assert all(value == -1 or 1 <= value <= 5 for value in sample["labels"].values())
        for name, array in sample["features"].items():
            assert array.dtype == np.float32 and array.shape[1] == dict(zip(WIDTHS, SMALL.widths, strict=True))[name]
            assert 5 <= len(array) <= 9
    values = [value for rows in data.values() for sample in rows for value in sample["labels"].values()]
    assert 0.08 < np.mean(np.array(values) == -1) < 0.22
    for group in ("source", "identity"):
        parts = [{sample[group] for sample in rows} for rows in data.values()]
        assert not parts[0] & parts[1] and not parts[0] & parts[2] and not parts[1] & parts[2]
    assert len({sample["generator"] for sample in data["test"]}) == 8
    assert generate(tmp_path / "g", SMALL).read_bytes() == path.read_bytes()
    assert GeneratorSettings().widths[0] == WIDTHS["visual"] == 2048


@pytest.mark.parametrize("form", ["columns", "flat"])
def test_the_other_forms_hold_the_same(tmp_path, form):
    rows = made(SMALL)
    data = pickle.loads(generate(tmp_path / "g", replace(SMALL, form=form)).read_bytes())
    if form == "flat":
        assert [(each["split"], each["video_id"]) for each in data] == [
            (split, each["video_id"]) for split, own in rows.items() for each in own
        ]
        return
    for split, own in rows.items():
        assert list(data[split]) == ["video_id", "source", "identity", "generator", "labels", "features", "valid_masks"]
        for name in SCORES:
            np.testing.assert_allclose(data[split]["labels"][name], [each["labels"][name] for each in own])
            assert (data[split]["valid_masks"][name] == (data[split]["labels"][name] != -1)).all()


@pytest.mark.parametrize("form", ["rows", "columns"])
def test_a_fifth_feature_leaves_all_else_as_it_is_and_tells_of_the_lip_sync(tmp_path, form):
    wide = replace(SMALL, clips=80, syncnet=12, form=form)
    data = pickle.loads(generate(tmp_path / "g", wide).read_bytes())
    if form == "columns":
        assert [*data["train"]["features"]] == [*WIDTHS, "syncnet"]
        assert len(data["train"]["features"]["syncnet"]) == len(data["train"]["video_id"])
        return
    plain = made(replace(SMALL, clips=80))
    told = []
    for split, rows in data.items():
        for row, other in zip(rows, plain[split], strict=True):
            frames = row["features"].pop("syncnet", None)
            assert row["labels"] == other["labels"] and row["features"].keys() == other["features"].keys()
            assert all(np.array_equal(array, other["features"][name]) for name, array in row["features"].items())
            if frames is not None:
                assert frames.shape[1] == 12 and frames.dtype == np.float32 and 5 <= len(frames) <= 9
                told += [(frames.mean(0), row["labels"]["lip_sync_score"])] * (row["labels"]["lip_sync_score"] != -1)
    assert len(told) < sum(map(len, data.values()))
    means, scores = np.array([mean for mean, _ in told]), [score for _, score in told]
    leading = np.linalg.svd(means - means.mean(0), full_matrices=False)[0][:, :5]
    assert max(abs(spearmanr(each, scores)[0]) for each in leading.T) > 0.35


def test_features_tell_of_the_scores_in_sources_never_heard():
    settings = replace(SMALL, clips=300, frames=(20, 30), absent=0.0)
    data = made(settings)

    def vector(sample):
        return np.concatenate([np.r_[frames.mean(0), frames.std(0)] for frames in sample["features"].values()])

    pooled = {split: np.stack([vector(each) for each in own]) for split, own in data.items()}
    scale = StandardScaler().fit(pooled["train"])
    held = [*data["val"], *data["test"]]
    inputs = scale.transform(np.concatenate([pooled["val"], pooled["test"]]))
    reached = []
    for name in SCORES:
        train = np.array([each["labels"][name] for each in data["train"]])
        truth = np.array([each["labels"][name] for each in held])
        model = Ridge(300.0).fit(scale.transform(pooled["train"])[train != -1], train[train != -1])
        reached.append(spearmanr(model.predict(inputs)[truth != -1], truth[truth != -1])[0])
    assert min(reached) > 0.4 and 0.55 < np.mean(reached) < 0.95, reached


def test_the_mouth_follows_the_voice_the_closer_the_better_the_lip_sync():
    settings = replace(SMALL, clips=200, frames=(80, 80), noise=0.0, missing=0.0, absent=0.0)
    late, scores = [], []
    for sample in made(settings)["train"]:
        voice, mouth = (sample["features"][name] for name in ("audio", "keypoint"))
        # The strongest direction of each that moves within a clip.
        curves = [np.linalg.svd(each - each.mean(0), full_matrices=False)[0][:, :3] for each in (voice, mouth)]
        most = [max(abs(np.corrcoef(a[: 80 - lag], b[lag:])[0, 1]) for a in curves[0].T for b in curves[1].T)
                for lag in range(12)]  # fmt: skip
        late.append(int(np.argmax(most)))
        scores.append(sample["labels"]["lip_sync_score"])
    assert spearmanr(late, scores)[0] < -0.5


def test_how_well_lateness_tells_lip_sync_and_the_picture_alone():
    """At the demo's size, by the generator's own directions: what a model could hear, and why it need not."""
    settings = GeneratorSettings(widths=(512, 192, 351, 17), frames=(15, 60), missing=0.0, absent=0.0)
    worlds = {name: _World(name, width, settings) for name, width in zip(WIDTHS, settings.widths, strict=True)}
    facts = []
    data = made(settings)
    for sample in (each for split in ("train", "test") for each in data[split]):
        told = {name: np.linalg.lstsq(worlds[name].directions.T, (frames - worlds[name].mean).T)[0]
                for name, frames in sample["features"].items()}  # fmt: skip
        voice, mouth = told["audio"][1], (told["visual"][2] + told["keypoint"][0]) / 2
        alike = [
            np.corrcoef(voice[: len(voice) - by], mouth[by:])[0, 1] if len(voice) - by > 4 else 0 for by in range(13)
        ]
        lips = (told["visual"][1].mean() + told["keypoint"][2].mean()) / 2
        facts.append([np.argmax(alike), max(alike), mouth.std(), lips, 1.0])
    x = np.array(facts)
    y = np.array([each["labels"]["lip_sync_score"] for split in ("train", "test") for each in data[split]])
    train = len(data["train"])
    found = {}
    for what, columns in {"lag": [0, 1, 4], "mouth": [2, 4], "lips": [3, 4], "all": [0, 1, 2, 3, 4]}.items():
        line = np.linalg.lstsq(x[:train, columns], y[:train])[0]
        found[what] = spearmanr(x[train:, columns] @ line, y[train:])[0]
    assert found == pytest.approx({"lag": 0.881, "mouth": 0.859, "lips": 0.670, "all": 0.921}, abs=0.002)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"sources": 4}, "sources=4 must be even, at least 10"),
        ({"sources": 11}, "sources=11 must be even, at least 10"),
        ({"clips": 5}, "clips=5 must be at least one a source"),
        ({"frames": (9, 5)}, "frames"),
        ({"widths": (2, 8, 8, 8)}, "widths"),
        ({"missing": 0.95}, "missing=0.95 must be a share below .9"),
        ({"syncnet": 4}, "syncnet=4 must be 0 or at least 8"),
        ({"form": "wide"}, "form=wide must be rows, columns or flat"),
    ],
)
def test_settings_that_make_no_file(changed, words):
    with pytest.raises(AffectError, match=words):
        replace(SMALL, **changed)
