import builtins
import codecs
import io
import os
import pickle
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affect.data import label_file
from affect.data.label_file import read_labels
from affect.errors import AffectError

LABELS = {"a_1": {"emo": "happy", "val": 1.25}, "b_2": {"emo": "", "val": -10}}


def npy(payload: bytes, shape: str = "()", descr: str = "|O") -> bytes:
    """Return an npy file of version 1.0 whose data are these bytes."""
    head = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}"
    head = head.ljust(-(-(len(head) + 11) // 64) * 64 - 11) + "\n"
    return b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head.encode() + payload


def write(path, payload: bytes, shape: str = "()", descr: str = "|O"):
    """Write an npz file with one array `train_corpus` whose data are these bytes."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("train_corpus.npy", npy(payload, shape, descr))
    return path


def array(value: object) -> np.ndarray:
    return np.array(value, dtype=object)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_what_numpy_writes_is_read(tmp_path, save):
    save(tmp_path / "l.npz", train_corpus=array(LABELS), test1_corpus=array({}))
    assert read_labels(tmp_path / "l.npz") == {"train_corpus": LABELS, "test1_corpus": {}}
    assert read_labels(tmp_path / "l.npz", ["test1_corpus"]) == {"test1_corpus": {}}
    with np.load(tmp_path / "l.npz", allow_pickle=True) as reference:
        assert read_labels(tmp_path / "l.npz")["train_corpus"] == reference["train_corpus"].item()


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("module", [b"numpy.core.multiarray", b"numpy._core.multiarray"])
def test_both_names_of_numpys_core_and_every_protocol(tmp_path, protocol, module):
    """numpy 1 calls its functions numpy.core, numpy 2 numpy._core; a name's length stands before it in protocol 4."""
    mixed = {"x": {"emo": np.str_("sad"), "val": np.float64(-1.5)}, "y": {"emo": "sad", "val": np.float32(0.25)}}
    payload = pickle.dumps(array(mixed), protocol=protocol)
    theirs = b"numpy._core.multiarray" if b"numpy._core" in payload else b"numpy.core.multiarray"
    if protocol >= 4:
        frame = len(module) - len(theirs)
        payload = payload.replace(b"\x8c" + bytes([len(theirs)]) + theirs, b"\x8c" + bytes([len(module)]) + module)
        size = int.from_bytes(payload[3:11], "little") + frame * payload.count(module)
        payload = payload[:3] + size.to_bytes(8, "little") + payload[11:]
    payload = payload.replace(theirs, module) if protocol < 4 else payload
    assert module in payload
    found = read_labels(write(tmp_path / "l.npz", payload))["train_corpus"]
    assert found == {"x": {"emo": "sad", "val": -1.5}, "y": {"emo": "sad", "val": 0.25}}
    assert type(found["x"]["emo"]) is str
    assert type(found["x"]["val"]) is float


@given(
    st.dictionaries(
        st.text(max_size=8),
        st.fixed_dictionaries(
            {"emo": st.text(max_size=8), "val": st.floats(allow_nan=False) | st.integers(-10, 5)},
        ),
        max_size=6,
    ),
    st.sampled_from([float, np.float16, np.float32, np.dtype(">f8").type, np.int8, np.uint16, np.int64]),
)
@settings(max_examples=60, deadline=None)
def test_any_labels_come_back(tmp_path_factory, labels, kind):
    made = {name: {"emo": own["emo"], "val": own["val"] if kind is float else kind(3)} for name, own in labels.items()}
    path = tmp_path_factory.mktemp("l") / "l.npz"
    np.savez(path, train_corpus=array(made))
    assert read_labels(path)["train_corpus"] == made


class Call:
    """Pickles as a call of a function with these arguments."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (os.system, "posix.system"),
        (builtins.eval, ".eval"),
        (builtins.open, "io.open"),
        (os.mkdir, "posix.mkdir"),
        (codecs.open, "codecs.open"),
        (np.load, "numpy.load"),
        (np.save, "numpy.save"),
        (pickle.loads, "pickle.loads"),
    ],
)
@pytest.mark.parametrize("protocol", [2, 4])
def test_a_malicious_pickle_is_refused_and_executes_nothing(tmp_path, monkeypatch, function, words, protocol):
    monkeypatch.chdir(tmp_path)
    arguments = {
        os.system: ("touch gone",),
        builtins.eval: ("open('gone', 'w')",),
        builtins.open: ("gone", "w"),
        os.mkdir: ("gone",),
        codecs.open: ("gone", "w"),
        np.load: ("l.npz",),
        np.save: ("gone", [1]),
        pickle.loads: (pickle.dumps(Call(os.mkdir, "gone")),),
    }[function]
    evil = array({"a": {"emo": Call(function, *arguments), "val": 0.0}})
    path = write(tmp_path / "l.npz", pickle.dumps(evil, protocol=protocol))
    with pytest.raises(AffectError, match="was refused") as caught:
        read_labels(path)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [file.name for file in tmp_path.iterdir()] == ["l.npz"]


def test_the_malicious_pickle_would_have_worked(tmp_path, monkeypatch):
    """What the test above refuses does create a file where pickles are trusted."""
    monkeypatch.chdir(tmp_path)
    evil = array({"a": {"emo": Call(os.mkdir, "gone"), "val": 0.0}})
    np.load(write(tmp_path / "l.npz", pickle.dumps(evil)), allow_pickle=True)["train_corpus"]
    assert (tmp_path / "gone").is_dir()


def _global(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


MAKE = _global("numpy.core.multiarray", "_reconstruct")
ARRAY = MAKE + _global("numpy", "ndarray") + b"(K\x00tC\x01b\x87R"
DTYPE = _global("numpy", "dtype")
SCALAR = _global("numpy.core.multiarray", "scalar")


@pytest.mark.parametrize(
    "payload",
    [
        # numpy.ndarray(10 ** 9) and an array that starts with a billion entries
        _global("numpy", "ndarray") + b"J\x00\xca\x9a\x3b\x85R",
        _global("numpy.core.multiarray", "_reconstruct")
        + _global("numpy", "ndarray")
        + b"J\x00\xca\x9a\x3b\x85C\x01b\x87R",
        # a state that says object and gives bytes: numpy would take them for addresses
        ARRAY + b"(K\x01)" + DTYPE + b"\x8c\x01O\x85R\x89C\x08AAAAAAAAtb",
        # an object as a scalar: likewise
        SCALAR + DTYPE + b"\x8c\x01O\x85RC\x08AAAAAAAA\x86R",
        SCALAR + DTYPE + b"\x8c\x02V8\x85RC\x08AAAAAAAA\x86R",
        SCALAR + DTYPE + b"\x8c\x02f8\x85RC\x01A\x86R",
        SCALAR + b"K\x01K\x02\x86R",
        DTYPE + b"K\x01\x85R",
        _global("_codecs", "encode") + b"\x8c\x01a\x8c\x03hex\x86R",
        # attributes of an admitted name, a class of one, an array that was never filled, a foreign reference
        _global("numpy", "ndarray") + b"N}\x8c\x09__class__K\x01s\x86b",
        _global("numpy", "ndarray") + b")\x81",
        ARRAY,
        b"\x8c\x01aQ",
        b"P1\n",
        b"]",
        b"}",
        b"\x82\x01",
        # an object remembered under a number for which a list of 16 GB would be made
        b"]r\x00\x00\x00\x40",
        b"]p1000000000\n",
        b"",
        b"K",
    ],
)
def test_crafted_pickles_are_one_line(tmp_path, payload):
    with pytest.raises(AffectError) as caught:
        read_labels(write(tmp_path / "l.npz", b"\x80\x04" + payload + b"."))
    assert "l.npz, train_corpus" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b"\x8c\x02O8", b"\x8c\x02f8", "not a single object"),
        (b"K\x00\x85", b"K\x01\x85", "does not start empty"),
        (b"C\x01b", b"C\x01x", "does not start empty"),
        (b"K\x01)", b"K\x01]", "not a single object"),
    ],
)
def test_an_array_is_all_that_it_should_be(tmp_path, old, new, words):
    """The labels of each of these are whole; only what is around them is not what numpy writes."""
    payload = pickle.dumps(array(LABELS), protocol=4)
    assert payload.count(old) == 1
    with pytest.raises(AffectError, match=words):
        read_labels(write(tmp_path / "l.npz", payload.replace(old, new)))


def test_a_pickle_cannot_change_what_the_next_one_gets(tmp_path):
    payload = MAKE + b"N}\x8c\x08__call__K\x01s\x86b."
    with pytest.raises(AffectError):
        read_labels(write(tmp_path / "bad.npz", b"\x80\x04" + payload))
    np.savez(tmp_path / "good.npz", train_corpus=array(LABELS))
    assert read_labels(tmp_path / "good.npz")["train_corpus"] == LABELS


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_damaged_pickles_are_one_line_or_labels(tmp_path_factory, data):
    payload = bytearray(pickle.dumps(array(LABELS), protocol=data.draw(st.sampled_from([2, 3, 4]))))
    for _ in range(data.draw(st.integers(1, 3))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    path = write(tmp_path_factory.getbasetemp() / "damaged.npz", bytes(payload))
    try:
        found = read_labels(path)["train_corpus"]
    except AffectError as error:
        assert "\n" not in str(error)  # noqa: PT017
    else:
        assert all(type(own) is dict for own in found.values())


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([LABELS, LABELS], r"shape \[2\]"),
        ("words", "no dictionary of a dictionary"),
        ({"a": 1}, "no dictionary of a dictionary"),
        ({1: {}}, "no dictionary of a dictionary"),
    ],
)
def test_other_objects(tmp_path, value, message):
    np.savez(tmp_path / "l.npz", train_corpus=array(value))
    with pytest.raises(AffectError, match=message):
        read_labels(tmp_path / "l.npz")


def test_numbers_are_no_labels(tmp_path):
    np.savez(tmp_path / "l.npz", train_corpus=np.zeros(3))
    with pytest.raises(AffectError, match="array of float64"):
        read_labels(tmp_path / "l.npz")
    np.savez(tmp_path / "l.npz", other=np.zeros(3), train_corpus=array(LABELS))
    assert read_labels(tmp_path / "l.npz", ["train_corpus"])["train_corpus"] == LABELS


def test_files_that_are_no_npz(tmp_path, monkeypatch):
    path = tmp_path / "l.npz"
    with pytest.raises(AffectError, match=r"cannot be read \(No such file"):
        read_labels(path)
    whole = io.BytesIO()
    np.savez(whole, train_corpus=array(LABELS))
    for content in (b"", b"garbage", b"PK\x03\x04" + b"\0" * 100, whole.getvalue()[:-40], whole.getvalue()[:100]):
        path.write_bytes(content)
        with pytest.raises(AffectError, match="no readable npz file") as caught:
            read_labels(path)
        assert "\n" not in str(caught.value)
    path.write_bytes(whole.getvalue())
    with pytest.raises(AffectError, match="has no array 'test1_corpus'; it has: train_corpus"):
        read_labels(path, ["test1_corpus"])
    monkeypatch.setattr(label_file, "MOST", 200)
    with pytest.raises(AffectError, match="is larger than"):
        read_labels(path)


@pytest.mark.parametrize("packing", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
def test_a_zip_bomb_is_refused_unopened(tmp_path, packing):
    path = tmp_path / "l.npz"
    with zipfile.ZipFile(path, "w", packing) as archive:
        archive.writestr("train_corpus.npy", b"\0" * (label_file.MOST + 1))
    assert path.stat().st_size < 100_000
    with pytest.raises(AffectError, match="unpacks to more than 32 MiB"):
        read_labels(path)


def test_a_zip_that_lies_about_its_size(tmp_path):
    """An entry that says 10 bytes and holds a gigabyte's worth gives 10 bytes and then its check fails."""
    path = tmp_path / "l.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("train_corpus.npy", b"\0" * 2**20)
    data = path.read_bytes()
    path.write_bytes(data.replace((2**20).to_bytes(4, "little"), (10).to_bytes(4, "little")))
    with pytest.raises(AffectError, match="no readable npz file"):
        read_labels(path)


def test_an_array_that_is_none(tmp_path):
    with zipfile.ZipFile(tmp_path / "l.npz", "w") as archive:
        archive.writestr("train_corpus.npy", b"not numpy's")
    with pytest.raises(AffectError, match="l.npz, train_corpus is no array"):
        read_labels(tmp_path / "l.npz")
