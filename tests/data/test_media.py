from pathlib import Path

import datasets
import numpy as np
import pyarrow.parquet
import pytest
import soundfile
from datasets import Audio, Dataset, DatasetDict, Features, Value, Video
from hypothesis import given
from hypothesis import strategies as st

from affect.data import audio, video
from affect.data.excerpts import Excerpt
from affect.data.media import Medium, check_names, cut, parts_of, read_media
from affect.errors import AffectError
from tests.data.films import film


@pytest.fixture
def files(tmp_path):
    """A folder with two videos, a recording and a table of faces."""
    folder = tmp_path / "files"
    (folder / "below").mkdir(parents=True)
    (folder / "a.mp4").write_bytes(film([50, 100, 150]))
    (folder / "below" / "b.MKV").write_bytes(film([60, 90], form="matroska"))
    soundfile.write(folder / "c.wav", np.linspace(-0.5, 0.5, 1600), 16_000)
    (folder / "a.csv.faces").write_text("frame\n")
    return folder


def table(folder, text, name="media.csv"):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def refused(words, source, **options):
    with pytest.raises(AffectError, match=words) as caught:
        read_media(str(source), **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_csv(files):
    path = table(files, 'name,video,audio,text,boxes\na1,a.mp4,,"well, yes",a.csv.faces\nc1,,c.wav,,\n')
    assert list(read_media(path)) == [
        Medium(name="a1", video=files / "a.mp4", text="well, yes", boxes=files / "a.csv.faces"),
        Medium(name="c1", audio=files / "c.wav", text=""),
    ]
    first, second = read_media(path)
    assert first.sound == files / "a.mp4" and second.sound == files / "c.wav"


@pytest.mark.parametrize("mark", "\u2028\u2029\x0b\x0c\x1c\x1d\x1e\x85")
def test_a_text_may_hold_what_str_splitlines_breaks_at(tmp_path, mark):
    media = read_media(table(tmp_path, f"name,text\na,None{mark}NA\n001,null\n"))
    assert [(medium.name, medium.text) for medium in media] == [("a", f"None{mark}NA"), ("001", "null")]


def test_csv_with_other_names_and_root(files, tmp_path):
    path = table(tmp_path, "\ufefffile; utt ;words\na.mp4;u1; hi \nbelow/b.MKV;u2;\n")
    media = read_media(path, columns={"video": "file", "name": "utt", "text": "words"}, root=files)
    assert list(media) == [
        Medium(name="u1", video=files / "a.mp4", text="hi"),
        Medium(name="u2", video=files / "below" / "b.MKV", text=""),
    ]


def test_csv_without_names_takes_stems_and_absolute_paths_stay(files, tmp_path):
    path = table(tmp_path, f"audio\tvideo\n\t{files / 'a.mp4'}\n{files / 'c.wav'}\t\n", "media.tsv")
    assert list(read_media(path)) == [Medium(name="a", video=files / "a.mp4"), Medium(name="c", audio=files / "c.wav")]


def test_csv_of_words_alone(tmp_path):
    media = read_media(table(tmp_path, "name,text\n你好,今天\nb,\n"))
    assert [(medium.name, medium.text, medium.sound) for medium in media] == [("你好", "今天", None), ("b", "", None)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name,audio\n", "lists no media"),
        ("", "has no column audio, video or text"),
        ("name,sound\na,c.wav\n", "has no column audio, video or text .*there are: name, sound"),
        ("name,audio\na,c.wav\na,a.mp4\n", "the name 'a' stands for 2 media"),
        ("name,audio\n,c.wav\n", "the name '' is empty"),
        ("name,audio\n../a,c.wav\n", "the name '../a' begins with a dot"),
        ("name,audio\nx/a,c.wav\n", "the name 'x/a' has a character"),
        ("text\nhello\n", "media.csv:2: has no name"),
        ("name,text\na,well, yes\n", "media.csv:2: more cells than columns: 'yes' is beyond the last column; quote"),
        ("name,audio\na,d.wav\nb,e.wav\n", "none of 2 files is there, the first would be .*d.wav: is .* the root"),
        ('name,audio\na,"c.wav', "media.csv:2: unexpected end of data"),
    ],
)
def test_tables_that_cannot_be_used(files, text, words):
    refused(words, table(files, text))


def test_a_missing_file_among_others_is_left_to_whoever_reads_it(files):
    media = read_media(table(files, "name,audio\na,c.wav\nb,gone.wav\n"))
    with pytest.raises(AffectError, match="gone.wav: no such audio file"):
        video.audio_of(media[1].audio)


