import os
from pathlib import Path

import pytest

REAL = Path(os.environ.get("AFFECT_REAL_DATA") or Path(__file__).resolve().parents[4] / "shared" / "data")


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("AFFECT_CACHE", str(folder))
    return folder


@pytest.fixture
def real_emodb():
    folder = REAL / "emodb"
    if not (folder / "wav").is_dir():
        pytest.skip("real EmoDB recordings are absent (AFFECT_REAL_DATA)")
    return folder
