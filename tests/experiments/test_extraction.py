"""Extraction: what is written, skipped, refused and listed."""

from __future__ import annotations

import csv
import json
import logging
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import transformers

from affect.data import feature_corpus
from affect.data.audio import load
from affect.data.media import Medium
from affect.data.video import frames
from affect.errors import AffectError
from affect.experiments import extraction
from affect.extraction import AudioExtraction, IncompleteError, TextExtraction, VideoExtraction
from affect.inference import extractor
from affect.inference.extractor import Extractor


@pytest.fixture(autouse=True)
def heard(caplog):
    caplog.set_level(logging.INFO, logger="affect")
    return caplog


@pytest.fixture
def table(tmp_path):
    """A CSV of seven utterances: lengths from .1 to 1.3 s, one text empty, one without audio."""
    rng = np.random.default_rng(0)
    rows = [("name", "audio", "text")]
    for number in range(7):
        name = f"u{number}"
        soundfile.write(tmp_path / f"{name}.wav", rng.normal(0, 0.1, 1600 + 3200 * number), 16000)
        rows.append((name, "" if number == 6 else f"{name}.wav", "a few words more " * number))
    path = tmp_path / "media.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return path


def audio(table: Path, **more) -> AudioExtraction:
    asked = {"encoder": "tiny", "layers": 2, "source": str(table), "output": table.parent / "out", **more}
    return AudioExtraction(**asked)


def text(table: Path, **more) -> TextExtraction:
    asked = {"encoder": "tiny", "layers": 2, "source": str(table), "output": table.parent / "out", **more}
    return TextExtraction(**asked)


def manifest(folder: Path) -> dict:
    return json.loads((folder / "manifest.json").read_text())


def written(folder: Path) -> dict[str, np.ndarray]:
    return {path.stem: np.load(path, allow_pickle=False) for path in sorted(folder.glob("*.npy"))}


def times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.npy")}


def test_each_file_is_what_the_encoder_makes_of_the_recording_alone(table, heard):
    folder = extraction.run(audio(table), "command")
    assert folder == table.parent / "out" / "features" / "tiny-audio-UTT"
    found = written(folder)
    assert list(found) == [f"u{k}" for k in range(7)]
    made = Extractor(audio(table))
    for name, values in found.items():
        assert values.shape == (32,)
        assert values.dtype == np.float32
        if name == "u6":
            assert not values.any()
        else:
            (alone,) = made.encoder([load(table.parent / f"{name}.wav")])
            np.testing.assert_allclose(values, alone.mean(0), atol=1e-5)
            recording = Medium(name=name, audio=table.parent / f"{name}.wav")
            np.testing.assert_allclose(made.extract(recording), alone.mean(0), atol=1e-6)
    assert np.abs(found["u0"] - found["u1"]).max() > 1e-3
    facts = manifest(folder)
    assert (facts["finished"], facts["files"], facts["failed"], facts["all_zero"]) == (True, 7, 0, {"no audio": 1})
    assert facts["settings"] == {
        "encoder": "tiny", "revision": None, "layers": 2, "level": "utterance", "precision": "float32",
    }  # fmt: skip
    assert (facts["preprocessing"]["sampling_rate"], facts["width"], facts["world"]) == (16000, 32, 1)
    assert facts["packages"]["torch"] == torch.__version__
    assert "6 written, 0 there already, 1 all zero (no audio), 0 failed" in heard.text
    assert {path.name for path in folder.iterdir()} == {"manifest.json", *(f"u{k}.npy" for k in range(7))}
    assert os.stat(folder / "u0.npy").st_mode & 0o777 == os.stat(table).st_mode & 0o777


@pytest.mark.parametrize("budget", [1.0, 2.0, 1000.0])
def test_the_budget_changes_nothing(table, budget, monkeypatch, heard):
    wanted = written(extraction.run(audio(table, name="a"), ""))
    # Several pools, rounds of several media.
    monkeypatch.setattr(extractor, "_POOL", 1)
    monkeypatch.setattr(extraction, "_ROUND", 4)
    for name, values in written(extraction.run(audio(table, name="b", budget=budget), "")).items():
        np.testing.assert_allclose(values, wanted[name], atol=1e-6)
    assert heard.text.count(": 6 written, 0 there already, 1 all zero (no audio), 0 failed") == 2, "each once"


