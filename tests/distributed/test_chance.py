"""Everything random on: 20 steps are the same for every model, engine, number of ranks, budget and mode."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from tests.distributed import chance_worker
from tests.distributed.chance_worker import CUTS, NAMES, STEPS, run
from tests.distributed.launch import launch
from tests.distributed.test_engine_corners import CONFIGS
from tests.tasks.multimodal_emotion import small
from tests.training import runs

ENGINES = {"DDP": "cpu_2", "ZeRO-2": "zero2", "ZeRO-3": "zero3_offload", "FSDP2": "fsdp2"}
OPTIMISERS = ("recipe", "sgd")

pytestmark = [pytest.mark.distributed, pytest.mark.soak]


@pytest.fixture(scope="module")
def roots(small_corpus, tmp_path_factory) -> dict[str, Path]:
    return {"speech": small_corpus, "features": small.corpus(tmp_path_factory.mktemp("features"))}


@pytest.fixture(scope="module")
def single(roots, tmp_path_factory):
    """Return the folder of a run in one process and one piece, made when it is first asked for."""
    top = tmp_path_factory.mktemp("single")

    def found(name: str, optimiser: str) -> Path:
        folder = top / f"{name}-{optimiser}"
        if not folder.exists():
            run(roots, name, "whole", optimiser, folder)
        return folder

    return found


def hold(found: Path, wanted: Path, optimiser: str) -> None:
    """Hold that losses agree to 1e-5 and, under plain SGD, weights do too."""
    losses = [runs.losses(folder) for folder in (found, wanted)]
    assert len(losses[1]) == STEPS
    np.testing.assert_allclose(*losses, rtol=1e-5, atol=1e-5, err_msg=found.name)
    assert "not keyed" not in (found / "train.log").read_text()
    if optimiser == "sgd":
        mine, its = (load_file(folder / "checkpoints" / "best" / "model.safetensors") for folder in (found, wanted))
        for name, value in its.items():
            np.testing.assert_allclose(mine[name].numpy(), value.numpy(), rtol=0, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("name", NAMES)
def test_one_process_cut_in_any_way(roots, single, tmp_path, name):
    for cut, optimiser in product([cut for cut in CUTS if cut != "whole"], OPTIMISERS):
        run(roots, name, cut, optimiser, tmp_path / f"{cut}-{optimiser}")
        hold(tmp_path / f"{cut}-{optimiser}", single(name, optimiser), optimiser)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("ranks", [2, 4])
@pytest.mark.parametrize("engine", ENGINES)
def test_ranks_of_every_engine(roots, single, tmp_path, engine, ranks, name):
    # Caches are filled by one process first.
    wanted = {optimiser: single(name, optimiser) for optimiser in OPTIMISERS}
    asked = [(name, cut, optimiser) for cut, optimiser in product(("held", "replayed"), OPTIMISERS)]
    options = ["--config_file", str(CONFIGS / f"{ENGINES[engine]}.yaml")]
    options += [] if engine == "DDP" else ["--mixed_precision", "no"]
    words = (str(roots["speech"]), str(roots["features"]), str(tmp_path), json.dumps(asked))
    found = launch(chance_worker.main, *words, ranks=ranks, accelerate=options)
    assert [said["engine"] for said in found] == [engine] * ranks
    for _, cut, optimiser in asked:
        hold(tmp_path / f"{name}-{cut}-{optimiser}", wanted[optimiser], optimiser)