def test_bad_tables_and_options(files, tmp_path):
    refused("cannot be read .No such file", tmp_path / "none.csv")
    (tmp_path / "latin.csv").write_bytes("name,text\na,caf\xe9\n".encode("latin-1"))
    refused("is not UTF-8", tmp_path / "latin.csv")
    path = table(files, "name,audio\na,c.wav\n")
    refused("columns names 'sound', which is none of: name, audio", path, columns={"sound": "audio"})
    refused("has no column 'nane' for name: did you mean 'name'", path, columns={"name": "nane"})
    refused("columns does nothing here", files, columns={"name": "utt"})
    refused("root does nothing here", files, root=files)
    refused("no such folder or file", tmp_path / "nowhere")


def test_folder(files):
    (files / "._a.mp4").write_bytes(b"attributes")
    (files / "notes.txt").write_text("x")
    assert list(read_media(str(files))) == [
        Medium(name="a", video=files / "a.mp4"),
        Medium(name="b", video=files / "below" / "b.MKV"),
        Medium(name="c", audio=files / "c.wav"),
    ]


def test_folder_with_a_stem_twice(files):
    (files / "below" / "a.wav").write_bytes(b"RIFF")
    message = refused("would both be named 'a'", files)
    assert str(files / "a.mp4") in message and str(files / "below" / "a.wav") in message


def test_folder_without_media(tmp_path):
    refused("holds no sound or video file", tmp_path)


def test_parquet_of_bytes_as_the_hub_keeps_it(files, tmp_path):
    rows = {
        "id": ["u1", "u2"],
        "audio": [{"bytes": (files / "c.wav").read_bytes(), "path": "c.wav"}, None],
        "video": [None, {"bytes": (files / "a.mp4").read_bytes(), "path": "a.mp4"}],
        "sentence": ["hi", None],
    }
    data = Dataset.from_dict(rows)
    for column, kind in (("audio", Audio), ("video", Video)):
        data = data.cast_column(column, kind(decode=False)).cast_column(column, kind())
    data.to_parquet(str(tmp_path / "data.parquet"))
    for source in (tmp_path / "data.parquet", tmp_path):
        media = read_media(str(source), columns={"name": "id", "text": "sentence"})
        assert len(media) == 2 and [medium.name for medium in media] == ["u1", "u2"]
        first, second = media[0], media[-1]
        assert (first.text, first.video) == ("hi", None) and (second.text, second.audio) == ("", None)
        assert np.array_equal(video.audio_of(first.sound), audio.load(files / "c.wav"))
        assert len(list(video.frames(second.video, 10))) == 3
        assert media[:1] == [first]
        with pytest.raises(IndexError):
            media[2]


def test_names_of_files_within_a_dataset(files, tmp_path):
    """Plain structs, as a file written without datasets has them; without a column of names the stems are taken."""
    held = [{"bytes": (files / "c.wav").read_bytes(), "path": "clips/c.wav"}, {"bytes": b"", "path": "clips/d.wav"}]
    pyarrow.parquet.write_table(pyarrow.table({"audio": held}), tmp_path / "plain.parquet")
    assert [medium.name for medium in read_media(str(tmp_path / "plain.parquet"))] == ["c", "d"]
    pyarrow.parquet.write_table(pyarrow.table({"audio": [{"bytes": b"x"}]}), tmp_path / "nameless.parquet")
    refused("has no column of names", tmp_path / "nameless.parquet")


def test_parts_of_save_to_disk_with_relative_paths(files, tmp_path):
    parts = {
        "train": Dataset.from_dict({"name": ["a"], "video": ["a.mp4"]}),
        "test": Dataset.from_dict({"name": ["b"], "video": ["below/b.MKV"]}),
    }
    DatasetDict(parts).save_to_disk(str(tmp_path / "saved"))
    media = read_media(str(tmp_path / "saved"), root=files)
    assert list(media) == [
        Medium(name="a", video=files / "a.mp4"),
        Medium(name="b", video=files / "below" / "b.MKV"),
    ]
    parts["test"] = Dataset.from_dict({"name": ["a"], "video": ["below/b.MKV"]})
    DatasetDict(parts).save_to_disk(str(tmp_path / "twice"))
    refused("the name 'a' stands for 2 media", tmp_path / "twice", root=files)


def test_a_folder_with_metadata_is_read_by_datasets(files):
    (files / "a.csv.faces").unlink()
    (files / "c.wav").unlink()
    (files / "below" / "b.MKV").rename(files / "b.mkv")
    table(files, "file_name,utt,text\na.mp4,u1,hi\nb.mkv,u2,ho\n", "metadata.csv")
    media = read_media(str(files), columns={"name": "utt"})
    assert [(medium.name, medium.text) for medium in media] == [("u1", "hi"), ("u2", "ho")]
    assert Path(media[0].video).read_bytes() == (files / "a.mp4").read_bytes()


