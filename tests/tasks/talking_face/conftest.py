"""A small generated corpus of clips for all tests of the task."""

from __future__ import annotations

from pathlib import Path

import pytest

from affect.tasks.talking_face.corpus import read_corpus
from tests.tasks.talking_face import small


@pytest.fixture(scope="session")
def clips_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("clips") / "generated"
    read_corpus(small.data(root))
    return root
