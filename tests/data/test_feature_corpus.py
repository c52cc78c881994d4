import io
import multiprocessing
import os

import numpy as np
import pyarrow as pa
import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from affect.data import feature_corpus
from affect.data.feature_corpus import ABSENT, PRESENT, ZERO, FeatureCorpus, Stream, read_frames, read_table
from affect.data.feature_files import UNNAMED
from affect.errors import AffectError

NAMES = ("a", "b", "c")


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "features" / "hubert"
    place.mkdir(parents=True)
    return place


def save(folder, name, value, dtype=np.float32):
    np.save(folder / f"{name}.npy", np.asarray(value, dtype))


def fill(folder, **values):
    for name, value in values.items():
        save(folder, name, value)


def message(caught) -> str:
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_vectors_sequences_and_folders_of_frames(folder, tmp_path):
    save(folder, "a", [1.0, 2.0])
    save(folder, "b", [[1.0, 2.0], [2.0, 4.0], [6.0, 0.0]])
    (folder / "c").mkdir()
    for number, frame in (("0", [1.0, 1.0]), ("1", [[2.0, 4.0], [3.0, 7.0]])):
        save(folder / "c", number, frame)
    (folder / "c" / "._0.npy").write_bytes(b"what a file manager leaves")
    (folder / "c" / "notes.txt").write_text("not a frame")
    table = read_table(folder, NAMES, tmp_path / "cache")
    np.testing.assert_array_equal(table.values, np.array([[1, 2], [3, 2], [2, 4]], np.float32))
    assert table.values.dtype == np.float32
    assert table.states.tolist() == [PRESENT, PRESENT, PRESENT]


def test_zero_vectors_empty_ones_and_absent_files(folder, tmp_path):
    fill(folder, a=[0.0, -0.0], b=[0.0, 1e-30])
    np.save(folder / "d.npy", np.zeros((0, 2), np.float32))
    (folder / "e").mkdir()
    save(folder, "f", np.zeros((4, 2)))
    table = read_table(folder, ("a", "b", "c", "d", "e", "f"), tmp_path / "cache")
    assert table.states.tolist() == [ZERO, PRESENT, ABSENT, ZERO, ZERO, ZERO]
    assert not table.values[[0, 2, 3, 4, 5]].any()


@pytest.mark.parametrize(
    ("kinds", "kept"),
    [
        (("f2", "f2"), "f2"),
        (("f2", "f4"), "f4"),
        (("f8", "f2"), "f4"),
        ((">f4", ">f2"), "f4"),
        ((">f2", "f2"), "f2"),
    ],
)
def test_precision_is_the_files_own(folder, tmp_path, kinds, kept):
    values = np.array([[0.1, 60000.0, -2.5]] * 2)
    for name, row, kind in zip("ab", values, kinds, strict=True):
        save(folder, name, row, kind)
    table = read_table(folder, ("a", "b"), tmp_path / "cache")
    assert table.values.dtype == np.dtype(kept)
    for row, value, kind in zip(table.values, values, kinds, strict=True):
        np.testing.assert_array_equal(row, value.astype(kind).astype(kept))


def test_the_mean_of_halves_does_not_overflow(folder, tmp_path):
    save(folder, "a", np.full((5000, 2), 60000.0), np.float16)
    table = read_table(folder, ("a",), tmp_path / "cache")
    np.testing.assert_array_equal(table.values, np.full((1, 2), 60000.0, np.float16))


