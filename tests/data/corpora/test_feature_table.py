"""Features of the user's own: tables and parts in the forms that people have, and what is wrong with them."""

import shutil

import numpy as np
import pytest

from affect.data import corpora
from affect.data.corpora import detect
from affect.data.corpora.feature_table import read
from affect.data.feature_files import UNNAMED
from affect.errors import AffectError
from tests.tasks.multimodal_emotion import own

PARTS = {"test1": 3, "train": 6, "devel": 3, "MER-Noise": 4}
BOTH = {"audio": ["audio"], "text": ["text"]}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return own.write(tmp_path_factory.mktemp("own") / "c", PARTS)


@pytest.fixture
def root(made, tmp_path):
    return shutil.copytree(made, tmp_path / "c")


def edit(root, old, new, name="labels.csv"):
    text = (root / name).read_text()
    assert old in text
    (root / name).write_text(text.replace(old, new))


def by_part(corpus):
    return {part: len(corpus.indices(part)) for part in corpus.parts}


def test_parts_keep_their_names_and_are_each_one_stretch(made):
    corpus = read(made, **BOTH, scale=(-1, 1))
    assert by_part(corpus) == {"train": 6, "valid": 3, "test1": 3, "mer-noise": 4}
    assert all((np.diff(corpus.indices(part)) == 1).all() for part in corpus.parts)
    assert corpus.classes == own.CLASSES and corpus.scale == (-1, 1) and not corpus.inferred
    assert corpus.utterances["emotion"][:3] == ["calm", "glad", "sad"]
    file = made / "features" / "audio" / f"{corpus.utterances['id'][4]}.npy"
    np.testing.assert_array_equal(corpus.arrays[0][4], np.load(file))
    assert corpora.detect(made) == corpora.layout(detect(made)).name == corpus.name


@pytest.mark.parametrize("form", ["a CSV a part", "MER's files", "other names", "upper case and semicolons", "listed"])
def test_other_forms_say_the_same(made, root, tmp_path, form):
    known, options = read(made, **BOTH), {}
    text = (root / "labels.csv").read_text()
    head, *lines = text.splitlines()
    if form in ("a CSV a part", "MER's files"):
        (root / "labels.csv").unlink()
        head = "name,emotion,valence" if form == "a CSV a part" else "name,discrete,valence"
        for part in PARTS:
            rows = [line.rpartition(",")[0] for line in lines if line.startswith(part)]
            name = f"{part}.csv" if form == "a CSV a part" else f"{part}-label.csv"
            (root / name).write_text("\n".join([head, *rows]) + "\n")
        (root / "media.csv").write_text("name,audio,video,text\n")
        corpora.detect(root)
    elif form == "other names":
        edit(root, head, "segment,Emotion,label,mode")
        options = {"columns": {"name": "segment", "valence": "label", "part": "mode"}}
    elif form == "upper case and semicolons":
        (root / "labels.csv").write_text(text.replace(head, head.upper()).replace(",", ";"))
    else:
        root = own.write(tmp_path / "listed", PARTS, listed=True)
        assert corpora.detect(root) == known.name
    found = read(root, **BOTH, **options)
    order = [known.utterances["id"][:].index(name) for name in found.utterances["id"]]
    for column in ("emotion", "valence"):
        assert found.utterances[column][:] == [known.utterances[column][k] for k in order]
    assert {*found.parts} == {*known.parts} and found.classes == known.classes
    np.testing.assert_array_equal(found.arrays[1], known.arrays[1][order])
    if form != "a CSV a part" and form != "MER's files":
        assert found.fingerprint == known.fingerprint


def test_a_table_without_parts_is_all_training(root, caplog):
    own.table(root, [{"name": f"train_{k:02d}", "emotion": own.CLASSES[k % 3]} for k in range(6)], ("name", "emotion"))
    corpus = read(root, **BOTH)
    assert by_part(corpus) == {"train": 6}
    assert "names no parts: all of it is training, its folds validate, and there is no test" in caplog.text
    assert np.isnan(corpus.utterances["valence"][:]).all()


