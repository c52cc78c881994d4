"""Tables of scores: of your own, with frames of py-feat and OpenFace beside them."""

from __future__ import annotations

import numpy as np
import pytest

from affect.data import corpora, frame_csv, video
from affect.data.frame_csv import AU, VISUAL, read_faces
from affect.errors import AffectError
from tests.data.films import film

TABLE = """name,lip_score,MOS,split,room,take,blur,sharp
a_1_x,2,3.5,train,A,1,.5,1
b_1_y,-1,2.5,train,B,2,.25,2
c_2_x,nan,4,val,A,3,,3
d_2_y,3,1,Test,B,4,.75,4
e_2_z,bad,1,test,B,5,.75,5
f_2_z,1,1,later,B,6,.75,6
"""


def read(folder, **options):
    return corpora.read(corpora.SCORES, "score_table", folder, **options)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "mine.csv").write_text(TABLE)
    return tmp_path


def test_columns_by_what_they_hold(folder):
    corpus = read(folder, pattern=r"_(?P<source>\d)_(?P<generator>\w)$", groups=("take",))
    assert corpus.scores == {"lip_score": (1, 5), "MOS": (1, 5)} and corpus.features == {"clip": 2}
    assert corpus.groups == ("take", "room", "source", "generator") and corpus.parts == ("train", "valid", "test")
    rows = corpus.utterances.to_pandas().set_index("id")
    assert rows["lip_score"].isna().tolist() == [False, True, True, False] and rows.loc["d_2_y", "part"] == "test"
    assert rows.loc["c_2_x", ["take", "room", "source", "generator"]].tolist() == ["3", "A", "2", "x"]
    np.testing.assert_array_equal(corpus.store.read("clip", 1), [[0.25, 2]])
    assert corpus.store.read("clip", 2) is None, "a number of it is missing"
    told = {each.what: each.reason for each in corpus.exclusions}
    assert told == {"e_2_z": "label is no number: lip_score 'bad'", "f_2_z": "unknown split: 'later'"}
    assert read(folder, scores=("MOS",)).features == {"clip": 3}


def test_a_changed_file_is_read_anew(folder):
    first = read(folder)
    assert read(folder).fingerprint == first.fingerprint
    (folder / "mine.csv").write_text(TABLE.replace("3.5", "3.25"))
    assert read(folder).fingerprint != first.fingerprint


def test_files_that_are_parts(tmp_path, caplog):
    for name, k in (("train", 0), ("valid", 1), ("test", 2), ("test1", 3)):
        (tmp_path / f"{name}.csv").write_text(f"clip;score\nc{k};{k}\n")
    corpus = read(tmp_path)
    assert dict(zip(*(corpus.utterances[name] for name in ("id", "part")), strict=True)) == {
        "c0": "train", "c1": "valid", "c2": "test",
    }  # fmt: skip
    assert "test1.csv: is of no part (train, valid or test), and is not read" in caplog.text
    assert corpora.detect(tmp_path) == "score_table"
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "labels.csv").write_text("path,speaker,valence,arousal,score\n")
    assert corpora.detect(tmp_path / "own") == "csv_folder"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"pattern": "("}, "is no regular expression"),
        ({"pattern": r"_(\d)_"}, "names no group: write"),
        ({"pattern": "(?P<a>_q_)"}, "has no sample"),
        ({"table": "other.csv"}, "has no file other.csv"),
        ({"frames_of": "frames"}, "has no frames"),
        ({"scores": ("lips",)}, "has no column 'lips'"),
        ({"clip": "id"}, "has no column 'id'"),
        ({"groups": ("take2",)}, "has no column 'take2'"),
    ],
)
def test_what_is_not_there(folder, options, words):
    with pytest.raises(AffectError, match=words):
        read(folder, **options)


def test_the_first_table_says_the_order_of_columns_for_the_others(tmp_path):
    (tmp_path / "train.csv").write_text("name,sharp,blur,score\na,1,2,3\n")
    (tmp_path / "test.csv").write_text("name,loud,blur,score,sharp\nb,9,5,1,4\nc,9,x,1,4\n")
    corpus = read(tmp_path)
    assert [corpus.store.read("clip", row).tolist() for row in (0, 1)] == [[[1, 2]], [[4, 5]]]
    assert corpus.schema["features"]["clip"]["columns"] == ["sharp", "blur"] and corpus.groups == ()
    assert [each.reason for each in corpus.exclusions] == ["feature is no number: blur 'x'"]
    (tmp_path / "test.csv").write_text("name,loud,score,sharp\nb,9,1,4\n")
    with pytest.raises(AffectError, match=r"test.csv has no column 'blur' \(1 of 2\) of the feature clip$"):
        read(tmp_path)


