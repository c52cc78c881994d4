import logging
import os
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile
from datasets import Dataset
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from affect.data import egemaps, prosody, store
from affect.errors import AffectError
from tests.data.tones import RATE, harmonics

REAL = Path(os.environ.get("AFFECT_REAL_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")
EMODB = REAL / "emodb" / "wav"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("AFFECT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "prosody"


def folder_of(path, count=5, shortest=4000):
    rng = np.random.default_rng(0)
    rows = []
    for i in range(count):
        x = harmonics(np.full(shortest + 800 * i, rng.uniform(90, 300)), [0.3, 0.2, 0.1])
        soundfile.write(path / f"{i}.wav", x, RATE)
        rows.append({"id": str(i), "path": str(path / f"{i}.wav")})
    return Dataset.from_list(rows)


def refuse(_):
    raise AssertionError("computed again")


def test_add_gives_each_row_its_functionals(tmp_path):
    dataset = folder_of(tmp_path)
    added = prosody.add(dataset)
    assert added.column_names == ["id", "path", "prosody"] and added.features["prosody"].feature.dtype == "float32"
    for row in added:
        samples, _ = soundfile.read(row["path"], dtype="float32")
        np.testing.assert_array_equal(np.float32(row["prosody"]), prosody.functionals(samples))


def test_add_computes_only_what_is_new(tmp_path, monkeypatch):
    dataset = folder_of(tmp_path)
    first = prosody.add(dataset)
    monkeypatch.setattr(prosody, "functionals", refuse)
    again = prosody.add(prosody.add(dataset.select([3, 1, 3])))
    assert again["prosody"][:] == [first["prosody"][i] for i in (3, 1, 3)]
    monkeypatch.undo()
    monkeypatch.setenv("AFFECT_CACHE", str(tmp_path / "cache"))
    soundfile.write(tmp_path / "1.wav", np.random.default_rng(0).uniform(-0.5, 0.5, 5000), RATE)
    changed = prosody.add(dataset)
    same = [a == b for a, b in zip(changed["prosody"], first["prosody"], strict=True)]
    assert same == [True, False, True, True, True]


def test_a_row_is_known_by_its_content(tmp_path, monkeypatch):
    dataset = folder_of(tmp_path, 2)
    data = [Path(path).read_bytes() for path in dataset["path"]]
    held = Dataset.from_list([{"id": "a", "audio": {"bytes": d, "path": None}} for d in data])
    first = prosody.add(held)
    monkeypatch.setattr(prosody, "functionals", refuse)
    renamed = Dataset.from_list([{"id": "b", "audio": {"bytes": d, "path": None}} for d in reversed(data)])
    assert list(prosody.add(renamed)["prosody"]) == list(reversed(list(first["prosody"])))


@pytest.mark.parametrize("damage", [b"", b"no array", None])
def test_a_damaged_cache_is_made_again_and_said(tmp_path, cache, caplog, damage):
    dataset = folder_of(tmp_path, 3)
    first = prosody.add(dataset)
    (file,) = cache.glob("*/*.arrow")
    if damage is None:
        store.write(file, {"values": store.Feature("float32", 1)}, [("a", {"values": np.zeros(3, np.float32)})])
    else:
        file.write_bytes(damage)
    with caplog.at_level(logging.WARNING, logger="affect"):
        again = prosody.add(dataset)
    assert list(again["prosody"]) == list(first["prosody"])
    assert any(str(file) in record.getMessage() for record in caplog.records)


def test_of_several_at_once_one_computes(tmp_path, monkeypatch):
    dataset = folder_of(tmp_path)
    count, compute = [], prosody.functionals

    def counted(samples, rate):
        count.append(1)
        return compute(samples, rate)

    monkeypatch.setattr(prosody, "functionals", counted)
    results = {}
    threads = [threading.Thread(target=lambda i=i: results.update({i: prosody.add(dataset)})) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(count) == len(dataset)
    assert all(list(results[i]["prosody"]) == list(results[0]["prosody"]) for i in (1, 2))


def test_errors_of_add_name_the_thing(tmp_path, monkeypatch):
    dataset = folder_of(tmp_path, 1)
    with pytest.raises(AffectError, match="'egemap'.*did you mean 'egemaps'"):
        prosody.add(dataset, kind="egemap")
    with pytest.raises(AffectError, match="gone.wav"):
        prosody.add(Dataset.from_list([{"id": "a", "path": str(tmp_path / "gone.wav")}]))
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("AFFECT_CACHE", str(tmp_path / "file"))
    with pytest.raises(AffectError, match="AFFECT_CACHE"):
        prosody.add(dataset)


def test_without_opensmile_the_error_says_how_and_what_licence(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "opensmile", None)
    egemaps._extractor.cache_clear()
    with pytest.raises(AffectError, match=r"research only: pip install 'affect\[egemaps\]'$"):
        prosody.add(folder_of(tmp_path, 1), kind="egemaps")


def test_egemaps_are_opensmiles(tmp_path):
    opensmile = pytest.importorskip("opensmile")
    egemaps._extractor.cache_clear()
    smile = opensmile.Smile(opensmile.FeatureSet.eGeMAPSv02, opensmile.FeatureLevel.Functionals)
    for row in prosody.add(folder_of(tmp_path, shortest=RATE), kind="egemaps"):
        samples, _ = soundfile.read(row["path"], dtype="float32")
        expected = smile.process_signal(samples, RATE).to_numpy()[0]
        np.testing.assert_array_equal(np.float32(row["prosody"]), expected)
    assert prosody.names("egemaps") == tuple(smile.feature_names) and len(prosody.names("egemaps")) == 88
    for short in (np.zeros(0), np.zeros(400), np.zeros(RATE)):
        assert np.isfinite(egemaps.functionals(short)).all()


def test_full_scale_does_not_change_its_sign_in_opensmile():
    pytest.importorskip("opensmile")
    rng = np.random.default_rng(5)
    glide = harmonics(np.linspace(120, 240, RATE), 0.3 / np.arange(1, 9)) + 0.01 * rng.standard_normal(RATE)
    loud = (0.98 * glide / np.abs(glide).max()).astype(np.float32)
    over = loud.copy()
    over[[4000, 9000, 12000]] = 1.0, 1.5, -1.2
    clipped = np.clip(over, -1, 32767 / 32768)
    np.testing.assert_array_equal(egemaps.functionals(over), egemaps.functionals(clipped))


# real emotion


def ccc(x, y):
    return 2 * np.mean((x - x.mean()) * (y - y.mean())) / (x.var() + y.var() + (x.mean() - y.mean()) ** 2)


def held_out(features, target, speakers, alpha):
    """Predictions for each speaker of a ridge fitted to the others."""
    found = np.zeros(len(target))
    for speaker in np.unique(speakers):
        own = speakers == speaker
        model = make_pipeline(StandardScaler(), Ridge(alpha)).fit(features[~own], target[~own])
        found[own] = model.predict(features[own])
    return found


@pytest.mark.skipif(not EMODB.is_dir(), reason="real EmoDB recordings are absent (AFFECT_REAL_DATA)")
def test_ridge_on_emodb_reaches_the_published_score():
    labels = {
        "W": (-0.51, 0.59), "L": (-0.65, -0.62), "E": (-0.60, 0.35), "A": (-0.64, 0.60),
        "F": (0.81, 0.51), "T": (-0.63, -0.27), "N": (0.0, 0.0),
    }  # fmt: skip
    files = sorted(EMODB.glob("*.wav"))
    assert len(files) == 304
    features = np.array([prosody.functionals(*soundfile.read(file, dtype="float32")) for file in files])
    targets = np.array([labels[file.name[5]] for file in files])
    speakers = np.array([file.name[:2] for file in files])
    alphas = (10.0, 30.0, 100.0, 300.0)
    score = []
    for target in targets.T:
        found = np.zeros(len(target))
        for speaker in np.unique(speakers):
            own = speakers == speaker
            inner = {a: ccc(held_out(features[~own], target[~own], speakers[~own], a), target[~own]) for a in alphas}
            model = make_pipeline(StandardScaler(), Ridge(max(inner, key=inner.get)))
            found[own] = model.fit(features[~own], target[~own]).predict(features[own])
        score.append(ccc(found, target))
    assert score[0] > 0.48 and score[1] > 0.78