def test_bytes_are_fetched_one_by_one(files, tmp_path, monkeypatch):
    rows = {"name": [f"u{i}" for i in range(5)], "audio": [{"bytes": bytes(9), "path": None}] * 5}
    kinds = Features({"name": Value("string"), "audio": {"bytes": Value("binary"), "path": Value("string")}})
    data = Dataset.from_dict(rows, features=kinds).cast_column("audio", Audio(decode=False))
    data.to_parquet(str(tmp_path / "d.parquet"))
    asked = []
    original = datasets.Dataset.__getitem__
    monkeypatch.setattr(datasets.Dataset, "__getitem__", lambda self, key: asked.append(key) or original(self, key))
    media = read_media(str(tmp_path / "d.parquet"))
    assert not any(isinstance(key, int) for key in asked)
    assert media[3] == Medium(name="u3", audio=bytes(9)) and asked[-1] == 3


@given(st.text(max_size=12))
def test_names_that_are_let_through_stay_in_their_folder(name):
    try:
        check_names([name], "here")
    except AffectError as error:
        assert "\n" not in str(error)
        return
    path = Path("/folder") / f"{name}.npy"
    assert path.parent == Path("/folder") and path.name == f"{name}.npy" and ".." not in path.parts


@pytest.mark.parametrize("name", ["", " ", ".", "..", ".x", "a/b", "a\\b", "a\0", "a\nb", " a", "x" * 201, "é" * 101])
def test_names_that_are_not(name):
    with pytest.raises(AffectError, match="name a feature file"):
        check_names(["fine", name], "here")


@pytest.mark.parametrize("name", ["Ses01F_impro01_F000", "a.b-c", "x" * 200, "早上 1"])
def test_names_that_are_fine(name):
    check_names([name], "here")


def test_times_are_those_of_a_part_of_the_files(files, tmp_path):
    """Of a CSV and of a `datasets` source, by sound and by images; what is not there has a fault, text has no part."""
    rows = ["a,a.mp4,0.1,0.3", "b,a.mp4,0,9", "c,a.mp4,2,1", "d,,1,2", "e,a.mp4,,"]
    media = read_media(table(files, "\n".join(["name,video,Begin,end", *rows]) + "\n"))
    assert [medium.part.span for medium in media] == [(0.1, 0.3), (0, 9), None, (1, 2), None]
    first, beyond, turned, absent, whole = cut(media, parts_of(media, seen=True))
    assert (first.part.span, whole.part, absent.part) == ((0.1, 0.3), Excerpt(), Excerpt())
    assert beyond.part.fault.startswith("segment beyond the audio: 0 to 9 s of 0.3")
    assert turned.part.fault.startswith("segment without length")
    (silent,) = parts_of(media[:1], seen=False)
    assert silent.fault == "bad audio: has no sound"
    # Without names they are called by their times, too; file is audformat's word, and its ending says what it is.
    unnamed = read_media(
        table(files, "file,start,end\nc.wav,0 days 00:00:00.05,NaT\nc,0.01,.02\na.mp4,0,.1\n", "x.csv")
    )
    assert [medium.name for medium in unnamed] == ["c@0.05", "c@0.01-0.02", "a@0-0.1"]
    assert [(medium.audio, medium.video) for medium in unnamed] == [
        (files / "c.wav", None), (files / "c.wav", None), (None, files / "a.mp4"),
    ]  # fmt: skip
    assert [part.span for part in parts_of(unnamed[:2], seen=False)] == [(0.05, 0.1), (0.01, 0.02)]
    sound = (files / "c.wav").read_bytes()
    held = {"audio": [{"bytes": sound, "path": "c.wav"}] * 2, "start": [0.02, 0.5], "end": [0.06, 0.7]}
    pyarrow.parquet.write_table(pyarrow.table(held), tmp_path / "p.parquet")
    of_rows = read_media(str(tmp_path / "p.parquet"))
    assert [medium.name for medium in of_rows] == ["c@0.02-0.06", "c@0.5-0.7"]
    there, beyond = cut(of_rows, parts_of(of_rows, seen=False))
    assert there.part.span == (0.02, 0.06) and "beyond the audio" in beyond.part.fault


def test_other_case_backslashes_and_names_without_endings(files):
    (files / "sub").mkdir()
    (files / "c.wav").rename(files / "sub" / "c.wav")
    (medium,) = read_media(table(files, "Name,Audio\na,sub\\c\n"))
    assert (medium.name, medium.audio) == ("a", files / "sub" / "c.wav")
