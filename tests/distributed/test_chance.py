"""Everything random on: 20 steps are the same for every model, engine, number of ranks, budget and mode.

A sample of the product, pairs of its factors, is in every run of the tests; all of it is soaked.
"""

from __future__ import annotations

import json
from itertools import combinations, cycle, product
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from affect.training import run_dir
from tests.distributed import chance_worker
from tests.distributed.chance_worker import DIARIZERS, FUSION, NAMES, SCORES, SPEECH, STEPS, TEXTS, run
from tests.distributed.launch import launch
from tests.distributed.test_engine_corners import CONFIGS
from tests.models.test_text import write_encoders
from tests.tasks.diarization import small as voices
from tests.tasks.multimodal_emotion import small
from tests.tasks.talking_face import small as faces

ENGINES = {"DDP": "cpu_2", "ZeRO-2": "zero2", "ZeRO-3": "zero3_offload", "FSDP2": "fsdp2"}
OPTIMISERS = ("recipe", "sgd")
WAYS = ("held", "replayed", "mixed")
SAMPLE = (
    ("DDP", 2, "tiny", "mixed", "recipe"),
    ("DDP", 2, "missing", "replayed", "sgd"),
    ("DDP", 4, "dialogue", "held", "sgd"),
    ("ZeRO-2", 2, "tiny-hubert", "held", "recipe"),
    ("ZeRO-2", 2, "attention_robust", "replayed", "sgd"),
    ("ZeRO-2", 4, "roberta", "mixed", "sgd"),
    ("ZeRO-3", 2, "tiny-whisper", "mixed", "sgd"),
    ("ZeRO-3", 2, "mmim", "held", "sgd"),
    ("ZeRO-3", 4, "temporal", "replayed", "recipe"),
    ("FSDP2", 2, "tiny-wav2vec2", "replayed", "recipe"),
    ("FSDP2", 2, "ngrams", "held", "sgd"),
    ("FSDP2", 4, "lora", "mixed", "recipe"),
)
"""Engine, ranks, model, cut, optimiser: every pair of values of any two, and each kind of model."""
ALONE = (("lf_dnn", "mixed", "sgd"), ("lmf", "held", "recipe"), ("tfn", "replayed", "sgd"), ("misa", "mixed", "recipe"),
         ("topn", "replayed", "recipe"), ("attention", "held", "sgd"), ("everything", "mixed", "recipe"))  # fmt: skip
"""Of one process: models that no other test of this suite cuts so."""

pytestmark = pytest.mark.distributed


@pytest.fixture(scope="module")
def roots(small_corpus, tmp_path_factory) -> dict[str, Path]:
    top = tmp_path_factory.mktemp("roots")
    write_encoders(top / "texts", TEXTS)
    return {
        "speech": small_corpus, "features": small.corpus(top / "features"), "texts": top / "texts",
        "scores": faces.corpus(top / "scores"), "films": top / "films",
        "voices": voices.corpus(top / "voices"),
    }  # fmt: skip


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


STEADY = {"before": 2}
"""Steps that are held on several ranks, where not all of them: vectors of nearly zero are normalised in that model, so
that a change of its weights by 1e-7 is one of the loss by 1e-5 two steps later, and by 1e-4 after four."""


def hold(found: Path, wanted: Path, optimiser: str, most: int = STEPS) -> None:
    """Hold that losses of the first steps agree to 1e-5 and, of all under plain SGD, weights do too."""
    steps = [
        [line for line in run_dir.read_lines(folder / "metrics.jsonl") if line["event"] == "step"]
        for folder in (found, wanted)
    ]
    assert len(steps[1]) == STEPS
    for what, tolerance in (("loss", 1e-5), ("grad_norm", 1e-3)):
        values = [[line[what] for line in lines[:most]] for lines in steps]
        np.testing.assert_allclose(*values, rtol=tolerance, atol=tolerance, err_msg=f"{found.name}: {what}")
    assert "not keyed" not in (found / "train.log").read_text()
    if optimiser == "sgd" and most == STEPS:
        mine, its = (load_file(folder / "checkpoints" / "best" / "model.safetensors") for folder in (found, wanted))
        for name, value in its.items():
            np.testing.assert_allclose(mine[name].numpy(), value.numpy(), rtol=0, atol=1e-5, err_msg=name)


