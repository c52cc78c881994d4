"""Raw media for a fusion model: what it says of them is what it says of the features extracted from them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import transformers

import affect
from affect.data import synthetic_media
from affect.data.feature_corpus import Stream
from affect.errors import AffectError
from affect.experiments import extraction
from affect.extraction import AudioExtraction, TextExtraction, VideoExtraction
from affect.inference.media import Reader
from affect.inference.streams import Source, Utterance, read_vector
from tests.data.films import film
from tests.inference.asking import ask
from tests.models.test_reading import bring_program
from tests.models.test_text import KINDS, make_tokenizer
from tests.tasks.multimodal_emotion import fusing

NAMES = [f"utterance_{k}" for k in range(synthetic_media.COUNT)]


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    """Recordings, texts and videos of six utterances: the first has no text, the last video no sound."""
    folder = tmp_path_factory.mktemp("media")
    synthetic_media.write(folder)
    for k, name in enumerate(NAMES):
        levels = [40 * k + 10 * frame for frame in range(4)]
        sound = (3000 * np.sin(np.arange(16_000) * 0.05 * (k + 1))).astype(np.int16)[None]
        (folder / f"{name}.mkv").write_bytes(film(levels, form="matroska", sound=None if k == 5 else sound))
    lines = (folder / "media.csv").read_text().splitlines()
    texts = {line.split(",")[0]: line.split(",")[2] for line in lines[1:]}
    for name, words in texts.items():
        (folder / f"{name}.txt").write_text(words + "\n")
    rows = ["name,audio,text,video", *(f"{line},{line.split(',')[0]}.mkv" for line in lines[1:])]
    (folder / "all.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture(scope="module")
def root(media, tmp_path_factory):
    """A corpus with the features of those media: audio as frames in halves, text as vectors, video at 10 Hz."""
    where = {"encoder": "tiny", "source": str(media / "all.csv"), "output": tmp_path_factory.mktemp("corpus")}
    extraction.run(AudioExtraction(**where, name="ears", layers=2, level="frame", precision="float16"), "")
    extraction.run(AudioExtraction(**where, name="ears2", layers=1), "")
    extraction.run(TextExtraction(**where, name="reader", layers=2), "")
    extraction.run(VideoExtraction(**where, name="eyes", rate=10.0), "")
    return where["output"]


def model(folder: Path, root: Path, *, audio: tuple[str, ...] = ("ears",), recipe: bool = True) -> Path:
    """Write a run's folder of a model of these features and return it."""
    chosen = [*(("audio", name) for name in audio), ("text", "reader"), ("video", "eyes")]
    widths = {name: json.loads((root / "features" / name / "manifest.json").read_text())["width"] for _, name in chosen}
    streams = [(modality, name, widths[name]) for modality, name in chosen]
    best = folder / "checkpoints" / "best"
    fusing.save(best, name="topn", streams=streams, classes=("neutral", "happy", "sad"), softmax="masked")
    if recipe:
        (folder / "recipe.json").write_text(json.dumps({"data": {"root": str(root)}}))
    return folder


def assert_same(lines: list[dict], others: list[dict]) -> None:
    assert [line["present"] for line in lines] == [line["present"] for line in others]
    for line, other in zip(lines, others, strict=True):
        assert line["probability"]["emotion"] == pytest.approx(other["probability"]["emotion"], abs=1e-5)
        assert line["prediction"]["valence"] == pytest.approx(other["prediction"]["valence"], abs=1e-5)


def test_media_give_what_their_features_give(media, root, tmp_path):
    run = model(tmp_path / "run", root)
    features = {"audio": "ears", "text": "reader", "video": "eyes"}
    bad, wanted = ask(run, **{m: [root / "features" / name] for m, name in features.items()})
    assert bad == 0
    assert [line["present"] for line in wanted] == ["AV", *["ATV"] * 5]
    assert len({line["prediction"]["valence"] for line in wanted}) == 6
    raw = {
        m: [media / f"{name}.{end}" for name in NAMES] for m, end in zip(features, ("wav", "txt", "mkv"), strict=True)
    }
    bad, lines = ask(run, **raw)
    assert bad == 0
    assert_same(lines, wanted)
    # Words instead of files, and features beside media.
    words = [path.read_text().strip() for path in raw["text"]]
    mixed = [root / "features" / "ears" / f"{name}.npy" for name in NAMES]
    bad, lines = ask(run, audio=mixed, text=words, video=raw["video"])
    assert bad == 0
    assert_same(lines, wanted)
    assert [line["id"] for line in lines] == NAMES


