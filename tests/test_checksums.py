"""Checksums: what coreutils reads, and any byte that changed, any file that is cut or gone."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affect import checksums
from affect.checksums import DamagedError

FILES = {"model.safetensors": bytes(range(256)), "state.json": b'{"step": 3}\n', "deep/er/a b.txt": b"x", "empty": b""}


def fill(folder: Path) -> Path:
    for name, data in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    checksums.write(folder)
    return folder


@pytest.fixture
def folder(tmp_path):
    return fill(tmp_path / "folder")


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A folder that each example damages and mends again."""
    return fill(tmp_path_factory.mktemp("shared"))


def said_by_coreutils(folder: Path) -> int:
    if shutil.which("sha256sum") is None:
        pytest.skip("sha256sum is not installed")
    command = ["sha256sum", "-c", "--strict", "--status", checksums.FILE]
    return subprocess.run(command, cwd=folder, check=False).returncode


def test_what_was_written_is_whole_and_coreutils_says_so(folder):
    assert checksums.faults(folder) == {}
    checksums.check(folder)
    assert said_by_coreutils(folder) == 0
    lines = (folder / checksums.FILE).read_text().splitlines()
    assert [line[66:] for line in lines[:-1]] == sorted(FILES)
    (folder / "state.json").write_bytes(b"other")
    assert said_by_coreutils(folder) == 1


def test_coreutils_writes_the_same_sums(folder):
    if shutil.which("sha256sum") is None:
        pytest.skip("sha256sum is not installed")
    done = subprocess.run(["sha256sum", *sorted(FILES)], cwd=folder, check=True, capture_output=True, text=True)
    assert checksums.listed(folder) == done.stdout + "# 4 files\n"


def test_each_fault_is_named(folder):
    (folder / "model.safetensors").write_bytes(b"")
    (folder / "empty").unlink()
    (folder / "state.json").unlink()
    (folder / "state.json").mkdir()
    assert checksums.faults(folder) == {
        "model.safetensors": "model.safetensors is not what was written: its SHA-256 differs",
        "empty": "empty is missing",
        "state.json": "state.json can't be read (Is a directory)",
    }
    with pytest.raises(DamagedError, match="empty is missing"):
        checksums.check(folder)


def test_files_that_came_later_do_not_matter(folder):
    (folder / "notes.txt").write_text("mine")
    (folder / ".DS_Store").write_text("")
    assert checksums.faults(folder) == {}


def test_of_some_files_the_others_are_not_read(folder):
    (folder / "model.safetensors").write_bytes(b"")
    (folder / "empty").unlink()
    assert list(checksums.faults(folder, {"model.safetensors", "new"})) == ["model.safetensors"]
    checksums.check(folder, {"state.json"})
    with pytest.raises(DamagedError, match="empty is missing"):
        checksums.check(folder, {"state.json", "empty"})


def test_a_folder_without_sums_is_damaged(folder):
    (folder / checksums.FILE).unlink()
    assert checksums.faults(folder) == {checksums.FILE: "SHA256SUMS is missing"}


names = st.sampled_from([*(name for name in FILES if FILES[name]), checksums.FILE])


@settings(max_examples=300, deadline=None)
@given(name=names, where=st.floats(0, 1, exclude_max=True), mask=st.integers(1, 255))
def test_any_byte_that_changes_is_seen(shared, name, where, mask):
    path = shared / name
    whole = path.read_bytes()
    place = int(where * len(whole))
    path.write_bytes(whole[:place] + bytes([whole[place] ^ mask]) + whole[place + 1 :])
    try:
        found = checksums.faults(shared)
    finally:
        path.write_bytes(whole)
    # A name that changed in the list is one that is missing.
    assert (name in found) if name != checksums.FILE else found
    assert checksums.faults(shared) == {}


@settings(max_examples=150, deadline=None)
@given(name=names, share=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_anywhere_is_seen(shared, name, share):
    path = shared / name
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    try:
        assert list(checksums.faults(shared)) == [name]
    finally:
        path.write_bytes(whole)


def test_a_list_without_one_of_its_lines_is_seen(folder):
    path = folder / checksums.FILE
    lines = path.read_text().splitlines(keepends=True)
    for left_out in range(len(lines)):
        path.write_text("".join(line for k, line in enumerate(lines) if k != left_out))
        assert checksums.FILE in checksums.faults(folder)