@given(
    arrays.arrays(
        st.sampled_from([np.float16, np.float32]),
        st.tuples(st.integers(1, 5), st.integers(1, 4)),
        elements=st.floats(-1000, 1000, width=16),
    ),
    st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_frames_come_back_in_either_order(tmp_path_factory, frames, fortran):
    path = tmp_path_factory.getbasetemp() / "frames.npy"
    np.save(path, np.asfortranarray(frames) if fortran else frames)
    found = read_frames(path)
    np.testing.assert_array_equal(found, np.load(path))
    assert found.dtype == frames.dtype


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.array([1.0, np.nan], np.float32), ["holds NaN or infinite values"]),
        (np.array([1.0, np.inf], np.float16), ["holds NaN or infinite values"]),
        (np.array([1e300, 1.0]), ["holds NaN or infinite values"]),
        (np.array([1, 2]), ["holds int64, not float16, float32 or float64"]),
        (np.array([True, False]), ["holds bool, not float16"]),
        (np.array([1j, 2]), ["holds complex128, not"]),
        (np.array(["a"]), ["holds <U1, not"]),
        (np.array([1.0], np.longdouble), ["not float16, float32 or float64"]),
        (np.zeros((1, 2, 3), np.float32), ["[1, 2, 3]", "a vector [D] or frames [T, D]"]),
        (np.array(1.0), ["has the shape []"]),
        (np.zeros(0, np.float32), ["has the shape [0]"]),
        (np.zeros((3, 0), np.float32), ["has the shape [3, 0]"]),
    ],
)
def test_arrays_that_are_no_feature_are_one_line(folder, tmp_path, value, words):
    fill(folder, a=[1.0, 2.0])
    np.save(folder / "b.npy", value)
    with pytest.raises(AffectError) as caught:
        read_table(folder, NAMES, tmp_path / "cache")
    assert all(word in message(caught) for word in ["hubert/b.npy", *words])
    assert not list((tmp_path / "cache").rglob("*.arrow"))


def test_an_object_array_is_refused_and_its_pickle_not_read(folder, tmp_path, monkeypatch):
    class Call:
        def __reduce__(self):
            return os.mkdir, ("gone",)

    monkeypatch.chdir(tmp_path)
    np.save(folder / "a.npy", np.array([Call()], dtype=object), allow_pickle=True)
    with pytest.raises(AffectError, match=r"a\.npy holds Python objects"):
        read_table(folder, ("a",), tmp_path / "cache")
    assert not (tmp_path / "gone").exists()


def _npy(value) -> bytes:
    stream = io.BytesIO()
    np.save(stream, value)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no readable npy file"),
        (b"garbage" * 40, "no readable npy file"),
        (_npy(np.ones(4, np.float32))[:60], "no readable npy file"),
        (_npy(np.ones(4, np.float32))[:-1], "is damaged: 15 bytes where its header promises 16"),
        (_npy(np.ones(4, np.float32)) + b"x", "is damaged: 17 bytes where its header promises 16"),
        (_npy(np.ones(4, np.float32)).replace(b"(4,)", b"(4, "), "no readable npy file"),
        (_npy(np.ones(4, np.float32)).replace(b"(4,), }     ", b"(-2,-2), }  "), "no readable npy file"),
        (_npy(np.ones(4, np.float32)).replace(b"(4,), }           ", b"(4000000000,), }  "), "damaged"),
    ],
)
def test_damaged_files_are_one_line(folder, tmp_path, content, words):
    (folder / "a.npy").write_bytes(content)
    with pytest.raises(AffectError) as caught:
        read_table(folder, ("a",), tmp_path / "cache")
    assert words in message(caught)
    assert "a.npy" in message(caught)


def test_files_that_differ_in_width_are_both_named(folder, tmp_path):
    fill(folder, a=[0.0, 0.0], b=[1.0, 2.0, 3.0])
    with pytest.raises(AffectError) as caught:
        read_table(folder, NAMES, tmp_path / "cache")
    assert all(word in message(caught) for word in ("b.npy has 3 numbers", "a.npy has 2"))
    (folder / "b.npy").unlink()
    (folder / "b").mkdir()
    fill(folder / "b", x=[1.0, 2.0], y=[1.0])
    with pytest.raises(AffectError) as caught:
        read_table(folder, NAMES, tmp_path / "cache")
    assert all(word in message(caught) for word in ("b/y.npy has 1 number,", "b/x.npy has 2"))


