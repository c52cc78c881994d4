"""The store of a frozen encoder's features: round trips, damage, several processes, full disks, speed."""

import hashlib
import json
import multiprocessing
import os
import pickle
import resource
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from affect.data import audio
from affect.data.features import FeatureStore
from affect.errors import AffectError
from tests.training.disks import small_disk

KEY = {"encoder": "microsoft/wavlm-large", "revision": None, "layers": "last", "dtype": "float16", "normalise": True}


def digest(name) -> str:
    return hashlib.sha256(str(name).encode()).hexdigest()


def frames(seed: int = 0, size: int = 225, width: int = 1024) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((size, width)).astype(np.float16)


@pytest.fixture
def store(tmp_path) -> FeatureStore:
    return FeatureStore(tmp_path / "features", KEY)


@settings(max_examples=60, deadline=None)
@given(
    array=st.sampled_from([np.float16, np.float32]).flatmap(
        lambda kind: arrays.arrays(
            kind,
            arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5),
            elements=st.floats(-1e4, 1e4, width=16),
        )
    )
)
def test_round_trip_of_any_shape(tmp_path_factory, array):
    store = FeatureStore(tmp_path_factory.getbasetemp() / "any", KEY)
    store.write(digest("a"), array)
    read = store.read(digest("a"))
    assert read.dtype == array.dtype and read.shape == array.shape
    np.testing.assert_array_equal(read, array)
    assert store.missing([digest("a")]) == []
    assert store.size([digest("a")]) == store.path(digest("a")).stat().st_size


def test_views_and_byte_orders_are_kept_as_numbers(store):
    array = np.arange(60, dtype=">f4").reshape(5, 12)[::2, ::-1].T
    store.write(digest("a"), array)
    np.testing.assert_array_equal(store.read(digest("a")), array)
    assert store.read(digest("a")).dtype == np.float32


def test_more_entries_can_be_held_than_files_can_be_open(store):
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
    names = [digest(k) for k in range(500)]
    for k, name in enumerate(names):
        store.write(name, np.full((40, 1024), k, np.float16))
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 400, allowed[1]))
        held = [store.read(name) for name in names]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, allowed)
    assert [int(array[0, 0]) for array in held] == list(range(500))


def test_each_key_has_its_own_entries(tmp_path, store):
    store.write(digest("a"), frames())
    folders = {store.folder}
    for change in ({"revision": "main"}, {"layers": 12}, {"dtype": "float32"}, {"normalise": False}, {"new": 1}):
        other = FeatureStore(tmp_path / "features", {**KEY, **change})
        assert other.missing([digest("a")]) == [digest("a")]
        folders.add(other.folder)
    assert len(folders) == 6
    same = FeatureStore(tmp_path / "features", dict(reversed(KEY.items())))
    assert same.folder == store.folder and same.missing([digest("a")]) == []
    shown = (store.folder / "key.json").read_text()
    assert json.loads(shown) == KEY and len(shown.splitlines()) == len(KEY) + 2


def test_an_entry_copied_from_another_key_or_name_is_no_entry(tmp_path, store):
    store.write(digest("a"), frames())
    data = store.path(digest("a")).read_bytes()
    other = FeatureStore(tmp_path / "features", {**KEY, "layers": 12})
    for where in (other.path(digest("a")), store.path(digest("b"))):
        where.parent.mkdir(parents=True, exist_ok=True)
        where.write_bytes(data)
    assert other.missing([digest("a")]) == [digest("a")]
    assert store.missing([digest("a"), digest("b")]) == [digest("b")]


def test_damaged_entries_are_found_logged_once_and_rebuilt(store, caplog):
    names = [digest(k) for k in range(8)]
    for k, name in enumerate(names[:7]):
        store.write(name, frames(k, size=40))
    whole = store.path(names[0]).read_bytes()
    flipped = bytearray(whole)
    flipped[-1000] ^= 0x10
    shape = bytearray(whole)
    at = whole.index(b"[40, 1024]")
    shape[at : at + 10] = b"[1024, 40]"
    damage = {0: whole[:-1], 1: b"", 2: bytes(flipped), 3: bytes(shape), 4: whole[:30], 5: whole + b"\0"}
    for k, data in damage.items():
        store.path(names[k]).write_bytes(data)
    assert store.missing([*names, names[7]]) == [*names[:6], names[7]]
    assert [record.getMessage() for record in caplog.records] == [
        f"6 cached features in {store.folder} are damaged and will be made again"
    ]
    for k in (0, 1, 4, 5):
        with pytest.raises(AffectError, match="cannot be read") as caught:
            store.read(names[k])
        assert "\n" not in str(caught.value) and names[k][2:] in str(caught.value)
    for k in damage:
        store.write(names[k], frames(k, size=40))
    caplog.clear()
    assert store.missing(names) == [names[7]]
    assert not caplog.records
    np.testing.assert_array_equal(store.read(names[2]), frames(2, size=40))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_flipped_bit_is_found(tmp_path_factory, draws):
    store = FeatureStore(tmp_path_factory.getbasetemp() / "bits", KEY)
    store.write(digest("a"), np.arange(24, dtype=np.float16).reshape(4, 6))
    data = bytearray(store.path(digest("a")).read_bytes())
    bit = draws.draw(st.integers(0, 8 * len(data) - 1))
    data[bit // 8] ^= 1 << bit % 8
    store.path(digest("a")).write_bytes(data)
    assert store.missing([digest("a")]) == [digest("a")]


def test_an_absent_entry_is_refused_in_one_line(store):
    with pytest.raises(AffectError, match="No such file") as caught:
        store.read(digest("a"))
    assert "\n" not in str(caught.value)
    assert store.size([digest("a")]) == 0


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "ABCDEF0123456789", "abc", digest("a") + "/b"])
def test_a_name_that_is_no_hash(store, name):
    for call in (store.read, lambda name: store.missing([name]), lambda name: store.write(name, frames())):
        with pytest.raises(AffectError, match="no hash"):
            call(name)


