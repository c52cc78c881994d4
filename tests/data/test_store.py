import pickle
import resource
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from affect.data import store
from affect.data.store import Feature, Store
from affect.errors import AffectError

FLOATS = ("float16", "float32", "float64")


def ragged(count=12, width=5, seed=0):
    random = np.random.default_rng(seed)
    return [(f"r{k:02d}", {"x": random.standard_normal((k % 4, width)).astype(np.float32)}) for k in range(count)]


def message(caught) -> str:
    assert "\n" not in str(caught.value)
    return str(caught.value)


@st.composite
def stores(draw):
    """Features of any type and rank, and rows that have some of them."""
    features = {
        name: Feature(draw(st.sampled_from(FLOATS)), draw(st.integers(0, 4)))
        for name in draw(st.lists(st.sampled_from("abc"), min_size=1, max_size=3, unique=True))
    }
    rows = []
    for id in draw(st.lists(st.text(min_size=1, max_size=3), max_size=5, unique=True)):
        row = {}
        for name, feature in features.items():
            shape = draw(st.tuples(*[st.integers(0, 3)] * feature.rank))
            values = arrays.arrays(feature.dtype, shape, elements=st.floats(-1e4, 1e4, width=16))
            row[name] = draw(st.none() | values)
        rows.append((id, row))
    return features, rows, draw(st.sampled_from([1, 40, 1 << 20]))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(made=stores())
def test_round_trip_of_any_rank_type_and_missing_row(tmp_path_factory, made):
    features, rows, batch_bytes = made
    path = tmp_path_factory.getbasetemp() / "any.arrow"
    store.write(path, features, iter(rows), batch_bytes=batch_bytes)
    found = Store(path)
    assert found.ids == [id for id, _ in rows] and found.features == features
    for id, row in rows:
        for name, array in row.items():
            read = found.read(name, found.ids.index(id))
            if array is None:
                assert read is None
            else:
                assert (read.dtype, read.shape, read.flags.writeable) == (array.dtype, array.shape, False)
                np.testing.assert_array_equal(read, array)


def test_the_digest_follows_every_row_and_finds_a_flipped_bit(tmp_path):
    feature, rows = {"x": Feature("float32", 2)}, ragged()
    changed = [[*rows[:-1], ("z", rows[-1][1])], rows[:-1], [*rows[:-1], (rows[-1][0], {"x": None})], rows[::-1]]
    value = [(id, {"x": row["x"].copy()}) for id, row in rows]
    value[3][1]["x"][0, 0] += 1
    shape = [(id, {"x": row["x"].reshape(-1, 1)}) for id, row in rows]
    found = set()
    for k, made in enumerate([rows, *changed, value, shape, []]):
        store.write(tmp_path / f"{k}.arrow", feature, made)
        Store(tmp_path / f"{k}.arrow").check()
        found.add(Store(tmp_path / f"{k}.arrow").digest)
    assert len(found) == 8
    store.write(tmp_path / "0.arrow", feature, rows, batch_bytes=100, facts={"of": "x"})
    assert Store(tmp_path / "0.arrow").digest in found, "however it is cut"
    data = (tmp_path / "0.arrow").read_bytes()
    at = data.index(rows[3][1]["x"].tobytes())
    (tmp_path / "0.arrow").write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    with pytest.raises(AffectError, match="is damaged: its numbers"):
        Store(tmp_path / "0.arrow").check()


def test_reading_copies_nothing_and_a_worker_maps_its_own(tmp_path):
    store.write(tmp_path / "s.arrow", {"x": Feature("float32", 2)}, ragged(), batch_bytes=100)
    found = Store(tmp_path / "s.arrow")
    assert len(found) == 12 and len(found._columns["x"].values) > 2, "several batches"
    read = found.read("x", 7)
    assert np.shares_memory(read, found._columns["x"].values[found._batch[7]])
    again = pickle.loads(pickle.dumps(found))
    np.testing.assert_array_equal(again.read("x", 7), read)
    found.release()
    np.testing.assert_array_equal(found.read("x", 7), ragged()[7][1]["x"])


def test_one_array_of_all_rows(tmp_path):
    values = np.arange(12, dtype=np.float16).reshape(4, 3)
    rows = [(str(k), {"x": value}) for k, value in enumerate(values)]
    for batch_bytes in (1, 1 << 20):
        store.write(tmp_path / "s.arrow", {"x": Feature("float16", 1)}, rows, batch_bytes=batch_bytes)
        np.testing.assert_array_equal(Store(tmp_path / "s.arrow").array("x"), values)
    whole = Store(tmp_path / "s.arrow")
    assert np.shares_memory(whole.array("x"), whole.read("x", 2))
    store.write(tmp_path / "s.arrow", {"x": Feature("float32", 2)}, ragged())
    with pytest.raises(AffectError, match="no single array"):
        Store(tmp_path / "s.arrow").array("x")