def test_tables_that_can_not_be_told(tmp_path):
    (tmp_path / "a.csv").write_text("clip,x\nc,1\n")
    with pytest.raises(AffectError, match="has no table of scores"):
        read(tmp_path)
    with pytest.raises(AffectError, match="has no column of scores .* it has: clip, x"):
        read(tmp_path, table="a.csv")
    for name in "bc":
        (tmp_path / f"{name}.csv").write_text("clip,score\nc,1\n")
    with pytest.raises(AffectError, match=r"has 2 tables of scores \(b.csv, c.csv\): name one"):
        read(tmp_path)


def test_frames_of_another_table(folder):
    lines = [f"{clip},{frame},{frame * 10}.jpg,{frame + k}" for k, clip in enumerate("ab") for frame in (2, 0, 1)]
    lines = [line.replace("a,", "a_1_x,").replace("b,", "b_1_y,") for line in lines]
    (folder / "frames.csv").write_text("\n".join(["clip,frame,picture,value", *lines]))
    corpus = read(folder, frames_of="frames.csv")
    assert corpus.features == {"clip": 3, "frames": 1}
    np.testing.assert_array_equal(corpus.store.read("frames", 1), [[1], [2], [3]])
    assert corpus.store.read("frames", 2) is None


def openface(folder, name, rows):
    columns = ["frame", " face_id", " confidence", " success", *(f" {unit}" for unit in reversed(AU))]
    lines = [", ".join(map(str, row)) for row in rows]
    (folder / f"{name}.csv").write_text("\n".join([",".join(columns), *lines]))


def test_frames_of_openface_beside_the_table(folder):
    (folder / "faces").mkdir()
    units = list(range(17, 0, -1))
    rows = [[2, 0, 0.9, 1, *units], [1, 0, 0.5, 1, *[0] * 17], [1, 1, 0.8, 1, *[5] * 17], [3, 0, 0.0, 0, *[0] * 17]]
    openface(folder / "faces", "a_1_x", rows)
    corpus = read(folder, frames_of="faces", features=("au",))
    assert corpus.features == {"au": 17}
    told = corpus.store.read("au", 0)
    # By time, the surer face, by the columns' names; without a face the frame before.
    np.testing.assert_array_equal(told, [[5] * 17, list(range(1, 18)), list(range(1, 18))])
    assert corpus.schema["features"]["au"]["filled"] == 1
    with pytest.raises(AffectError, match="has none of the 4 clips"):
        (folder / "faces" / "a_1_x.csv").unlink()
        read(folder, frames_of="faces")


def test_faces_by_the_names_of_columns(tmp_path):
    path = tmp_path / "c.csv"
    columns = [*reversed(VISUAL), "FaceScore", "frame", "input"]
    path.write_text("\n".join([",".join(columns), ",".join([*map(str, range(163)), "1", "0", "c.mp4"]),
                               ",".join([""] * 163 + ["", "1", "c.mp4"])]))  # fmt: skip
    (name, frames), *_ = read_faces(path).items()
    assert name == "visual" and frames[0].tolist() == list(range(162, -1, -1)) and np.isnan(frames[1]).all()
    path.write_text("frame,x_0\n0,1\n")
    with pytest.raises(AffectError, match=r"has no column 'x_1', .*, \.\.\. \(162 of 163\) of py-feat$"):
        read_faces(path)
    for frame, cell, words in (("a", "1", "a frame has no number"), ("0", "x", "a cell of frame 0 is no number")):
        path.write_text(f"frame,{','.join(AU)}\n{frame},{','.join([cell] * 17)}\n")
        with pytest.raises(AffectError, match=words):
            read_faces(path)


def test_real_files_of_both_programs(real_data):
    folder = real_data / "pyfeat"
    for name, feature, shape in (
        ("001", "visual", (40, 163)), ("Feat_Test", "visual", (1, 163)), ("OpenFace_Test", "au", (100, 17)),
    ):  # fmt: skip
        frames = read_faces(folder / f"{name}.csv")[feature]
        assert frames.shape == shape and np.isfinite(frames).all()
    first = read_faces(folder / "001.csv")["visual"][0]
    assert first[0] == np.float32(355.59026655374674) and abs(first[-7:].sum() - 1) < 1e-3
    assert read_faces(folder / "OpenFace_Test.csv")["au"][0, 0] == np.float32(0.6773)
    assert len(frame_csv.VISUAL) == 163