def on_ranks(roots, top: Path, engine: str, ranks: int, asked: list[tuple[str, str, str]]) -> None:
    """Train (name, cut, optimiser) on several ranks of an engine, each in its folder of `top`."""
    options = ["--config_file", str(CONFIGS / f"{ENGINES[engine]}.yaml")]
    options += [] if engine == "DDP" else ["--mixed_precision", "no"]
    places = json.dumps({name: str(root) for name, root in roots.items()})
    found = launch(chance_worker.main, places, json.dumps(asked), str(top), ranks=ranks, accelerate=options)
    assert [said["engine"] for said in found] == [engine] * ranks


@pytest.mark.parametrize(("engine", "ranks"), dict.fromkeys(case[:2] for case in SAMPLE))
def test_a_sample_of_all_that_may_be_combined(roots, single, tmp_path, engine, ranks):
    asked = [case[2:] for case in SAMPLE if case[:2] == (engine, ranks)]
    # Caches are filled by one process first.
    wanted = [single(name, optimiser) for name, _, optimiser in asked]
    on_ranks(roots, tmp_path, engine, ranks, asked)
    for (name, cut, optimiser), alone in zip(asked, wanted, strict=True):
        hold(tmp_path / f"{name}-{cut}-{optimiser}", alone, optimiser)


@pytest.mark.parametrize(("name", "cut", "optimiser"), ALONE)
def test_a_sample_of_one_process(roots, single, tmp_path, name, cut, optimiser):
    run(roots, name, cut, optimiser, tmp_path / "cut")
    hold(tmp_path / "cut", single(name, optimiser), optimiser)


@pytest.mark.parametrize(("name", "optimiser"), zip(FUSION, cycle(reversed(OPTIMISERS))))
def test_one_of_a_stack(roots, single, tmp_path, name, optimiser):
    with chance_worker.optimised(chance_worker.recipe_of(roots, name, "whole"), optimiser, name) as recipe:
        small.train(recipe, tmp_path, seeds=(0, 1))
    hold(small.folders(tmp_path)[0], single(name, optimiser), optimiser)


def test_the_sample_has_every_pair_and_every_kind_of_model():
    factors = (tuple(ENGINES), (2, 4), WAYS, OPTIMISERS)
    cases = [(engine, ranks, cut, optimiser) for engine, ranks, _, cut, optimiser in SAMPLE]
    for one, other in combinations(range(len(factors)), 2):
        assert {(case[one], case[other]) for case in cases} == set(product(factors[one], factors[other]))
    models = {case[2] for case in SAMPLE}
    for kind in (SPEECH, TEXTS, FUSION, SCORES):
        assert models & set(kind)


@pytest.mark.soak
@pytest.mark.parametrize("name", NAMES)
def test_one_process_cut_in_any_way(roots, single, tmp_path, name):
    for cut, optimiser in product(WAYS, OPTIMISERS):
        run(roots, name, cut, optimiser, tmp_path / f"{cut}-{optimiser}")
        hold(tmp_path / f"{cut}-{optimiser}", single(name, optimiser), optimiser)


def evaluates(engine: str, name: str) -> bool:
    """Whether an engine can predict by a model: one that gathers weights at each call can't go through recordings."""
    return name not in DIARIZERS or engine in ("DDP", "ZeRO-2")


@pytest.mark.soak
@pytest.mark.parametrize("ranks", [2, 4])
@pytest.mark.parametrize(("engine", "name"), [pair for pair in product(ENGINES, NAMES) if evaluates(*pair)])
def test_ranks_of_every_engine(roots, single, tmp_path, engine, ranks, name):
    # Caches are filled by one process first.
    wanted = {optimiser: single(name, optimiser) for optimiser in OPTIMISERS}
    for optimiser in OPTIMISERS:
        # Each in programs of its own, which all of them together would keep near their limit.
        on_ranks(roots, tmp_path, engine, ranks, [(name, cut, optimiser) for cut in WAYS])
    for cut, optimiser in product(WAYS, OPTIMISERS):
        hold(tmp_path / f"{name}-{cut}-{optimiser}", wanted[optimiser], optimiser, STEADY.get(name, STEPS))