def test_words_alone_are_named_by_themselves(media, root, tmp_path):
    _, (line,) = ask(model(tmp_path / "run", root), text=["ma ni=lo, " + "ke " * 200])
    assert line["id"].startswith("ma ni=lo, ke")
    assert line["present"] == "T"


def test_raw_media_go_to_all_features_of_their_modality(media, root, tmp_path):
    run = model(tmp_path / "run", root, audio=("ears", "ears2"))
    one, two = (root / "features" / name / "utterance_2.npy" for name in ("ears", "ears2"))
    wanted = ask(run, audio=[f"ears={one}", f"ears2={two}"])
    assert_same(ask(run, audio=[media / "utterance_2.wav"])[1], wanted[1])
    alone = ask(run, audio=[f"ears2={media / 'utterance_2.wav'}"])
    assert_same(alone[1], ask(run, audio=[f"ears2={two}"])[1])
    assert alone[1][0]["prediction"] != wanted[1][0]["prediction"]


def test_a_video_has_sound_and_a_bad_medium_is_a_line(media, root, tmp_path):
    run = model(tmp_path / "run", root)
    (tmp_path / "cut.mkv").write_bytes(b"nothing of a video")
    names = [media / "utterance_1.mkv", tmp_path / "cut.mkv", tmp_path / "absent.wav", media / "utterance_5.mkv"]
    bad, lines = ask(run, audio=names)
    assert [("error" in line, line["id"]) for line in lines] == [
        (False, "utterance_1"), (True, "cut"), (True, "absent"), (True, "utterance_5"),
    ]  # fmt: skip
    assert bad == 3
    assert str(tmp_path / "cut.mkv") in lines[1]["error"]
    assert "absent.wav: no such file" in lines[2]["error"]
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    bad, (line,) = ask(run, text=[tmp_path / "latin.txt"])
    assert (bad, "is not UTF-8 (byte 3)" in line["error"]) == (1, True)


def test_a_table_cuts_sound_and_images_and_no_features(media, root, tmp_path):
    """A row is what files of its part alone say; its words are its own, and features have no part."""
    run = model(tmp_path / "run", root)
    samples, rate = soundfile.read(media / "utterance_2.wav")
    soundfile.write(tmp_path / "part.wav", samples[round(0.1 * rate) : round(0.3 * rate)], rate)
    levels = [80 + 10 * frame for frame in range(4)]
    (tmp_path / "part.mkv").write_bytes(film(levels[1:3], form="matroska"))
    wav, mkv = media / "utterance_2.wav", media / "utterance_2.mkv"
    table = tmp_path / "t.csv"
    table.write_text(
        f"audio,text,video,start,end\n{wav},ma ni,{mkv},.1,.3\n{wav},,,.1,.3\n,ma ni,,1,2\n{wav},,,.2,99\n"
    )
    bad, lines = ask(run, table)
    assert bad == 1
    assert [line["id"] for line in lines[:2]] == [f"{wav}@0.1-0.3"] * 2
    assert [(line.get("start"), line.get("end")) for line in lines] == [(0.1, 0.3), (0.1, 0.3), (None, None), (0.2, 99)]
    assert "segment beyond the audio: 0.2 to 99 s" in lines[3]["error"]
    alone = {"audio": [tmp_path / "part.wav"] * 2 + [""], "video": [tmp_path / "part.mkv", "", ""]}
    assert_same(lines[:3], ask(run, text=["ma ni", "", "ma ni"], **alone)[1])
    assert ask(run, audio=[wav])[1][0]["prediction"] != lines[1]["prediction"]
    features = root / "features" / "ears" / "utterance_2.npy"
    table.write_text(f"audio,start,end\n{features},.1,.3\n")
    with pytest.raises(AffectError, match="utterance_2.npy: features can't be cut to start and end"):
        ask(run, table)


def test_the_manifest_that_is_missing_is_named(media, root, tmp_path):
    elsewhere = tmp_path / "corpus"
    shutil.copytree(root, elsewhere)
    run = model(tmp_path / "run", elsewhere)
    (elsewhere / "features" / "eyes" / "manifest.json").unlink()
    wanted = f"{elsewhere / 'features' / 'eyes' / 'manifest.json'}: no such manifest, which raw video needs"
    with pytest.raises(AffectError, match=wanted):
        ask(run, video=[media / "utterance_1.mkv"])
    assert ask(run, audio=[media / "utterance_1.wav"])[0] == 0, "the others are not asked for"
    # The features' own folder, or the corpus's.
    told = ask(run, features=root, video=[media / "utterance_1.mkv"])
    assert told[0] == 0
    assert ask(run, features=root / "features", video=[media / "utterance_1.mkv"]) == told
    bare = model(tmp_path / "bare", root, recipe=False)
    with pytest.raises(AffectError, match="needs the manifest of eyes, and no recipe.json says where"):
        ask(bare, video=[media / "utterance_1.mkv"])
    assert ask(bare, features=root, video=[media / "utterance_1.mkv"])[0] == 0


