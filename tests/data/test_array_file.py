import io
import struct

import numpy as np
import pytest

from affect.data.array_file import read_array, read_arrays
from affect.data.feature_corpus import read_frames
from affect.errors import AffectError


def npy(header, data=b"", version=(1, 0)):
    text = header.encode("latin-1")
    size = struct.pack("<H" if version == (1, 0) else "<I", len(text))
    return b"\x93NUMPY" + bytes(version) + size + text + data


def dumped(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


GOOD = "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }"
HEADERS = {
    "nothing": b"", "garbage": b"garbage" * 9, "magic alone": b"\x93NUMPY", "no header": b"\x93NUMPY\x01\x00",
    "version 9": npy(GOOD, bytes(8), (9, 0)), "cut header": npy(GOOD)[:30], "cut data": npy(GOOD, bytes(7)),
    "more data": npy(GOOD, bytes(9)), "no dictionary": npy("[1, 2]"), "a name": npy("x"), "a call": npy("exit()"),
    "unbalanced": npy("{'descr': ("), "deep": npy("(" * 9000), "no type": npy(GOOD.replace("'<f4'", "'<q9'")),
    "type of nothing": npy(GOOD.replace("'<f4'", "()")), "type of numbers": npy(GOOD.replace("'<f4'", "5")),
    "type of none": npy(GOOD.replace("'<f4'", "None")), "type of one": npy(GOOD.replace("'<f4'", "[('a',)]")),
    "type of a tuple": npy(GOOD.replace("'<f4'", "('<f4',)")),
    "type of a table": npy(GOOD.replace("'<f4'", "{'a': 1}")),
    "no bytes": npy("\xff\xfe"), "null": npy("\0\0"), "keys": npy("{'descr': '<f4', 'shape': (2,)}"),
    "more keys": npy(GOOD[:-1] + "'x': 1}"), "shape of text": npy(GOOD.replace("(2,)", "'2'")),
    "a half": npy(GOOD.replace("(2,)", "(2.5,)")), "below": npy(GOOD.replace("(2,)", "(-2, -1)"), bytes(8)),
    "huge": npy(GOOD.replace("(2,)", f"({2**62}, {2**62})")),
    "huge and empty": npy(GOOD.replace("(2,)", f"(0, {2**63})")),
    "too many sides": npy(GOOD.replace("(2,)", repr((1,) * 99)), bytes(4)), "order": npy(GOOD.replace("False", "'x'")),
    "long": npy(GOOD + " " * 20_000, bytes(8), (2, 0)),
    "complex": dumped(np.ones(2, np.complex64)), "dates": dumped(np.zeros(2, "M8[s]")),
    "spans": dumped(np.zeros(2, "m8[D]")),
    "records": dumped(np.zeros(2, [("a", "f4"), ("b", "f4")])), "texts": dumped(np.array(["1", "2"])),
    "bytes": dumped(np.array([b"1"])), "void": dumped(np.zeros(2, "V4")),
    "objects": npy(GOOD.replace("<f4", "|O"), b"\x80\x04N."),
}  # fmt: skip


@pytest.mark.parametrize("name", HEADERS)
def test_every_header_is_one_line(tmp_path, name):
    path = tmp_path / "a.npy"
    path.write_bytes(HEADERS[name])
    for read in (read_array, read_frames):
        with pytest.raises(AffectError) as caught:
            read(path)
        assert "a.npy" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["f2", "<f4", ">f4", "f8", "i8", "u1", "?"])
def test_numbers_are_read(tmp_path, kind):
    array = np.arange(6).reshape(2, 3).astype(kind)
    for order in "CF":
        np.save(tmp_path / "a.npy", np.asarray(array, order=order))
        np.testing.assert_array_equal(read_array(tmp_path / "a.npy"), array)
    np.savez(tmp_path / "a.npz", x=array, y=array[0], z=np.array(["text"]))
    arrays = read_arrays(tmp_path / "a.npz", ("y", "x", "none"))
    assert [*arrays] == ["y", "x"] and arrays["x"].dtype == array.dtype
    with pytest.raises(AffectError, match="a.npz, z holds <U4, not float16"):
        read_arrays(tmp_path / "a.npz", ("z",))


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"no zip", npy(GOOD, bytes(8))])
def test_what_is_no_npz(tmp_path, data):
    (tmp_path / "a.npz").write_bytes(data)
    with pytest.raises(AffectError, match="no readable npz file") as caught:
        read_arrays(tmp_path / "a.npz", ("x",))
    assert "\n" not in str(caught.value)
