"""Features that were extracted from clips, frame by frame, trained on, and made again of a clip to be predicted."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from affect import tasks
from affect.data import corpora
from affect.data.store import Store
from affect.errors import AffectError
from affect.experiments import extraction
from affect.extraction import AudioExtraction, VideoExtraction
from affect.inference import opening
from affect.inference.extractor import Extractor
from affect.tasks.talking_face.config import Augment, Data, Signature
from affect.tasks.talking_face.end_to_end import EndToEndModel
from affect.tasks.talking_face.media import Media
from affect.tasks.talking_face.predict import Reader
from affect.usage import UserInputs
from tests.data.films import film
from tests.models.test_reading import bring_program
from tests.tasks.talking_face import small

SETTINGS = {"clips": 18, "clip_seconds": (0.4, 0.8)}
NAMES = {"audio": "tiny-audio-FRA", "video": "tiny-video-FRA"}


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("made") / "generated"
    corpora.read(corpora.SCORES, "generated_clips", root, **SETTINGS)
    common = {"encoder": "tiny", "source": str(root / "clips"), "output": root, "level": "frame", "store": True}
    extraction.run(AudioExtraction(layers=2, precision="float16", **common), "command")
    extraction.run(VideoExtraction(rate=5.0, **common), "command")
    return root


def table(root: Path) -> Data:
    return Data(
        corpus="score_table", root=str(root), table="scores.csv", groups=("identity", "source"),
        frames_of="features", scores=("lip_sync_score", "overall_score"),
    )  # fmt: skip


def test_all_frames_are_in_one_file_and_a_corpus_of_scores(root):
    for kind, name in NAMES.items():
        folder = root / "features" / name
        assert sorted(path.name for path in folder.iterdir()) == ["features.arrow", "manifest.json"]
        assert json.loads((folder / "manifest.json").read_text())["files"] == 18
        store = Store(folder / "features.arrow")
        assert store.features[name].rank == 2 and len(store) == 18
        facts = json.loads(store.facts[name])
        assert facts["modality"] == kind and str(root) not in store.facts[name], "it goes into models"
    corpus = tasks.make(replace(small.recipe(root), data=table(root))).corpus
    assert corpus.features == {NAMES["audio"]: 32, NAMES["video"]: 16} and set(corpus.schema["made_by"]) == {
        *NAMES.values()
    }
    row = corpus.utterances[0]
    frames = corpus.store.read(NAMES["audio"], 0)
    assert frames.dtype == np.float16 or frames.dtype == np.float32
    assert row["length"] == len(frames) > 15


def test_a_clip_is_predicted_as_the_run_predicted_its_features(root, tmp_path):
    base = small.recipe(root)
    recipe = replace(base, data=table(root), train=replace(base.train, batch=6, epochs=1), augment=Augment())
    small.train(recipe, tmp_path / "run")
    rows = [json.loads(line) for line in (tmp_path / "run" / "predictions-test.jsonl").read_text().splitlines()]
    silent = tmp_path / "silent.mp4"
    silent.write_bytes(film(range(0, 200, 20)))
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    files = [*(root / "clips" / f"{row['id']}.mp4" for row in rows), silent, tmp_path / "bad.mp4"]
    output = io.StringIO()
    opening.predict(opening.find(tmp_path / "run" / "checkpoints" / "best"), UserInputs(files=tuple(files)), output)
    *found, without, bad = (json.loads(line) for line in output.getvalue().splitlines())
    for line, row in zip(found, rows, strict=True):
        assert line["prediction"] == pytest.approx(row["prediction"], abs=2e-3)
        assert line["features"] == list(NAMES.values())
    assert "error" not in without and without["features"] == [NAMES["video"]]
    assert "bad.mp4" in bad["error"]


def test_a_model_that_hears_clips_takes_extracted_features_beside(root, tmp_path):
    base = small.recipe(root)
    data = replace(table(root), videos="clips", features=(NAMES["video"],))
    model = replace(base.model, media=Media(audio="tiny", features=True))
    small.train(replace(base, data=data, model=model, train=replace(base.train, batch=6, epochs=1)), tmp_path / "run")
    row = json.loads((tmp_path / "run" / "predictions-test.jsonl").read_text().splitlines()[0])
    output = io.StringIO()
    file = root / "clips" / f"{row['id']}.mp4"
    opening.predict(opening.find(tmp_path / "run" / "checkpoints" / "best"), UserInputs(files=(file,)), output)
    line = json.loads(output.getvalue())
    assert line["prediction"] == pytest.approx(row["prediction"], abs=2e-3)
    assert line["features"] == [NAMES["video"], "audio"]
    with pytest.raises(AffectError, match="the model makes audio itself"):
        EndToEndModel.build(model, (("audio", 3),), (("MOS", 1.0, 5.0),))


def test_sound_is_as_late_in_features_as_in_the_clip(root):
    base = small.recipe(root)
    model = replace(base.model, media=Media(audio="tiny", features=True, seconds=0.3))
    task = tasks.make(replace(base, data=replace(table(root), videos="clips"), model=model)).for_fold(0, 1)
    assert task.describe()["sound_rate"] == 50
    row, name = task.parts["test"][0], NAMES["audio"]
    plain = task.collate([row], None).inputs
    moved = task.collate([{**row, "condition": "delay=0.08"}], None)
    count = int(plain[name + "_frames"])
    by = round(0.08 * count / row["seconds"])
    assert by in (3, 4) and torch.equal(moved.inputs[name][0, by:count], plain[name][0, : count - by])
    assert torch.equal(moved.inputs["audio_samples"][0, 1280:], plain["audio_samples"][0, :-1280])
    assert moved.rows[0]["left"] == pytest.approx(1 - 0.08 / 0.3)
    alone = tasks.make(replace(base, data=table(root))).for_fold(0, 1)
    (late,) = alone.collate([{**row, "condition": "offset=8"}], None).rows
    assert late["left"] == pytest.approx(1 - 8 / count)


def test_features_of_another_source_stay_when_all_are_put_into_one_file(tmp_path):
    for source, name in (("first", "a"), ("second", "b")):
        (tmp_path / source).mkdir()
        (tmp_path / source / f"{name}.mp4").write_bytes(film(range(0, 200, 20)))
    settings = VideoExtraction(encoder="tiny", source=str(tmp_path / "first"), output=tmp_path, level="frame")
    extraction.run(settings, "command")
    folder = extraction.run(replace(settings, source=str(tmp_path / "second"), store=True), "command")
    assert sorted(Store(folder / "features.arrow").ids) == ["a", "b"]
    assert not [*folder.glob("*.npy")]


def test_a_run_that_goes_on_takes_what_the_file_has(root, tmp_path):
    (tmp_path / "clips").mkdir()
    for name in ("a", "b"):
        (tmp_path / "clips" / f"{name}.mp4").write_bytes(film(range(0, 200, 20)))
    common = {"encoder": "tiny", "source": str(tmp_path / "clips"), "output": tmp_path, "level": "frame", "store": True}
    settings = VideoExtraction(**common)
    folder = extraction.run(settings, "command")
    before = Store(folder / "features.arrow").read(settings.feature, 0).copy()
    (tmp_path / "clips" / "c.mp4").write_bytes(film(range(200, 0, -20)))
    assert "3 media, 2 of them there already" in extraction.dry_run(settings)
    extraction.run(settings, "command")
    store = Store(folder / "features.arrow")
    assert store.ids == ["a", "b", "c"] and np.array_equal(store.read(settings.feature, 0), before)
    (folder / "manifest.json").unlink()
    with pytest.raises(AffectError, match="holds features and no manifest.json"):
        extraction.run(settings, "command")
    extraction.run(replace(settings, overwrite=True), "command")
    (tmp_path / "scores.csv").write_text("name,MOS\nz,1\ny,2\n")
    with pytest.raises(AffectError, match="has none of the 2 clips"):
        corpora.read(corpora.SCORES, "score_table", tmp_path, frames_of="features")
    (tmp_path / "scores.csv").write_text("name,MOS\na.mp4,1\nb,2\nx,3\n")
    found = corpora.read(corpora.SCORES, "score_table", tmp_path, frames_of="features").store
    assert [found.read(settings.feature, row) is None for row in range(3)] == [False, False, True]


def test_a_models_own_config_lets_no_program_run(tmp_path, monkeypatch):
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    (tmp_path / "config.json").write_text("{}")
    bring_program(tmp_path / "config.json", tmp_path / "ran")
    settings = {"encoder": str(tmp_path), "trust_remote_code": True}
    for modality in ("text", "audio", "video"):
        facts = {"modality": modality, "settings": settings, "mixed_precision": "no", "width": 3}
        data = Signature(features=(("f", 3),), scores=(("MOS", 1.0, 5.0),), made_by=(("f", json.dumps(facts)),))
        with pytest.raises(AffectError, match=r"^[^\n]*f: the features were made with a program of [^\n]*$"):
            Extractor.from_facts(facts, Path("f"))
        if modality == "text":
            assert "videos" not in Reader(data, Media()).takes, "they have no text"
            continue
        with pytest.raises(AffectError, match=r"^[^\n]*f: the features were made with a program of [^\n]*$"):
            Reader(data, Media())
    assert not (tmp_path / "ran").exists()