def test_a_second_start_opens_no_video(tmp_path, monkeypatch):
    (tmp_path / "mos.csv").write_text("Image,MOS\n1_x,1\n2_y,2\n")
    (tmp_path / "films").mkdir()
    for name in ("1_x", "2_y"):
        (tmp_path / "films" / f"{name}.mp4").write_bytes(film(range(10)))
    first = read(tmp_path, videos="films")
    with monkeypatch.context() as closed:
        closed.setattr(video.pyav, "container", lambda *given: pytest.fail("opened again"))
        assert read(tmp_path, videos="films").utterances.to_list() == first.utterances.to_list()
    (tmp_path / "films" / "2_y.mp4").write_bytes(film(range(20)))
    assert read(tmp_path, videos="films").utterances[1]["seconds"] == pytest.approx(2.0, abs=0.11)


def test_clips_with_their_videos_and_faces(tmp_path):
    (tmp_path / "mos.csv").write_text("Image,MOS\n1_x.mp4,1\n2_y,2\n3_z,3\n4_w,4\n5_v,5\n")
    (tmp_path / "films").mkdir()
    (tmp_path / "faces").mkdir()
    for name in ("1_x", "2_y", "5_v"):
        (tmp_path / "films" / f"{name}.mp4").write_bytes(film(range(10)))
    (tmp_path / "films" / "3_z.mp4").write_bytes(b"no video")
    (tmp_path / "faces" / "1_x.csv").write_text("frame\n0\n")
    (tmp_path / "faces" / "2_y.csv").write_text("frame\n0\n")
    corpus = read(tmp_path, videos="films", pattern=r"^(?P<picture>\d+)_")
    rows = corpus.utterances.to_list()
    assert [(row["id"], row["picture"], row["boxes"]) for row in rows] == [
        ("1_x.mp4", "1", ""), ("2_y", "2", ""), ("5_v", "5", ""),
    ]  # fmt: skip
    assert rows[0]["path"] == str(tmp_path / "films" / "1_x.mp4")
    assert [row["seconds"] for row in rows] == pytest.approx([1.0] * 3, abs=0.11)
    told = {each.what: each.reason for each in corpus.exclusions}
    assert told["4_w"] == "no video of this name" and told["3_z"].startswith("unreadable video: ")
    faces = read(tmp_path, videos="films", boxes="faces")
    assert [row["boxes"] for row in faces.utterances] == [str(tmp_path / "faces" / f"{n}.csv") for n in ("1_x", "2_y")]
    assert {each.what: each.reason for each in faces.exclusions}["5_v"] == "no table of faces"
    assert faces.fingerprint != corpus.fingerprint
    for folder, said in (("films", "has no CSV of a clip"), ("empty", "has no CSV of a clip")):
        with pytest.raises(AffectError, match=said):
            read(tmp_path, videos="films", boxes=folder)
    (tmp_path / "films" / "1_x.webm").write_bytes(film(range(10), form="matroska"))
    with pytest.raises(AffectError, match=r"1_x.mp4 and 1_x.webm: names must differ"):
        read(tmp_path, videos="films")
    for folder, said in (("faces", "has no video"), ("none", "is not a folder")):
        with pytest.raises(AffectError, match=said):
            read(tmp_path, videos=folder)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "9_q.mp4").write_bytes(film(range(3)))
    with pytest.raises(AffectError, match="has none of the 5 clips"):
        read(tmp_path, videos="other")


def test_clips_without_scores_where_none_is_needed(tmp_path):
    (tmp_path / "clips.csv").write_text("name,identity,sharpness\n" + "".join(f"c{k},p{k},{k}\n" for k in range(3)))
    with pytest.raises(AffectError, match="no table of scores"):
        read(tmp_path)
    corpus = read(tmp_path, unlabelled=True, scores=("overall_score",))
    assert [*corpus.scores] == ["overall_score"] and corpus.features == {"clip": 1}
    assert np.isnan(corpus.utterances["overall_score"]).all()


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("MOS.tsv", ["Image\tMOS\tsharp\tSplit", "a\t1,5\t0,5\ttrn", "b\t2,5\t1\tdev", "c\t3\t2,5\teval"]),
        ("mos.csv", ["Image;MOS;sharp;PART", "a;1,5;0,5;Training", "b;2,5;1;val", "c;3;2,5;tst"]),
    ],
)
def test_forms_of_a_table(tmp_path, name, lines):
    (tmp_path / name).write_text("\n".join(lines) + "\n")
    rows = {row["id"]: row for row in read(tmp_path, decimal=",").utterances}
    assert [(rows[id]["MOS"], rows[id]["part"]) for id in "abc"] == [(1.5, "train"), (2.5, "valid"), (3.0, "test")]
    made = read(tmp_path, decimal=",")
    assert [made.store.read("clip", k).tolist() for k in range(3)] == [[[0.5]], [[1.0]], [[2.5]]] and made.groups == ()
