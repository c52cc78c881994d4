"""What all tests share: one thread, a cache of their own, a small generated corpus, the real data where it is."""

from __future__ import annotations

import gc
import importlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.trained import *  # noqa: F403  # fixtures that several rooms share

os.environ.setdefault("OMP_NUM_THREADS", "1")
# Several threads spin while they wait for each other: tens of times slower where other programs run too.
os.environ.setdefault("AFFECT_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"


_LONG = ("distributed", "device", "faults", "slurm", "experiments", "recipes", "report", "third", "test_export.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, so that no process ends with one of them alone."""
    items.sort(key=lambda item: not any(part in _LONG for part in item.path.parts))


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keep what tests compute out of the user's cache, and shared between them."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["AFFECT_CACHE"] = str(folder)
    return folder


@pytest.fixture(scope="session", autouse=True)
def quick_disk() -> Iterator[None]:
    """Wait for no disk: what is written is whole for this process anyway, and power does not fail in a test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def quick_counts() -> Iterator[None]:
    """Let a run count the operations of fewer rows than a curve needs: what is counted is test_work's to hold."""
    from affect.training import work

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(work, "FEWEST", 1)
        yield


@pytest.fixture(scope="module", autouse=True)
def quick_collections() -> None:
    """Leave what is imported out of each later collection of garbage, of which a run's end makes one."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def affect(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, str]]:
    """Run the command in this process: exit code, standard output and standard error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        from affect import cli
        from tests.launching import exit_code, own_log

        monkeypatch.setattr(sys, "argv", ["affect", *map(str, arguments)])
        capsys.readouterr()
        with own_log():
            code = exit_code(cli.main)
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.fixture(scope="session")
def small_corpus(tmp_path_factory: pytest.TempPathFactory, own_cache: Path) -> Path:
    """A generated corpus of 5 sessions x 1 dialogue x 8 utterances in IEMOCAP's layout."""
    from affect.data.corpora import synthetic

    root = tmp_path_factory.mktemp("corpus") / "generated"
    synthetic.read(str(root), dialogues=1, utterances=8, seconds=(0.3, 0.7))
    return root


@pytest.fixture(scope="session")
def feature_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generated corpus of features for the multimodal task; what changes it takes one of its own."""
    from tests.tasks.multimodal_emotion import small

    return small.corpus(tmp_path_factory.mktemp("features") / "generated")


@pytest.fixture(scope="session")
def clips_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generated corpus of clips with scores for the task of talking faces."""
    from tests.tasks.talking_face import small

    return small.corpus(tmp_path_factory.mktemp("clips") / "generated")


@pytest.fixture(scope="session")
def voices_root(tmp_path_factory: pytest.TempPathFactory, own_cache: Path) -> Path:
    """Generated voices for the task of diarization."""
    from tests.tasks.diarization import small

    return small.corpus(tmp_path_factory.mktemp("voices") / "generated")


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Return what loads a benchmark by name."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))

    def load(name: str) -> ModuleType:
        monkeypatch.delitem(sys.modules, name, raising=False)
        return importlib.import_module(name)

    return load


@pytest.fixture
def real_data() -> Path:
    """The folder of real data; skips where it is absent."""
    folder = Path(os.environ.get("AFFECT_REAL_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("real data is absent: set AFFECT_REAL_DATA to its folder")
    return folder