def test_frames_and_halves(table):
    vectors = written(extraction.run(audio(table), ""))
    sequences = written(extraction.run(audio(table, level="frame", precision="float16"), ""))
    assert (table.parent / "out" / "features" / "tiny-audio-FRA").is_dir()
    for name, values in sequences.items():
        assert values.dtype == np.float16
        length = 1 if name == "u6" else (1600 + 3200 * int(name[1]) - 80) // 320
        assert values.shape == (length, 32)
        np.testing.assert_allclose(values.astype(np.float32).mean(0), vectors[name], atol=2e-3)


@pytest.mark.parametrize("level", ["utterance", "frame"])
def test_the_corpus_reads_what_was_written(table, tmp_path, level):
    folder = extraction.run(audio(table, level=level, precision="float16"), "")
    names = [f"u{k}" for k in range(7)]
    read = feature_corpus.read_table(folder, names, tmp_path / "cache")
    wanted = written(folder)
    for name, vector in zip(names, read.values, strict=True):
        vectors = wanted[name].reshape(-1, 32).astype(np.float64)
        np.testing.assert_allclose(vector, vectors.mean(0), atol=2e-3)
    assert read.states.tolist() == [feature_corpus.PRESENT] * 6 + [feature_corpus.ZERO]


def test_a_file_is_whole_or_absent(table, monkeypatch):
    """A write that is cut off leaves no file, and those written before as they are."""
    real, count = np.save, []

    def cut(file, values, **options):
        count.append(file)
        if len(count) == 3:
            file.write(b"half")
            raise OSError(28, "No space left on device")
        real(file, values, **options)

    monkeypatch.setattr(np, "save", cut)
    with pytest.raises(AffectError, match="No space left on device"):
        extraction.run(audio(table), "")
    folder = table.parent / "out" / "features" / "tiny-audio-UTT"
    assert len(written(folder)) == 2, "all that is there can be read"
    monkeypatch.setattr(np, "save", real)
    before = times(folder)
    extraction.run(audio(table), "")
    assert len(written(folder)) == 7
    assert {name: when for name, when in times(folder).items() if name in before} == before


def test_features_of_another_modality_are_never_overwritten(table):
    extraction.run(audio(table, name="mine"), "")
    with pytest.raises(AffectError, match="holds features of audio: give another --name"):
        extraction.run(text(table, name="mine", overwrite=True), "")
    assert len(written(table.parent / "out" / "features" / "mine")) == 7


def test_texts(table):
    found = written(extraction.run(text(table), ""))
    made = Extractor(text(table))
    for number, values in enumerate(found.values()):
        assert values.shape == (32,)
        assert values.any() == (number > 0)
        words = ("a few words more " * number).strip()
        np.testing.assert_allclose(values, made.extract(Medium(name="t", text=words)), atol=1e-5)
    assert not made.extract(Medium(name="t", text=" ")).any()
    assert manifest(table.parent / "out/features/tiny-text-UTT")["all_zero"] == {"empty text": 1}


def test_a_stopped_run_goes_on(table, heard):
    folder = extraction.run(audio(table), "")
    wanted, before = written(folder), times(folder)
    (folder / "u1.npy").unlink()
    (folder / "u2.npy").write_bytes((folder / "u2.npy").read_bytes()[:-5])
    np.save(folder / "u3.npy", np.zeros(31, np.float32))
    np.save(folder / "u4.npy", np.zeros(32, np.float64))
    (folder / "u5.npy").write_bytes(b"")
    np.save(folder / "other.npy", np.ones(32, np.float32))
    (folder / "manifest.json").write_text(json.dumps({**manifest(folder), "finished": False}))
    heard.clear()
    extraction.run(audio(table), "")
    found = written(folder)
    for name, values in wanted.items():
        np.testing.assert_allclose(found[name], values, atol=1e-6)
    after = times(folder)
    same = {name for name in before if after[name] == before[name]}
    assert same == {"u0.npy", "u6.npy"}
    assert heard.text.count("is made again") == 4
    assert "5 written, 1 there already, 1 all zero (there already, all zero), 0 failed" in heard.text
    facts = manifest(folder)
    assert (facts["finished"], facts["files"]) == (True, 8)