def test_what_is_not_kept(store):
    with np.errstate(over="ignore"):
        too_large = np.array([1e5]).astype(np.float16)
    for array, words in (
        (np.zeros(3), "not float64"),
        (np.zeros(3, np.int16), "not int16"),
        (np.array([1, np.nan], np.float32), "NaN"),
        (too_large, "65504"),
    ):
        with pytest.raises(AffectError, match=words):
            store.write(digest("a"), array)
    assert store.missing([digest("a")]) == [digest("a")]


def test_the_size_counts_each_entry_once(store):
    store.write(digest("a"), frames())
    store.write(digest("b"), np.zeros((1, 1024), np.float32))
    sizes = [store.path(digest(name)).stat().st_size for name in "ab"]
    assert sizes[0] > 225 * 2048 and sizes[1] > 4096
    assert store.size([digest("a"), digest("b"), digest("a"), digest("c")]) == sum(sizes)


def test_a_store_goes_to_a_worker(store):
    store.write(digest("a"), frames())
    held = store.read(digest("a"))
    again = pickle.loads(pickle.dumps(store))
    np.testing.assert_array_equal(again.read(digest("a")), held)
    again.write(digest("b"), frames(1))
    assert store.missing([digest("b")]) == []


ROUNDS = 60


def _write(folder, who: int) -> None:
    store = FeatureStore(folder, KEY)
    for k in range(ROUNDS):
        store.write(digest("shared"), np.full((100, 1024), who * 100 + k, np.float16))
        store.write(digest((who, k)), np.full((1, 64), k, np.float32))


def _read(folder, until) -> None:
    store = FeatureStore(folder, KEY)
    count = 0
    while not until.is_set() or count < 20:
        array = store.read(digest("shared"))
        assert array.min() == array.max(), "half of one and half of another"
        assert store.missing([digest("shared")]) == []
        count += 1


def test_processes_that_write_and_read_at_once(tmp_path):
    context = multiprocessing.get_context("spawn")
    until = context.Event()
    FeatureStore(tmp_path, KEY).write(digest("shared"), np.zeros((100, 1024), np.float16))
    writers = [context.Process(target=_write, args=(tmp_path, who)) for who in range(3)]
    reader = context.Process(target=_read, args=(tmp_path, until))
    for process in (*writers, reader):
        process.start()
    for process in writers:
        process.join(120)
    until.set()
    reader.join(120)
    assert [process.exitcode for process in (*writers, reader)] == [0, 0, 0, 0]
    store = FeatureStore(tmp_path, KEY)
    assert store.missing([digest((who, k)) for who in range(3) for k in range(ROUNDS)]) == []
    assert not [path for path in tmp_path.rglob(".*") if path.is_file()], "no debris"


def test_a_killed_writer_leaves_nothing_that_counts(tmp_path):
    code = (
        "import os, signal, sys\nimport numpy as np\nfrom affect import cache\nfrom affect.data import features\n"
        "store = features.FeatureStore(sys.argv[1], {})\n"
        "cache.os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "store.write(sys.argv[2], np.zeros((100, 100), np.float16))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path), digest("a")], check=False)
    assert done.returncode == -9
    store = FeatureStore(tmp_path, {})
    assert store.missing([digest("a")]) == [digest("a")]
    store.write(digest("a"), np.zeros((100, 100), np.float16))
    assert store.missing([digest("a")]) == []


def test_a_full_disk(tmp_path):
    with small_disk(tmp_path / "disk", "1m") as disk:
        store = FeatureStore(disk, KEY)
        store.write(digest("a"), frames())
        with pytest.raises(AffectError, match="No space left on device.*AFFECT_CACHE") as caught:
            for k in range(5):
                store.write(digest(k), frames())
        assert "\n" not in str(caught.value)
        assert store.missing([digest("a")]) == []
        assert not [path for path in disk.rglob(".*") if path.is_file()], "the piece that was written is gone"
        with pytest.raises(AffectError, match="AFFECT_CACHE"):
            (disk / "rest").write_bytes(b"0" * (os.statvfs(disk).f_bavail * os.statvfs(disk).f_bsize))
            FeatureStore(disk, {"another": "key"})


def test_no_tensor_library_is_needed():
    code = "import sys, affect.data.features; assert not {'torch', 'datasets', 'scipy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_reading_is_quicker_than_decoding(store, tmp_path):
    """Ten thousand pooled entries take well under what decoding their recordings would."""
    names = [digest(k) for k in range(300)]
    for name in names:
        store.write(name, np.zeros((1, 1024), np.float32))
    soundfile.write(tmp_path / "a.wav", np.random.default_rng(0).normal(0, 0.1, 72_000), 16_000)

    def seconds(work) -> float:
        found = []
        for _ in range(5):
            start = time.perf_counter()
            work()
            found.append(time.perf_counter() - start)
        return min(found)

    out = np.empty((len(names), 1, 1024), np.float32)

    def read():
        for k, name in enumerate(names):
            out[k] = store.read(name)

    assert seconds(read) * 5 < seconds(lambda: [audio.load(tmp_path / "a.wav") for _ in names])
