import pytest

from affect import cache
from affect.errors import AffectError


def test_the_folder_follows_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("AFFECT_CACHE", str(tmp_path))
    assert cache.cache_folder() == tmp_path
    monkeypatch.delenv("AFFECT_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.cache_folder() == tmp_path / ".cache" / "affect"


def test_round_trips(tmp_path):
    value = {"ñ": [1, 2.5, None]}
    cache.write_json(tmp_path / "deep" / "a.json", value)
    assert cache.read_json(tmp_path / "deep" / "a.json") == value
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["a.json"]


def test_absent_and_damaged_files(tmp_path, caplog):
    assert cache.read_json(tmp_path / "a.json") is None
    assert not caplog.records
    (tmp_path / "a.json").write_text("{")
    assert cache.read_json(tmp_path / "a.json") is None
    assert len(caplog.records) == 1


def test_a_full_disk_leaves_the_old_file_and_no_debris(tmp_path, monkeypatch):
    cache.write_json(tmp_path / "a.json", 1)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache.os, "replace", full)
    with pytest.raises(AffectError, match=r"a\.json \(No space left on device\)"):
        cache.write_json(tmp_path / "a.json", 2)
    assert cache.read_json(tmp_path / "a.json") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