def test_other_settings_stop_at_the_field(table):
    folder = extraction.run(audio(table), "")
    before = times(folder)
    for change, field in (
        ({"layers": 1}, "settings.layers differs (2 and 1)"),
        ({"precision": "float16"}, 'settings.precision differs ("float32" and "float16")'),
        ({"encoder": "tiny-group", "name": "tiny-audio-UTT"}, "weights_sha256 differs"),
        ({"level": "frame", "name": "tiny-audio-UTT"}, "settings.level differs"),
    ):
        with pytest.raises(AffectError) as error:
            extraction.run(replace(audio(table), **change), "")
        assert field in str(error.value)
        assert "--overwrite" in str(error.value)
    with pytest.raises(AffectError, match="holds features of audio"):
        extraction.run(text(table, name="tiny-audio-UTT"), "")
    assert times(folder) == before
    extraction.run(audio(table, layers=1, overwrite=True), "")
    assert manifest(folder)["settings"]["layers"] == 1
    assert not set(times(folder).values()) & set(before.values())


def test_a_folder_of_others_is_left_alone(table):
    folder = audio(table).folder
    folder.mkdir(parents=True)
    np.save(folder / "u0.npy", np.ones(32, np.float32))
    (folder / "note.txt").write_text("mine")
    with pytest.raises(AffectError, match=r"holds features and no manifest\.json"):
        extraction.run(audio(table), "")
    assert np.load(folder / "u0.npy").all()
    extraction.run(audio(table, overwrite=True), "")
    assert (folder / "note.txt").read_text() == "mine"
    assert len(written(folder)) == 7
    (folder / "manifest.json").write_text("{")
    with pytest.raises(AffectError, match="cannot be read as a manifest"):
        extraction.run(audio(table), "")


def test_bad_media_are_listed_and_the_rest_goes_on(table, heard):
    good = (table.parent / "u2.wav").read_bytes()
    (table.parent / "u2.wav").write_bytes(good[:100])
    (table.parent / "u4.wav").unlink()
    with pytest.raises(IncompleteError, match=r"2 of 7 media have no features \(u2: .*u2\.wav"):
        extraction.run(audio(table), "")
    folder = audio(table).folder
    assert list(written(folder)) == ["u0", "u1", "u3", "u5", "u6"]
    listed = [json.loads(line) for line in (folder / "failures.jsonl").read_text().splitlines()]
    assert [row["name"] for row in listed] == ["u2", "u4"]
    assert "no such audio file" in listed[1]["reason"]
    assert manifest(folder)["failed"] == 2
    assert "2 failed" in heard.text
    (table.parent / "u2.wav").write_bytes(good)
    (table.parent / "u4.wav").write_bytes(good)
    extraction.run(audio(table), "")
    assert len(written(folder)) == 7
    assert not (folder / "failures.jsonl").exists()


def test_parts_of_recordings_are_those_of_files_of_them_alone(tmp_path):
    wave = np.random.default_rng(1).normal(0, 0.1, 48_000)
    soundfile.write(tmp_path / "long.wav", wave, 16_000, subtype="FLOAT")
    spans = {"a": (0.5, 1.25), "b": (1.0, 2.4)}
    for name, (start, end) in spans.items():
        soundfile.write(
            tmp_path / f"{name}.wav", wave[round(start * 16_000) : round(end * 16_000)], 16_000, subtype="FLOAT"
        )
    (tmp_path / "alone.csv").write_text("audio\na.wav\nb.wav\n")
    lines = [f"{name},long,{start},{end}" for name, (start, end) in spans.items()]
    (tmp_path / "media.csv").write_text("\n".join(["name,audio,start,end", *lines, "c,long,2,9"]) + "\n")
    wanted = extraction.run(audio(tmp_path / "alone.csv", name="alone"), "")
    with pytest.raises(IncompleteError, match=r"1 of 3 media have no features \(c: segment beyond the audio: 2 to 9 s"):
        extraction.run(audio(tmp_path / "media.csv", name="parts"), "")
    folder = audio(tmp_path / "media.csv", name="parts").folder
    held = {name: np.load(folder / f"{name}.npy") for name in spans}
    for name in spans:
        np.testing.assert_allclose(held[name], np.load(wanted / f"{name}.npy"), rtol=1e-6, atol=1e-6)
    assert not np.allclose(held["a"], held["b"], atol=1e-3)