def test_folders_that_cannot_be_read(folder, tmp_path):
    with pytest.raises(AffectError, match="hubert has no file of any of the 3 utterances"):
        read_table(folder, NAMES, tmp_path / "cache")
    with pytest.raises(AffectError, match=r"absent cannot be read \(No such file"):
        read_table(folder.parent / "absent", NAMES, tmp_path / "cache")
    fill(folder, a=[1.0])
    (folder / "a").mkdir()
    with pytest.raises(AffectError, match=r"has both a\.npy and a folder a"):
        read_table(folder, NAMES, tmp_path / "cache")
    (folder / "a").rmdir()


def test_what_nobody_names_and_links_that_lead_nowhere_are_left_out_with_the_reason(folder, tmp_path):
    fill(folder, a=[1.0, 2.0], x=[1.0])
    (folder / "b.npy").symlink_to("nowhere.npy")
    (folder / "c.npy").symlink_to("c.npy")
    os.mkfifo(folder / "d.npy")
    (folder / "e").symlink_to(".")
    (folder / "f" / "deep").mkdir(parents=True)
    fill(folder / "f", first=[1.0, 2.0])
    fill(folder / "f" / "deep", second=[9.0, 9.0])
    (folder / "f" / "gone.npy").symlink_to("nowhere")
    (folder / "y").mkdir()
    fill(folder / "y", first=[1.0], second=[1.0])
    (folder / "z.npy").symlink_to("nowhere")
    (folder / "manifest.json").write_text("{}")
    table = read_table(folder, tuple("abcdef"), tmp_path / "cache")
    assert table.states.tolist() == [PRESENT, ABSENT, ABSENT, ABSENT, ABSENT, PRESENT]
    assert table.values[5].tolist() == [1, 2]
    assert table.reasons == {
        "b": "dangling link: to nowhere.npy", "c": "loop of links", "d": "no file: a FIFO",
        "e": f"loop of links: it leads to {os.path.realpath(folder)}",
    }  # fmt: skip
    assert {each.what: each.reason for each in table.left_out} == {
        "hubert/x.npy": UNNAMED, "hubert/y": UNNAMED, "hubert/f/deep/second.npy": UNNAMED,
        "hubert/f/gone.npy": "dangling link: to nowhere", "hubert/z.npy": "dangling link: to nowhere",
    }  # fmt: skip


def test_links_of_listed_files_that_lead_nowhere_are_told(folder, tmp_path):
    fill(folder, a=[1.0, 2.0])
    (folder / "b.npy").symlink_to("nowhere.npy")
    paths = [str(folder / "a.npy"), str(folder / "b.npy"), str(folder / "gone.npy")]
    table = read_table(folder, NAMES, tmp_path / "cache", paths)
    assert table.states.tolist() == [PRESENT, ABSENT, ABSENT]
    assert table.reasons == {"b": "dangling link: to nowhere.npy"} and not table.left_out


def test_a_second_reading_opens_no_feature_and_maps_the_file(folder, tmp_path, monkeypatch):
    fill(folder, a=[1.0, 2.0], b=[3.0, 4.0])
    first = read_table(folder, NAMES, tmp_path / "cache")

    def refuse(path):
        raise AssertionError(f"{path} is read again")

    monkeypatch.setattr(feature_corpus, "read_frames", refuse)
    allocated = pa.total_allocated_bytes()
    second = read_table(folder, NAMES, tmp_path / "cache")
    assert pa.total_allocated_bytes() == allocated, "mapped, not copied"
    np.testing.assert_array_equal(first.values, second.values)
    assert second.states.tolist() == [PRESENT, PRESENT, ABSENT]
    assert first.digest == second.digest
    assert not second.values.flags.writeable
    assert second.values.flags.c_contiguous


