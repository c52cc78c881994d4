"""What is named for a model of features: which values are one utterance, and what each of them is."""

from __future__ import annotations

import numpy as np
import pytest

from affect.data.feature_corpus import Stream, read_table
from affect.errors import AffectError
from affect.inference.streams import Source, gather, read_vector

AUDIO, TEXT, VIDEO = Stream("audio", "ears", 4), Stream("text", "reader", 3), Stream("video", "eyes", 2)
STREAMS = (AUDIO, TEXT, VIDEO)


def write(path, values, dtype=np.float32):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.asarray(values, dtype))
    return str(path)


@pytest.mark.parametrize(
    ("modality", "value", "kind"),
    [
        ("audio", "a.npy", "features"), ("audio", "a.NPY", "features"), ("audio", "a.wav", "media"),
        ("audio", "a.mp4", "media"), ("audio", "a.txt", "unknown"), ("audio", "a", "unknown"), ("audio", "", "nothing"),
        ("video", "a.mp4", "media"), ("video", "a.wav", "unknown"), ("video", "x=a.npy", "features"),
        ("text", "a.txt", "media"), ("text", "a.npy", "features"), ("text", "good morning", "words"),
        ("text", "a.wav", "unknown"), ("text", "  ", "nothing"), ("text", "a / b" * 500, "words"),
        ("text", "x=y", "words"), ("text", "and so on.", "words"),
    ],
)  # fmt: skip
def test_what_a_value_is(modality, value, kind):
    (utterance,) = gather(STREAMS, {modality: [value]})
    place = ("audio", "text", "video").index(modality)
    assert utterance.sources == {place: Source(value, kind)}


def test_a_file_of_words_has_to_end_in_txt(tmp_path):
    path = tmp_path / "notes.md"
    path.write_text("words")
    (utterance,) = gather(STREAMS, {"text": [str(path)]})
    assert utterance.sources[1].kind == "unknown"
    with pytest.raises(AffectError, match=r"notes.md: is no kind of file that is known; --text takes .* or words"):
        read_vector(utterance.sources[1], TEXT)


def test_values_are_put_together_in_order():
    found = gather(STREAMS, {"text": ["one", "", "three"], "audio": ["a.npy", "b.npy", "c.npy"]})
    assert [one.name for one in found] == ["a", "b", "c"]
    assert [one.sources[1].value for one in found] == ["one", "", "three"]
    assert [one.sources[0].value for one in found] == ["a.npy", "b.npy", "c.npy"]
    assert all(set(one.sources) == {0, 1} for one in found)


def test_same_names_are_told_apart_by_their_folders():
    found = gather(STREAMS, {"audio": ["x/a.npy", "y/a.npy"], "video": ["v.npy", "w.npy"]})
    assert [one.name for one in found] == ["x/a.npy", "y/a.npy"]


def test_an_equals_sign_names_a_feature_of_the_model_alone():
    found = gather(STREAMS, {"audio": ["ears=a.npy"], "text": ["eyes=words"]})
    assert [source.value for source in found[0].sources.values()] == ["a.npy", "eyes=words"]


def test_the_same_files_in_another_order_are_refused():
    with pytest.raises(AffectError, match=r"audio \(ears\) and video \(eyes\) name the same utterances in another ord"):
        gather(STREAMS, {"audio": ["x/a.npy", "x/b.npy"], "video": ["y/b.npy", "y/a.npy"]})
    assert len(gather(STREAMS, {"audio": ["x/a.npy", "x/b.npy"], "video": ["y/b.npy", "y/c.npy"]})) == 2