def test_a_manifest_of_other_features_is_refused(media, root, tmp_path):
    elsewhere = tmp_path / "corpus"
    shutil.copytree(root, elsewhere)
    run = model(tmp_path / "run", elsewhere)
    file = elsewhere / "features" / "ears" / "manifest.json"
    facts = json.loads(file.read_text())
    file.write_text(json.dumps(facts | {"width": 33}))
    with pytest.raises(AffectError, match=r"manifest.json has 33 numbers, the model's audio feature ears has 32"):
        ask(run, audio=[media / "utterance_1.wav"])
    file.write_text(json.dumps(facts | {"modality": "text"}))
    with pytest.raises(AffectError, match="is of text, the model's ears is of audio"):
        ask(run, audio=[media / "utterance_1.wav"])


def test_features_of_faces_need_the_table_of_faces(media, root, tmp_path):
    elsewhere = tmp_path / "corpus"
    shutil.copytree(root, elsewhere)
    source = tmp_path / "video.csv"
    faces = "frame,FaceRectX,FaceRectY,FaceRectWidth,FaceRectHeight,FaceScore\n"
    (tmp_path / "boxes.csv").write_text(faces + "".join(f"{k},2,3,8,9,.99\n" for k in range(4)))
    source.write_text(f"name,video,boxes\nu,{media / 'utterance_1.mkv'},{tmp_path / 'boxes.csv'}\n")
    settings = VideoExtraction(
        encoder="tiny", source=str(source), output=elsewhere, name="eyes", rate=10.0, boxes=True, overwrite=True
    )
    extraction.run(settings, "")
    run = model(tmp_path / "run", elsewhere)
    video = tmp_path / "mine.mkv"
    shutil.copy(media / "utterance_1.mkv", video)
    bad, (line,) = ask(run, video=[video])
    assert bad == 1
    assert f"{tmp_path / 'mine.csv'} (py-feat's or OpenFace's) has to lie beside it" in line["error"]
    shutil.copy(tmp_path / "boxes.csv", tmp_path / "mine.csv")
    bad, lines = ask(run, video=[video])
    assert bad == 0
    assert_same(lines, ask(run, video=[elsewhere / "features" / "eyes" / "u.npy"])[1])


def test_vectors_are_those_of_the_files(media, root):
    streams = (Stream("audio", "ears", 32),)
    path = media / "utterance_3.wav"
    utterance = Utterance(name="u", sources={0: Source(str(path), "media")})
    made = Reader(streams, [utterance], root, root).read(utterance)[0]
    held = read_vector(Source(str(root / "features" / "ears" / "utterance_3.npy"), "features"), streams[0])
    np.testing.assert_allclose(made, held, atol=1e-6, rtol=1e-3)
    np.testing.assert_array_equal(made, made.astype(np.float16).astype(np.float32), "halves, as in the file")


def test_a_manifest_lets_no_program_run_unless_it_is_trusted_now(media, root, tmp_path, monkeypatch):
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    place, elsewhere, ran = tmp_path / "bert", tmp_path / "corpus", tmp_path / "ran"
    tokenizer = make_tokenizer()
    transformers.BertModel(KINDS["bert"](len(tokenizer))).save_pretrained(place)
    tokenizer.save_pretrained(place)
    shutil.copytree(root, elsewhere)
    settings = {"encoder": str(place), "source": str(media / "all.csv"), "output": elsewhere, "name": "reader"}
    extraction.run(TextExtraction(**settings, layers=2, trust_remote_code=True, overwrite=True), "")
    run = model(tmp_path / "run", elsewhere)
    refusal = (
        r"^[^\n]*reader/manifest\.json: the features were made with a program of [^\n]* --trust-remote-code [^\n]*$"
    )
    _, lines = ask(run, text=["ma ni"], trust_remote_code=True)
    assert affect.load(run / "checkpoints" / "best", trust_remote_code=True)(text="ma ni")["present"] == "T"
    assert lines[0]["present"] == "T"
    bring_program(place / "config.json", ran)
    for refused in (ask, lambda run, text: affect.load(run / "checkpoints" / "best").embed(text=text)):
        with pytest.raises(AffectError, match=refusal):
            refused(run, text=["ma ni"])
    assert not ran.exists()
    with pytest.raises(AffectError, match="cannot be read"):
        ask(run, text=["ma ni"], trust_remote_code=True)
    assert ran.exists(), "now it was asked for"
