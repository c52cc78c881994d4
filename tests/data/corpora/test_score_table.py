"""Tables of scores: of your own, with frames of py-feat and OpenFace beside them."""

from __future__ import annotations

import numpy as np
import pytest

from affect.data import corpora, frame_csv, score_corpus, video
from affect.data.frame_csv import AU, VISUAL, read_faces
from affect.errors import AffectError
from affect.tasks.talking_face.config import Data
from affect.tasks.talking_face.corpus import read_corpus
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
    for name, k in (("train", 0), ("valid", 1), ("test", 2), ("test1", 3), ("later", 4)):
        (tmp_path / f"{name}.csv").write_text(f"clip;score\nc{k};{k}\n")
    corpus = read(tmp_path)
    assert dict(zip(*(corpus.utterances[name] for name in ("id", "part")), strict=True)) == {
        "c0": "train", "c1": "valid", "c2": "test", "c3": "test1",
    }  # fmt: skip
    assert "later.csv: is of no part (train, valid or test), and is not read" in caplog.text
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


def test_columns_of_other_names_are_proposed_and_never_taken(affect, tmp_path):
    """By inspect, with the mapping that training then takes."""
    lines = [f"{k},c{k}.mp4,{k % 5},{'train' if k < 4 else 'test'},{k / 8}" for k in range(8)]
    (tmp_path / "a.csv").write_text("\n".join(["row,Clip ID,Rating,Set,x", *lines]) + "\n")
    mapping = "--data.columns score=Rating part=Set 'name=Clip ID'"
    with pytest.raises(AffectError, match=f"has no table of scores; perhaps {mapping}$"):
        read(tmp_path)
    with pytest.raises(AffectError, match=f"has no column of scores .*; perhaps {mapping}$"):
        read(tmp_path, table="a.csv")
    code, out, _ = affect("inspect", tmp_path)
    assert code == 0
    assert f"columns: read as with {mapping}, which training needs" in out
    columns = {"score": "Rating", "part": "Set", "name": "Clip ID"}
    corpus = read(tmp_path, columns=columns)
    rows = {row["id"]: (row["part"], row["score"]) for row in corpus.utterances}
    assert rows == {f"c{k}.mp4": ("train" if k < 4 else "test", k % 5) for k in range(8)}
    data = Data(corpus="score_table", root=str(tmp_path), scores=("score",),
                columns=tuple(f"{ours}={theirs}" for ours, theirs in columns.items()))  # fmt: skip
    assert sorted(read_corpus(data).utterances["id"]) == sorted(rows)
    for wrong, words in [
        ({"score": "x", "part": "Rating", "rating": "Set"}, "columns names 'rating'"),
        ({"score": "Rated"}, "has no table of scores"),
    ]:
        with pytest.raises(AffectError, match=words):
            read(tmp_path, columns=wrong)
    (tmp_path / "a.csv").write_text("name,score,Rating\na,1,2\n")
    with pytest.raises(AffectError, match="has a column 'score' beside 'Rating'"):
        read(tmp_path, columns={"score": "Rating"})


def test_rows_and_exclusions_are_what_the_folders_hold(affect, tmp_path, caplog):
    root = tmp_path / "c"
    for name in ("films/more", "faces"):
        (root / name).mkdir(parents=True)
    (root / "mos.csv").write_text("Image,MOS\na,1\nb,2\nc.mp4,3\nd,oops\ne,4\n")
    for place in ("films/d.mp4", "films/e.mp4", "films/x.mp4", "films/more/c.mp4", "films/more/y.mp4"):
        (root / place).write_bytes(film(range(10)))
    (tmp_path / "away.mp4").write_bytes(film(range(9)))
    for name, target in (("a", tmp_path / "away.mp4"), ("b", "nowhere.mp4"), ("loop", "loop.mp4")):
        (root / "films" / f"{name}.mp4").symlink_to(target)
    for name in ("a", "z"):
        (root / "faces" / f"{name}.csv").write_text("frame\n0\n")
    corpus = read(root, videos="films", boxes="faces")
    below, unnamed = "video in a folder further down", "video that no row names"
    assert {each.what: each.reason for each in corpus.exclusions} == {
        "d": "label is no number: MOS 'oops'", "b": "dangling link: to nowhere.mp4", "c.mp4": below,
        "e": "no table of faces", "x.mp4": unnamed, "more/y.mp4": below, "loop.mp4": "loop of links",
        "z.csv": "features that no row names",
    }  # fmt: skip
    assert corpus.utterances["id"][:] == ["a"]
    assert "1 no table of faces" in caplog.text and f"x.mp4: {unnamed}" in caplog.text
    _, out, _ = affect("inspect", root, "--options", "videos=films", "boxes=faces")
    assert (
        f"left out: x.mp4: {unnamed}" in out and "left out: z.csv: " in out and "links: 1 lead out of the folder" in out
    )
    # What appears later is seen, although what was read is kept.
    (root / "films" / "late.mp4").symlink_to("nowhere.mp4")
    assert {each.what for each in read(root, videos="films").exclusions} >= {"late.mp4", "loop.mp4"}