@pytest.mark.parametrize("change", ["value", "new", "gone", "frame", "names"])
def test_a_change_is_seen(folder, tmp_path, change):
    fill(folder, a=[1.0, 2.0], b=[3.0, 4.0])
    (folder / "d").mkdir()
    fill(folder / "d", x=[1.0, 1.0])
    names = ("a", "b", "c", "d")
    before = read_table(folder, names, tmp_path / "cache")
    expected = np.array([[1, 2], [3, 4], [0, 0], [1, 1]], np.float32)
    np.testing.assert_array_equal(before.values, expected)
    if change == "value":
        fill(folder, a=[5.0, 2.0])
        os.utime(folder / "a.npy", ns=(1, 1))
        expected[0, 0] = 5
    if change == "new":
        fill(folder, c=[7.0, 7.0])
        expected[2] = 7
    if change == "gone":
        (folder / "b.npy").unlink()
        expected[1] = 0
    if change == "frame":
        fill(folder / "d", y=[3.0, 3.0])
        expected[3] = 2
    if change == "names":
        names, expected = names[::-1], expected[::-1]
    after = read_table(folder, names, tmp_path / "cache")
    np.testing.assert_array_equal(after.values, expected)
    assert after.digest != before.digest
    assert len(list((tmp_path / "cache").rglob("*.arrow"))) == (2 if change == "names" else 1)


@pytest.mark.parametrize("damage", [b"", b"garbage", None])
def test_a_damaged_table_is_made_again(folder, tmp_path, caplog, damage):
    fill(folder, a=[1.0, 2.0], b=[3.0, 4.0])
    digest = read_table(folder, NAMES, tmp_path / "cache").digest
    (path,) = (tmp_path / "cache").rglob("table.arrow")
    path.write_bytes(path.read_bytes()[:-30] if damage is None else damage)
    assert read_table(folder, NAMES, tmp_path / "cache").digest == digest
    assert "is unreadable and will be made again" in caplog.text


def _read(folder, cache, queue):
    table = read_table(folder, [f"u{k}" for k in range(300)], cache)
    queue.put((float(table.values.sum()), table.digest))


def test_two_processes_at_once(folder, tmp_path):
    for k in range(300):
        save(folder, f"u{k}", [k, 1.0])
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    readers = [context.Process(target=_read, args=(folder, tmp_path / "cache", queue)) for _ in range(2)]
    for reader in readers:
        reader.start()
    found = {queue.get(timeout=60) for _ in readers}
    for reader in readers:
        reader.join(timeout=60)
    assert [total for total, _ in found] == [300 * 299 / 2 + 300]
    assert [path.name for path in (tmp_path / "cache").rglob("*") if path.is_file()] in (
        ["table.arrow", ".lock"],
        [".lock", "table.arrow"],
        ["table.arrow"],
    )


def test_a_cache_that_cannot_be_written(folder, tmp_path):
    fill(folder, a=[1.0])
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(AffectError, match="AFFECT_CACHE"):
        read_table(folder, ("a",), tmp_path / "cache")


def corpus(*streams: Stream) -> FeatureCorpus:
    return FeatureCorpus(
        name="toy",
        fingerprint="0",
        labelled="1",
        scale=(-5.0, 5.0),
        classes=("sad", "happy"),
        utterances=Dataset.from_dict({"id": ["a", "b", "c"], "part": ["train", "test1", "train"]}),
        streams=streams,
        present=np.ones((3, len(streams)), bool),
        absent=np.zeros((3, len(streams)), bool),
        arrays=tuple(np.full((3, stream.width), k, np.float32) for k, stream in enumerate(streams)),
    )


def test_keys_rows_and_values():
    made = corpus(Stream("audio", "x", 2), Stream("audio", "y", 3), Stream("text", "z", 1), Stream("audio", "w", 1))
    assert made.keys == ("audio", "audio_2", "text", "audio_3")
    assert made.arrays[1].shape == (3, 3)
    assert made.arrays[3][0, 0] == 3
    assert made.indices("train").tolist() == [0, 2]
    assert made.indices("test1").tolist() == [1]
    with pytest.raises(AffectError, match="toy has no part 'test'"):
        made.indices("test")