def test_a_listed_file_that_is_not_there_or_a_cell_without_one_is_missing(tmp_path):
    root = own.write(tmp_path / "c", {"train": 4}, listed=True)
    edit(root, "files/train_01-text.npy", "")
    (root / "files" / "train_02-text.npy").unlink()
    edit(root, "files/train_00-audio.npy", r"files\train_00-audio.npy")
    corpus = read(root, **BOTH)
    assert corpus.present.tolist() == [[True, True], [True, False], [True, False], [True, True]]
    assert [(e.what, e.reason) for e in corpus.exclusions] == [
        ("files/train_01-text.npy", UNNAMED),
        ("train_01", "absent feature file: text"), ("train_02", "absent feature file: text"),
    ]  # fmt: skip
    np.save(root / "files" / "train_03-text.npy", np.full(4, 7, np.float32))
    assert corpus.fingerprint != read(root, **BOTH).fingerprint, "a file that changes is read again"
    (root / "features" / "text").mkdir(parents=True)
    with pytest.raises(AffectError, match="has a folder features/text and a column of files 'text': rename"):
        read(root, **BOTH)


def test_classes_are_chosen_joined_and_ordered(root, caplog):
    corpus = read(root, **BOTH, classes=("sad", "glad+calm"))
    assert corpus.classes == ("sad", "glad")
    assert corpus.utterances["emotion"][:3] == ["glad", "glad", "sad"]
    corpus = read(root, **BOTH, classes=("sad", "calm"))
    assert corpus.utterances["emotion"][:3] == ["calm", "", "sad"]
    assert "emotions that are none of the classes count as missing: glad" in caplog.text
    with pytest.raises(AffectError, match="data.classes: no training utterance is 'happy'; there are: |did you mean"):
        read(root, **BOTH, classes=("sad", "happy"))


def test_a_class_of_a_test_alone_keeps_its_name(root):
    edit(root, "test1_02,sad", "test1_02,bored")
    edit(root, "test1_01,glad", "test1_01,None")
    corpus = read(root, **BOTH)
    assert corpus.classes == own.CLASSES
    assert [corpus.utterances["emotion"][k] for k in corpus.indices("test1")] == ["calm", "", "bored"]


def test_rows_in_no_part_are_exclusions(root):
    edit(root, "sad,0.666667,devel", "sad,0.666667,")
    corpus = read(root, **BOTH)
    assert [(e.what, e.reason) for e in corpus.exclusions] == [("devel_02", "in no part")]
    assert by_part(corpus)["valid"] == 2


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (",train\n", ",trian\n", r"labels.csv:5: the part 'trian' is none: did you mean 'train'\?"),
        (",test1\n", ",a/b\n", "labels.csv:2: 'a/b' can't name a part"),
        ("train_00", "x/y", "'x/y' is no name of an utterance"),
        ("train_01", "train_00", "utterance train_00 is at .*labels.csv:5, too: remove one"),
        ("train_00,calm,-0.666667", 'train_00,calm,"0,5"', "utterance train_00: label is no number: valence '0,5'"),
        ("train_00,calm,", "train_00,calm,extra,", "more cells than columns"),
        ("name,emotion", "file,emotion", "has no column 'name'; it has: file, emotion"),
        ("emotion,valence", "x,y", "has neither a column emotion nor valence"),
        (",train\n", ",test9\n", "has no utterance in train; its parts are: "),
    ],
)
def test_what_is_wrong_is_one_line(root, old, new, words):
    edit(root, old, new)
    with pytest.raises(AffectError, match=words) as error:
        read(root, **BOTH)
    assert "\n" not in str(error.value)


def test_decimal_commas_are_read_where_they_are_asked_for(root):
    wanted = read(root, **BOTH).utterances["valence"][:]
    table = (root / "labels.csv").read_text().replace(",", ";").replace(".", ",")
    (root / "labels.csv").write_text(table)
    with pytest.raises(AffectError, match="decimal commas"):
        read(root, **BOTH)
    assert read(root, **BOTH, decimal=",").utterances["valence"][:] == wanted


def test_a_scale_that_the_labels_leave_is_refused_and_one_not_given_is_inferred(root):
    with pytest.raises(AffectError, match="valence goes from -0.666667 to 0.666667, off the scale of 0 to 1"):
        read(root, **BOTH, scale=(0, 1))
    corpus = read(root, **BOTH)
    assert corpus.scale == (-1, 1) and corpus.inferred


def test_no_table_and_no_feature(root, tmp_path):
    with pytest.raises(AffectError, match="has no video feature 'face': there are: audio, text"):
        read(root, video=["face"])
    with pytest.raises(AffectError, match="has no file x.csv"):
        read(root, labels="x.csv")
    with pytest.raises(AffectError, match="has no labels.csv and no other CSV with the columns name and emotion"):
        read(tmp_path)
    with pytest.raises(AffectError, match="is not a folder"):
        read(tmp_path / "absent")