def test_numbers_that_no_file_holds_are_failures(table, tmp_path):
    config = transformers.HubertConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, conv_dim=(16,) * 7,
        feat_extract_norm="layer", do_stable_layer_norm=True, num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
    )  # fmt: skip
    model = transformers.HubertModel(config)
    with torch.no_grad():
        model.encoder.layer_norm.bias[3] = 1e5
    model.save_pretrained(tmp_path / "large")
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(tmp_path / "large")
    settings = audio(table, encoder=str(tmp_path / "large"), precision="float16")
    with pytest.raises(IncompleteError, match=r"6 of 7 .*float16 ends at 65504"):
        extraction.run(settings, "")
    assert list(written(settings.folder)) == ["u6"]
    assert written(extraction.run(replace(settings, precision="float32", name="b"), ""))["u0"][3] > 65504


def test_a_manifest_gives_the_extractor_back(table, tmp_path):
    model = transformers.AutoModel.from_config(transformers.AutoConfig.for_model("wavlm", **_wavlm()))
    model.save_pretrained(tmp_path / "here")
    transformers.Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(tmp_path / "here")
    folder = extraction.run(audio(table, encoder=str(tmp_path / "here")), "")
    recording = Medium(name="u3", audio=table.parent / "u3.wav")
    wanted = written(folder)["u3"]
    again = Extractor.from_manifest(folder / "manifest.json")
    np.testing.assert_allclose(again.extract(recording), wanted, atol=1e-6)
    (tmp_path / "here").rename(tmp_path / "there")
    with pytest.raises(AffectError, match="no such folder"):
        Extractor.from_manifest(folder)
    (tmp_path / "there").rename(tmp_path / "here")
    transformers.Wav2Vec2FeatureExtractor(do_normalize=False).save_pretrained(tmp_path / "here")
    with pytest.raises(AffectError, match=r"preprocessing\.do_normalize differs \(true and false\)"):
        Extractor.from_manifest(folder)
    with torch.no_grad():
        model.encoder.layer_norm.bias[3] += 1
    model.save_pretrained(tmp_path / "here")
    with pytest.raises(AffectError, match="weights_sha256 differs"):
        Extractor.from_manifest(folder)
    with pytest.raises(AffectError, match="no such manifest"):
        Extractor.from_manifest(table.parent)
    facts = manifest(folder)
    del facts["settings"]["layers"]
    facts["settings"]["depth"] = 3
    (folder / "manifest.json").write_text(json.dumps(facts))
    with pytest.raises(AffectError, match="another version of affect"):
        Extractor.from_manifest(folder)


def _wavlm() -> dict:
    from affect.models import tiny

    return {**tiny.TINY, **tiny.LARGE_STYLE}


def test_a_source_without_the_modality_is_a_mistake(table):
    settings = VideoExtraction(encoder="tiny", source=str(table), output=table.parent / "out")
    with pytest.raises(AffectError, match="none of 7 media has video"):
        extraction.run(settings, "")
    assert not settings.folder.exists()
    swapped = audio(table, columns=("audio=text",))
    with pytest.raises(AffectError):
        extraction.run(swapped, "")