def test_folders_are_matched_by_name(tmp_path):
    write(tmp_path / "a" / "u2.npy", [1, 2, 3, 4])
    write(tmp_path / "a" / "u1.npy", [1, 2, 3, 4])
    (tmp_path / "a" / "manifest.json").write_text("{}")
    write(tmp_path / "a" / "._u1.npy", [1])
    write(tmp_path / "v" / "u1" / "000.npy", [1, 2])
    write(tmp_path / "v" / "u3.npy", [1, 2])
    found = gather(STREAMS, {"audio": [str(tmp_path / "a")], "video": [str(tmp_path / "v")]})
    assert [(one.name, set(one.sources)) for one in found] == [("u1", {0, 2}), ("u2", {0}), ("u3", {2})]
    assert found[0].sources[2] == Source(str(tmp_path / "v" / "u1"), "folder")
    write(tmp_path / "v" / "u1.npy", [1, 2])
    with pytest.raises(AffectError, match=r"has both u1.npy and a folder u1"):
        gather(STREAMS, {"video": [str(tmp_path / "v")]})
    (tmp_path / "none").mkdir()
    with pytest.raises(AffectError, match="none: holds no .npy file and no folder of frames"):
        gather(STREAMS, {"video": [str(tmp_path / "none")]})


def test_a_folder_beside_a_file_or_in_its_feature_is_of_frames(tmp_path):
    frames = tmp_path / "eyes" / "u1"
    write(frames / "000.npy", [1, 2])
    (one,) = gather(STREAMS, {"video": [str(frames)]})
    assert (one.name, one.sources) == ("u1", {2: Source(str(frames), "folder")})
    other = write(tmp_path / "frames" / "000.npy", [1, 2])
    (one,) = gather(STREAMS, {"audio": ["a.npy"], "video": [str(tmp_path / "frames")]})
    assert one.sources[2].kind == "folder"
    assert other
    for name in ("eyes", "features/clip"):
        write(tmp_path / name / "u9.npy", [1, 2])
        with pytest.raises(AffectError, match="holds the features of many utterances: give such folders alone"):
            gather(STREAMS, {"audio": ["a.npy"], "video": [str(tmp_path / name)]})


def test_a_folder_of_another_width_is_told_at_once_unless_its_first_file_is_bad(tmp_path):
    write(tmp_path / "a" / "u1.npy", [1, 2, 3])
    write(tmp_path / "a" / "u2.npy", [1, 2, 3])
    with pytest.raises(AffectError, match=r"u1.npy has 3 numbers, the model's audio feature ears has 4"):
        gather(STREAMS, {"audio": [str(tmp_path / "a")]})
    (tmp_path / "a" / "u1.npy").write_bytes(b"bad")
    assert len(gather(STREAMS, {"audio": [str(tmp_path / "a")]})) == 2


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_vectors_are_those_of_a_corpus(tmp_path, dtype):
    rng = np.random.default_rng(1)
    folder = tmp_path / "eyes"
    write(folder / "vector.npy", rng.normal(size=2), dtype)
    write(folder / "frames.npy", rng.normal(size=(7, 2)), dtype)
    write(folder / "zero.npy", np.zeros((3, 2)), dtype)
    write(folder / "empty.npy", np.zeros((0, 2)), dtype)
    for k in range(4):
        write(folder / "folder" / f"{k}.npy", rng.normal(size=(k + 1, 2)), dtype)
    names = ["vector", "frames", "zero", "empty", "folder"]
    table = read_table(folder, names, tmp_path / "cache")
    found = {one.name: one.sources[2] for one in gather(STREAMS, {"video": [str(folder)]})}
    for k, name in enumerate(names):
        vector = read_vector(found[name], VIDEO)
        if name in ("zero", "empty"):
            assert vector is None
            continue
        assert vector.dtype == np.float32
        np.testing.assert_array_equal(vector, table.values[k].astype(np.float32))


def test_frames_of_another_width_and_folders_without_any(tmp_path):
    write(tmp_path / "u" / "0.npy", [1, 2])
    write(tmp_path / "u" / "1.npy", [1, 2, 3])
    with pytest.raises(AffectError, match=r"1.npy has 3 numbers, the model's video feature eyes has 2"):
        read_vector(Source(str(tmp_path / "u"), "folder"), VIDEO)
    (tmp_path / "bare").mkdir()
    with pytest.raises(AffectError, match="bare: holds no .npy file of a frame"):
        read_vector(Source(str(tmp_path / "bare"), "folder"), VIDEO)