def test_a_table_of_recordings_beside_features_is_another_layout(root):
    edit(root, "name,emotion,valence,part", "id,emotion,path,speaker")
    assert detect(root) == "csv_folder"


def test_the_command_describes_it(affect, root):
    edit(root, "test1_02,sad", "test1_02,bored")
    for file in (root / "features" / "text").iterdir():
        np.save(file, np.ones(4, np.float32))
    code, out, _ = affect("inspect", root)
    assert code == 0
    for line in (
        "by part: train 6, valid 3, test1 3, mer-noise 4",
        "scale: -1 to 1, inferred: the narrowest usual one that holds the labels (--scale)",
        "emotion, test1: calm 1, glad 1, sad 0, bored 1",
        "class not trained: test1 has 'bored' (1), of which train has none",
        "constant features: text (text): 4 of its 4 numbers are the same in all 6 training vectors",
        "patterns, mer-noise: AT=1 (4)",
    ):
        assert line in out, line
    shutil.rmtree(root)
    own.write(root, {"train": 6, "far": 3}, columns=("name", "emotion", "part", "speaker"))
    edit(root, "far 0", "train 1")
    code, out, _ = affect("inspect", root)
    shared = "train and far share 1 of the speakers, 'train 1' for one, with 3 of the 3 rows of far"
    assert f"by speaker: train 2, far 1\n{shared}\n" in out
    shutil.rmtree(root)
    own.write(root, {"train": 6}, listed=True, columns=("name", "valence", "part"))
    code, out, _ = affect("inspect", root, "--audio-feature", "audio", "--scale", "-1", "1")
    assert code == 0 and "audio: 6 files, listed by a column" in out and "emotion," not in out


def test_columns_of_other_names_are_proposed_and_never_taken(affect, root, caplog):
    """By inspect, with the same mapping that training then takes, and where no file is called labels.csv."""
    edit(root, "name,emotion,valence,part", "Utt ID,EmoClass,Val,Split_Set")
    mapping = "--data.columns 'name=Utt ID' emotion=EmoClass valence=Val part=Split_Set"
    with pytest.raises(AffectError, match="has no column 'name'; it has: Utt ID.*; perhaps --data.columns") as caught:
        read(root, **BOTH)
    assert str(caught.value).endswith(mapping)
    assert detect(root) == "feature_table"
    (root / "labels.csv").rename(root / "mine.csv")
    code, out, _ = affect("inspect", root)
    assert code == 0
    assert f"columns: read as with {mapping}, which training needs" in out
    assert "by part: train 6, valid 3, test1 3, mer-noise 4" in out
    columns = {"name": "Utt ID", "emotion": "EmoClass", "valence": "Val"}
    assert by_part(read(root, **BOTH, columns={**columns, "part": "Split_Set"}))["valid"] == 3
    caplog.clear()
    read(root, **BOTH, columns=columns)
    assert "there is no test; perhaps --data.columns part=Split_Set" in caplog.text


def test_rows_and_exclusions_are_what_the_folder_holds(affect, root, tmp_path, caplog):
    edit(root, "train_05,glad" if "train_05,glad" in (root / "labels.csv").read_text() else "train_05,sad", "other,sad")
    with (root / "labels.csv").open("a", encoding="utf-8") as table:
        table.write("spare,sad,0,\n")
    for name in ("spare", "nobody"):
        np.save(root / "features" / "audio" / f"{name}.npy", np.ones(5, np.float32))
    shutil.move(root / "features" / "text" / "train_00.npy", tmp_path / "away.npy")
    (root / "features" / "text" / "train_00.npy").symlink_to(tmp_path / "away.npy")
    (root / "features" / "text" / "train_01.npy").unlink()
    (root / "features" / "text" / "train_01.npy").symlink_to("nowhere.npy")
    corpus = read(root, **BOTH)
    assert {(each.what, each.reason) for each in corpus.exclusions} == {
        ("spare", "in no part"), ("audio/nobody.npy", UNNAMED), ("audio/train_05.npy", UNNAMED),
        ("text/train_05.npy", UNNAMED), ("train_01", "dangling link: to nowhere.npy"),
        ("other", "absent feature file: audio"), ("other", "absent feature file: text"),
    }  # fmt: skip
    assert "feature_table: 16 utterances, 4 exclusions (3 feature file that no row names, 1 in no part" in caplog.text
    _, out, _ = affect("inspect", root)
    assert "  3 feature file that no row names\n" in out and "audio/nobody.npy: feature file that no row names" in out
    assert f"links: 1 lead out of the folder, {root}/features/text/train_00.npy to {tmp_path}/away.npy for one" in out