def test_a_dry_run_writes_nothing(table):
    said = extraction.dry_run(audio(table))
    assert "7 media, 0 of them there already" in said
    assert '"layers": 2' in said
    assert not (table.parent / "out").exists()


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("name", "a/b", "name must be a plain name"),
        ("name", ".hidden", "name must be a plain name"),
        ("layers", 0, "layers must be positive"),
        ("budget", 0.5, "budget must be at least 1"),
        ("source", "", "source must be"),
        ("encoder", "", "encoder must be"),
        ("columns", ("sound=x",), "columns must be OURS=THEIRS"),
        ("columns", ("audio",), "columns must be OURS=THEIRS"),
    ],
)
def test_wrong_settings_name_the_field(table, field, value, said):
    with pytest.raises(AffectError, match=said):
        audio(table, **{field: value})


def test_rates_that_mean_nothing():
    for wrong in (0.0, -1.0, float("inf")):
        with pytest.raises(AffectError, match="rate must be (positive|finite)"):
            VideoExtraction(encoder="tiny", source="a", rate=wrong)
    with pytest.raises(AffectError, match="margin must not be negative"):
        VideoExtraction(encoder="tiny", source="a", margin=-0.1)


def test_real_videos_with_and_without_faces(real_data, tmp_path):
    folder = real_data / "pyfeat"
    film = folder / "single_face.mp4"
    blank = tmp_path / "none.csv"
    header = "frame,FaceRectX,FaceRectY,FaceRectWidth,FaceRectHeight,FaceScore"
    blank.write_text(header + "\n" + "\n".join(f"{k},,,,," for k in range(100)) + "\n")
    faces = tmp_path / "some.csv"
    faces.write_text(header + "\n" + "\n".join(f"{k},200,140,180,250,.99" for k in range(100)) + "\n")
    table = tmp_path / "media.csv"
    table.write_text(f"name,video,boxes\nface,{film},{faces}\nnone,{film},{blank}\nuntold,{film},\n")
    settings = VideoExtraction(encoder="tiny", source=str(table), output=tmp_path, rate=2.0, budget=3)
    whole = written(extraction.run(settings, ""))
    made = Extractor(settings)
    alone = made.encoder([made.encoder.prepare(frame.image) for frame in frames(film, 2.0)])
    np.testing.assert_allclose(whole["face"], alone.mean(0), atol=1e-6)
    np.testing.assert_array_equal(whole["none"], whole["untold"])
    with pytest.raises(IncompleteError, match=r"1 of 3 .*untold: has no table of face boxes"):
        extraction.run(replace(settings, boxes=True, name="faces"), "")
    cropped = written(tmp_path / "features" / "faces")
    assert list(cropped) == ["face", "none"]
    assert not cropped["none"].any()
    assert np.abs(cropped["face"] - whole["face"]).max() > 1e-3
    assert manifest(tmp_path / "features" / "faces")["all_zero"] == {"no face": 1}
    per_frame = written(extraction.run(replace(settings, level="frame"), ""))
    np.testing.assert_allclose(per_frame["face"].mean(0), whole["face"], atol=1e-6)
    assert len(per_frame["face"]) == len(list(frames(film, 2.0)))


def test_a_folder_of_real_videos_and_their_sound(real_data, tmp_path):
    settings = VideoExtraction(encoder="tiny", source=str(real_data / "pyfeat"), output=tmp_path, rate=1.0)
    assert {"face_noface", "no_face", "single_face"} == set(written(extraction.run(settings, "")))


def test_real_recordings_alone_and_together(real_data, tmp_path):
    paths = sorted((real_data / "librispeech" / "train-clean-100").glob("*.flac"))[:4]
    for path in paths:
        (tmp_path / "media" / path.name).parent.mkdir(exist_ok=True)
        (tmp_path / "media" / path.name).symlink_to(path)
    settings = AudioExtraction(encoder="tiny", layers=2, source=str(tmp_path / "media"), output=tmp_path)
    found = written(extraction.run(settings, ""))
    assert list(found) == sorted(path.stem for path in paths)
    made = Extractor(settings)
    for path in paths:
        np.testing.assert_allclose(found[path.stem], made.encoder([load(path)])[0].mean(0), atol=1e-5)