def test_frames_that_no_row_names_are_left_out(tmp_path):
    (tmp_path / "mos.csv").write_text("Image,MOS\na,1\nb,2\nc,oops\n")
    (tmp_path / "frames.csv").write_text("clip,x\na,1\na,2\nc,3\nnobody,4\n")
    told = [(each.what, each.reason) for each in read(tmp_path, table="mos.csv", frames_of="frames.csv").exclusions]
    assert [what for what, _ in told] == ["c", "frames.csv: nobody"] and told[1][1] == "features that no row names"


def test_the_same_video_in_two_parts_is_refused_unless_that_is_allowed(tmp_path):
    parts = ["train", "train", "valid", "test"]
    (tmp_path / "mos.csv").write_text("Image,MOS,part\n" + "".join(f"c{k},{k},{p}\n" for k, p in enumerate(parts)))
    (tmp_path / "films").mkdir()
    for k in range(4):
        (tmp_path / "films" / f"c{k}.mp4").write_bytes(film(range(5 * (k % 3), 10 + 5 * (k % 3))))
    corpus = read(tmp_path, videos="films")
    words = "1 videos of the very same bytes are in two parts under two names: c0 (train) = c3 (test)"
    assert f"copies: {words}" in corpus.describe()
    with pytest.raises(AffectError) as caught:
        score_corpus.split(corpus, score_corpus.way(corpus), 1)
    assert str(caught.value) == f"score_table leaks: {words} (allow_shared accepts it)"
    assert score_corpus.split(corpus, score_corpus.way(corpus), 1, allow_shared=True)["test"]["id"][:] == ["c3"]


def test_several_tests_are_parts_by_their_names(tmp_path):
    for name in ("train", "val", "Test1", "test2"):
        (tmp_path / f"{name}.csv").write_text(f"Image,MOS,sharp\n{name}_a,1,2\n{name}_b,2,3\n")
    (tmp_path / "testimony.csv").write_text("who,what\na,b\n")
    corpus = read(tmp_path)
    assert corpus.parts == ("train", "valid", "test1", "test2")
    parts = score_corpus.split(corpus, score_corpus.way(corpus), 1)
    assert {name: part["id"][:] for name, part in parts.items()} == {
        "train": ["train_a", "train_b"], "valid": ["val_a", "val_b"], "test1": ["Test1_a", "Test1_b"],
        "test2": ["test2_a", "test2_b"],
    }  # fmt: skip
    (tmp_path / "Test1.csv").unlink()
    assert read(tmp_path).parts == ("train", "valid", "test"), "a single one is test"
    one = "Image,MOS,split\na,1,train\nb,2,dev\nc,3,Test-2\nd,4,test 1\n"
    (tmp_path / "one.csv").write_text(one)
    with pytest.raises(AffectError, match="the part 'test 1': of several tests each is a file's name, too"):
        read(tmp_path, table="one.csv")
    (tmp_path / "one.csv").write_text(one.replace("test 1", "TEST.1"))
    assert read(tmp_path, table="one.csv").parts == ("train", "valid", "test-2", "test.1")


def test_silent_and_still_clips_are_said(affect, tmp_path):
    noise = np.random.default_rng(0).integers(-9000, 9000, (1, 16_000)).astype(np.int16)
    films = {
        "talks": film(range(0, 100, 10), sound=noise, form="matroska"),
        "silent": film(range(0, 100, 10), sound=0 * noise, form="matroska"),
        "still": film([50] * 10, sound=noise, form="matroska"),
        "mute": film(range(0, 100, 10), form="matroska"),
        "short": film([50], sound=noise, form="matroska"),
    }
    (tmp_path / "mos.csv").write_text("Image,MOS\n" + "".join(f"{name},{k}\n" for k, name in enumerate(films)))
    (tmp_path / "films").mkdir()
    for name, made in films.items():
        (tmp_path / "films" / f"{name}.mkv").write_bytes(made)
    corpus = read(tmp_path, videos="films")
    assert (corpus.still, corpus.unmoved) == (("silent",), ("still",))
    assert [sign["kind"] for sign in corpus.signs()] == ["silent recordings", "still pictures"]
    _, out, _ = affect("inspect", tmp_path, "--options", "videos=films")
    assert "silent recordings: 1 of 5 recordings are silent or constant: silent\n" in out
    assert "still pictures: 1 of 5 videos show one picture throughout: still\n" in out
