"""The same run on every engine: losses, norms, rates and weights of one process, and checkpoints that change places."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file

from tests.distributed import engine_worker
from tests.distributed.engine_worker import run
from tests.distributed.launch import launch
from tests.training import runs

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "accelerate_configs"
# A threshold of 0: stage 3 would leave every parameter of a small model whole, and prove nothing.
STAGE_3 = {
    "zero_optimization": {"stage": 3, "stage3_param_persistence_threshold": 0},
    "gradient_accumulation_steps": "auto",
    "gradient_clipping": "auto",
    "train_micro_batch_size_per_gpu": "auto",
}
ENGINES = {"DDP": "cpu_2", "ZeRO-1": "zero1", "ZeRO-2": "zero2", "ZeRO-3": "", "FSDP2": "fsdp2"}
CUTS = {"hold": ("hold", 100.0), "replay": ("replay", 0.9), "many": ("hold", 0.9)}
SAMPLED = {
    "DDP": ("hold", "replay", "many"), "ZeRO-1": ("hold",), "ZeRO-2": ("replay", "many"), "ZeRO-3": ("hold", "many"),
    "FSDP2": ("hold", "replay"),
}  # fmt: skip
"""Cuts of plain SGD, each engine with some; the AdamW runs of all engines are replayed."""
PAIRS = [(engine, cut) for engine, cuts in SAMPLED.items() for cut in cuts]
MIDDLE = "step-0000003"

pytestmark = pytest.mark.distributed


ADAMW = {"optimiser": "adamw", "mode": "replay", "budget": 0.9}


class Place:
    """Where the runs of one engine and of one process are, and what the engine's ranks said."""

    def __init__(self, top: Path, corpus: Path):
        self.top, self.corpus = top, corpus
        self.said: dict[str, list[dict[str, Any]]] = {}

    def run(self, engine: str, name: str) -> Path:
        return self.top / engine / name

    def asked(self, engine: str) -> list[dict[str, Any]]:
        """Return the runs of an engine: its cuts under SGD, AdamW with its average, and that from its middle on."""
        found: list[dict[str, Any]] = [
            {"folder": str(self.run(engine, name)), "optimiser": "sgd", "mode": mode, "budget": budget}
            for name, (mode, budget) in CUTS.items()
            if name in SAMPLED.get(engine, CUTS)
        ]
        found.append({"folder": str(self.run(engine, "adamw")), **ADAMW})
        found.append({"folder": str(self.run(engine, "resumed")), **ADAMW, "from": self.middle(engine)})
        if engine != "single":
            found.append({"folder": str(self.run(engine, "moved")), **ADAMW, "from": self.middle("single")})
        return found

    def middle(self, engine: str) -> str:
        return str(self.run(engine, "adamw") / "checkpoints" / MIDDLE)

    def need(self, engine: str) -> Place:
        """Run all that is asked of an engine, unless it is there."""
        if engine not in self.said:
            if engine == "single":
                found = {Path(asked["folder"]).name: run(self.corpus, asked)[1] for asked in self.asked(engine)}
                self.said[engine] = [{"rank": 0, "world": 1, "engine": engine, "runs": found}]
            else:
                self.need("single")
                self.said[engine] = self._start(engine)
                # And back: one process goes on from what the engine left.
                run(self.corpus, {"folder": str(self.run("back", engine)), **ADAMW, "from": self.middle(engine)})
        return self

    def _start(self, engine: str) -> list[dict[str, Any]]:
        options = ["--config_file", str(self._config(engine))]
        if engine not in ("DDP", "ZeRO-3"):
            options += ["--mixed_precision", "no"]
        return launch(engine_worker.main, str(self.corpus), json.dumps(self.asked(engine)), accelerate=options)

    def _config(self, engine: str) -> Path:
        if engine != "ZeRO-3":
            return CONFIGS / f"{ENGINES[engine]}.yaml"
        settings = self.top / "zero3.json"
        settings.write_text(json.dumps(STAGE_3))
        # zero3.yaml with a configuration of its own; a file of DeepSpeed's leaves no place for a precision.
        lines = (CONFIGS / "zero3.yaml").read_text().splitlines()
        lines = [x for x in lines if "mixed_precision" not in x and "zero_stage" not in x]
        (self.top / "zero3.yaml").write_text("\n".join([*lines, f"  deepspeed_config_file: {settings}"]) + "\n")
        return self.top / "zero3.yaml"


@pytest.fixture(scope="module")
def places(small_corpus, tmp_path_factory) -> Place:
    return Place(tmp_path_factory.mktemp("engines"), small_corpus)