def test_an_array_may_be_filled_again_for_the_next_row(tmp_path):
    def rows():
        again = np.empty((2, 2), np.float32)
        for k in range(4):
            again[:] = k
            yield str(k), {"x": again}

    store.write(tmp_path / "s.arrow", {"x": Feature("float32", 2)}, rows())
    found = Store(tmp_path / "s.arrow")
    assert [float(found.read("x", k).mean()) for k in range(4)] == [0, 1, 2, 3]
    store.write(tmp_path / "s.arrow", {"x": Feature("float32", 0)}, [])
    with pytest.raises(AffectError, match="no single array"):
        Store(tmp_path / "s.arrow").array("x")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (("b", {"x": np.zeros((1, 5), np.float64)}), "is float64 of 2 dimensions, not float32 of 2"),
        (("b", {"x": np.zeros(5, np.float32)}), "of 1 dimensions, not float32 of 2"),
        (("b", {"x": np.array([[1, np.nan]], np.float32)}), "x of row 'b' holds NaN"),
        (("b", {"y": np.zeros((1, 5), np.float32)}), "unknown feature 'y'"),
        (("a", {}), "'a' comes twice"),
    ],
)
def test_what_is_refused_leaves_the_file_as_it_was(tmp_path, row, words):
    path = tmp_path / "s.arrow"
    good = ("a", {"x": np.ones((2, 5), ">f4")})
    store.write(path, {"x": Feature("float32", 2)}, [good])
    with pytest.raises(AffectError, match=words) as caught:
        store.write(path, {"x": Feature("float32", 2)}, [good, row])
    message(caught)
    assert Store(path).ids == ["a"] and [p.name for p in tmp_path.iterdir()] == ["s.arrow"]


@pytest.mark.parametrize("dtype", ["int16", "int32"])
def test_whole_numbers(tmp_path, dtype):
    values = np.array([np.iinfo(dtype).min, -1, 0, np.iinfo(dtype).max], dtype)
    store.write(tmp_path / "s.arrow", {"x": Feature(dtype, 1)}, [("a", {"x": values}), ("b", {})])
    kept = Store(tmp_path / "s.arrow")
    assert np.array_equal(kept.read("x", 0), values) and kept.read("x", 0).dtype == dtype and kept.read("x", 1) is None


def test_names_that_are_not_there(tmp_path):
    store.write(tmp_path / "s.arrow", {"visual": Feature("float32", 2)}, [("clip1", {})], facts={"of": "x"})
    found = Store(tmp_path / "s.arrow")
    assert found.facts == {"of": "x"}
    with pytest.raises(AffectError, match="no feature 'visuel': did you mean 'visual'"):
        found.read("visuel", 0)
    with pytest.raises(AffectError, match="not stored as int8"):
        Feature("int8", 1)


def test_foreign_and_missing_files_are_one_line(tmp_path):
    with pa.OSFile(str(tmp_path / "other.arrow"), "wb") as file, pa.ipc.new_file(file, pa.schema([])):
        pass
    (tmp_path / "empty.arrow").write_bytes(b"")
    (tmp_path / "text.arrow").write_text("id,x\n")
    for name in ("other", "empty", "text", "absent"):
        with pytest.raises(AffectError, match="no readable store of features") as caught:
            Store(tmp_path / f"{name}.arrow")
        assert f"{name}.arrow" in message(caught)


@settings(max_examples=150, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), cut=st.booleans())
def test_damage_is_one_line_or_does_not_touch_where_arrays_lie(tmp_path_factory, place, bit, cut):
    path = tmp_path_factory.getbasetemp() / "damaged.arrow"
    store.write(path, {"x": Feature("float32", 2)}, ragged(6), batch_bytes=60)
    data = bytearray(path.read_bytes())
    at = int(place * len(data))
    data[at] ^= 1 << bit
    path.write_bytes(data[:at] if cut else data)
    try:
        found = Store(path)
        for row in range(len(found)):
            for name in found.features:
                read = found.read(name, row)
                assert read is None or np.array(read).size < 100
    except AffectError as error:
        assert "\n" not in str(error)
    else:
        assert not cut


def test_writing_takes_bounded_memory(tmp_path):
    code = (
        "import resource, sys, numpy as np\nfrom pathlib import Path\nfrom affect.data import store\n"
        "def rows():\n"
        "    for k in range(400):\n"
        "        yield str(k), {'x': np.full((250, 1024), k, np.float32)}\n"
        "store.write(Path(sys.argv[1]), {'x': store.Feature('float32', 2)}, iter([('a', {})]))\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "store.write(Path(sys.argv[1]), {'x': store.Feature('float32', 2)}, rows())\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    path = tmp_path / "s.arrow"
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=True, capture_output=True, text=True)
    assert path.stat().st_size > 400e6
    assert int(done.stdout) < 120_000, "kilobytes: a few record batches"
    found = Store(path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert found.read("x", 399)[0, 0] == 399
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000
