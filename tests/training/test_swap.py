"""One folder in the place of another: by an exchange of names, and where there is none by two renames."""

from __future__ import annotations

import errno
import os
import sys

import pytest

from affect.training import atomic_swap


def folder(path, text):
    path.mkdir()
    (path / "file").write_text(text)
    return path


def lacks(code):
    def exchange(one, other):
        raise OSError(code, os.strerror(code))

    return exchange


@pytest.mark.parametrize("code", [None, errno.ENOSYS, errno.EINVAL, errno.ENOTSUP])
def test_two_folders_change_places(tmp_path, monkeypatch, code):
    if code is not None:
        monkeypatch.setattr(atomic_swap, "exchange", lacks(code))
    new, path = folder(tmp_path / "new", "new"), folder(tmp_path / "best", "old")
    atomic_swap.swap(new, path)
    assert (path / "file").read_text() == "new"
    assert (new / "file").read_text() == "old"
    assert sorted(item.name for item in tmp_path.iterdir()) == ["best", "new"]


@pytest.mark.skipif(sys.platform != "linux", reason="RENAME_EXCHANGE is Linux's")
def test_an_exchange_is_one_operation_here(tmp_path, monkeypatch):
    new, path = folder(tmp_path / "new", "new"), folder(tmp_path / "best", "old")
    monkeypatch.setattr(os, "rename", None)
    atomic_swap.exchange(new, path)
    assert (path / "file").read_text() == "new"


def test_other_errors_are_no_reason_to_go_another_way(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic_swap, "exchange", lacks(errno.EACCES))
    new, path = folder(tmp_path / "new", "new"), folder(tmp_path / "best", "old")
    with pytest.raises(PermissionError):
        atomic_swap.swap(new, path)
    assert (path / "file").read_text() == "old"


@pytest.mark.skipif(sys.platform != "linux", reason="RENAME_EXCHANGE is Linux's")
def test_an_exchange_with_nothing_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        atomic_swap.exchange(folder(tmp_path / "new", "new"), tmp_path / "best")


def test_a_second_rename_that_fails_is_undone(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic_swap, "exchange", lacks(errno.EINVAL))
    path = folder(tmp_path / "best", "old")
    with pytest.raises(FileNotFoundError):
        atomic_swap.swap(tmp_path / "gone", path)
    assert (path / "file").read_text() == "old"
    assert [item.name for item in tmp_path.iterdir()] == ["best"]


def test_what_a_kill_left_is_recovered_or_in_nobodys_way(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic_swap, "exchange", lacks(errno.EINVAL))
    path = tmp_path / "best"
    atomic_swap.recover(path)
    assert not path.exists()
    folder(tmp_path / ".best.old", "old")
    atomic_swap.recover(path)
    assert (path / "file").read_text() == "old"
    folder(tmp_path / ".best.old", "older")
    atomic_swap.recover(path)
    assert (path / "file").read_text() == "old"
    atomic_swap.swap(folder(tmp_path / "new", "new"), path)
    assert (path / "file").read_text() == "new"
    assert (tmp_path / "new" / "file").read_text() == "old"