@pytest.fixture
def place(places, engine) -> Place:
    return places.need(engine)


@pytest.mark.parametrize("engine", ENGINES)
def test_two_ranks_ran_on_the_engine_that_was_asked_for(place, engine):
    assert [rank["engine"] for rank in place.said[engine]] == [engine] * 2
    assert [rank["world"] for rank in place.said[engine]] == [2, 2]


@pytest.mark.parametrize("engine", ENGINES)
def test_the_weights_are_shared_out_where_the_engine_says_so(place, engine):
    whole = place.said["single"][0]["runs"]["adamw"]["kept"]
    for rank in place.said[engine]:
        found = rank["runs"]["adamw"]["kept"]
        assert found < 0.6 * whole if engine in ("ZeRO-3", "FSDP2") else found == whole


@pytest.mark.parametrize(("engine", "cut"), PAIRS)
def test_all_steps_are_those_of_one_process(place, engine, cut):
    wanted, found = place.run("single", cut), place.run(engine, cut)
    losses = runs.numbers(wanted, "loss")
    assert len(losses) == 6
    np.testing.assert_allclose(runs.numbers(found, "loss"), losses, rtol=0, atol=1e-5)
    norms = runs.numbers(wanted, "grad_norm")
    assert (norms > 0.5).all(), "clipping must be active"
    np.testing.assert_allclose(runs.numbers(found, "grad_norm"), norms, rtol=1e-4)
    rates = [line["lr"] for line in runs.lines(found, "step")]
    assert rates == [line["lr"] for line in runs.lines(wanted, "step")]
    assert len({rate for line in rates for rate in line.values()}) >= 6, "two rates that follow a schedule"
    terms = [line["terms"] for line in runs.lines(found, "step")]
    assert all(set(term) == set(runs.lines(wanted, "step")[0]["terms"]) for term in terms)


@pytest.mark.parametrize(("engine", "cut"), PAIRS)
def test_exported_weights_are_those_of_one_process(place, engine, cut):
    last = "step-0000006/model.safetensors"
    wanted = load_file(place.run("single", cut) / "checkpoints" / last)
    found = load_file(place.run(engine, cut) / "checkpoints" / last)
    assert list(found) == list(wanted)
    start = load_file(place.run("single", cut) / "checkpoints" / "step-0000003" / "model.safetensors")
    assert max(float((wanted[name] - start[name]).abs().max()) for name in wanted) > 1e-3, "they must have moved"
    assert any("log_var" in name for name in wanted), "the loss has parameters"
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name].numpy(), value.numpy(), rtol=0, atol=1e-6, err_msg=name)
    best = load_file(place.run(engine, cut) / "checkpoints" / "best" / "model.safetensors")
    assert {name: value.shape for name, value in best.items()} == {n: v.shape for n, v in wanted.items()}


@pytest.mark.parametrize("engine", ["single", *ENGINES])
def test_a_run_goes_on_from_its_middle_bit_for_bit(place, engine):
    whole, resumed = place.run(engine, "adamw"), place.run(engine, "resumed")
    for event in ("step", "eval", "end"):
        wanted = [line for line in runs.lines(whole, event) if line["step"] > 3]
        assert wanted
        assert [line for line in runs.lines(resumed, event) if line["step"] > 3] == wanted
    for name in ("model", "average", "optimizer"):
        path = f"checkpoints/step-0000006/{name}.safetensors"
        assert (whole / path).read_bytes() == (resumed / path).read_bytes(), name


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("way", ["there", "back"])
def test_a_checkpoint_of_one_engine_and_world_goes_on_on_another(place, engine, way):
    """AdamW's moments, the average and the place go with it: the losses are those of the run it comes from."""
    found = place.run(engine, "moved") if way == "there" else place.run("back", engine)
    wanted = runs.numbers(place.run("single", "adamw"), "loss")
    assert [line["step"] for line in runs.lines(found, "step")] == [4, 5, 6]
    np.testing.assert_allclose(runs.numbers(found, "loss"), wanted[3:], rtol=0, atol=1e-5)
    for name in ("model", "average", "optimizer"):
        path = f"checkpoints/step-0000006/{name}.safetensors"
        one, other = load_file(place.run("single", "adamw") / path), load_file(found / path)
        assert set(one) == set(other)
        for key, value in one.items():
            np.testing.assert_allclose(other[key].numpy(), value.numpy(), rtol=1e-3, atol=3e-5, err_msg=f"{name} {key}")
