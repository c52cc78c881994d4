import os

import pytest

from affect.data import container
from affect.data.corpus import Exclusion, summary
from affect.data.files import absence, files_below, leaving, open_file, read_bytes, unnamed, unreadable_name
from affect.errors import AffectError


@pytest.fixture
def folder(tmp_path):
    """A folder with every kind of thing that a recording's name may stand for, and one beside it."""
    root, other = tmp_path / "root", tmp_path / "other"
    for path in (root / "a.wav", root / "below" / "b.wav", other / "c.wav", other / "more" / "d.wav"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"sound")
    (root / "link.wav").symlink_to(other / "c.wav")
    (root / "more").symlink_to(other / "more")
    (root / "gone.wav").symlink_to("nowhere.wav")
    (root / "self.wav").symlink_to("self.wav")
    (root / "below" / "up").symlink_to("..")
    (root / "folder.wav").mkdir()
    os.mkfifo(root / "fifo.wav")
    (root / "._a.wav").write_bytes(b"attributes")
    return root


def sound(name):
    return name.endswith(".wav")


def test_files_below_a_folder_and_why_others_are_left_out(folder):
    paths, left_out = files_below(folder, sound)
    names = [path.relative_to(folder).as_posix() for path in paths]
    assert names == ["a.wav", "below/b.wav", "link.wav", "more/d.wav"]
    assert {each.what: each.reason for each in left_out} == {
        "below/up": f"loop of links: it leads to {folder}",
        "fifo.wav": "no file: a FIFO",
        "gone.wav": "dangling link: to nowhere.wav",
        "self.wav": "loop of links",
    }
    (line,) = leaving(folder, map(str, paths))
    assert line.startswith("links: 2 lead out of the folder, ") and "link.wav to " in line
    assert leaving(folder, [str(folder / "a.wav"), "", "/elsewhere/x.wav"]) == []


def test_names_that_are_no_text(tmp_path):
    os.close(os.open(bytes(tmp_path) + b"/\xff\xfe.wav", os.O_CREAT))
    paths, left_out = files_below(tmp_path, sound)
    assert paths == []
    assert left_out == [Exclusion(what="\\udcff\\udcfe.wav", reason="name that is no UTF-8")]
    assert left_out[0].what.encode() and unreadable_name("a\udcff") and not unreadable_name("ä")
    assert Exclusion(what="a\nb\x1b[0m", reason="x").what == "a\\nb\\x1b[0m"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a.wav", ""), ("none.wav", "missing sound"), ("gone.wav", "dangling link: to nowhere.wav"),
        ("self.wav", "loop of links"), ("fifo.wav", "no sound: a FIFO"), ("folder.wav", "no sound: a folder"),
        ("x" * 300, "missing sound: File name too long"), ("x\0y", "missing sound: no file has such a name"),
        ("a.wav/b", "missing sound: Not a directory"),
    ],
)  # fmt: skip
def test_why_there_is_no_file(folder, name, reason):
    assert absence(folder / name, "sound") == reason


@pytest.mark.parametrize("name", ["fifo.wav", "gone.wav", "self.wav", "none.wav", "x" * 300, "x\0y"])
def test_what_is_not_opened_is_one_line(folder, name):
    with pytest.raises(OSError, match=r".*"):
        read_bytes(folder / name)
    with pytest.raises(AffectError) as caught, container.opened(folder / name, "it", "audio"):
        pass
    assert str(caught.value).startswith("it: ") and "\n" not in str(caught.value)
    with open_file(folder / "link.wav") as file:
        assert file.read() == b"sound"


def test_what_nobody_names(folder):
    left_out = unnamed(folder, [folder / "a.wav", folder / "gone.wav", str(folder / "more" / "d.wav")], "not named")
    reasons = {each.what: each.reason for each in left_out}
    assert reasons.pop("below/b.wav") == reasons.pop("link.wav") == "not named"
    assert reasons.keys() == {"below/up", "fifo.wav", "self.wav"}


def test_three_examples_of_different_reasons():
    left_out = [Exclusion(what=f"{k}.wav", reason="missing") for k in range(4)]
    assert summary(left_out) == "4 missing; for example 0.wav: missing; 1.wav: missing; 2.wav: missing"
    left_out += [Exclusion(what="l.csv:7", reason="label is no number: valence '3,5'")]
    assert summary(left_out) == (
        "4 missing, 1 label is no number; for example "
        "0.wav: missing; l.csv:7: label is no number: valence '3,5'; 1.wav: missing"
    )
    assert summary([]) == ""
