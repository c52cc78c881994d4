"""Corners of the engines: bf16, offloading, folds one after another, other models and the other task, real refusals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.distributed import corner_worker
from tests.distributed.corner_worker import FOLDS, STEPS, run
from tests.distributed.launch import launch, ranks_of
from tests.launching import RECIPE
from tests.launching import small as options
from tests.tasks.multimodal_emotion import small
from tests.training import runs

ROOT = Path(__file__).parents[2]
WORKER = str(Path(__file__).parent / "corner_worker.py")
CONFIGS = ROOT / "accelerate_configs"
IN_BF16: dict[str, Any] = {
    "zero_optimization": {"stage": 2},
    "bf16": {"enabled": True},
    "gradient_clipping": 1.0,
    "gradient_accumulation_steps": "auto",
    "train_batch_size": "auto",
    "train_micro_batch_size_per_gpu": "auto",
}
PLAIN = {"plain": {"kind": "plain"}}
FOLDED = {"folds": {"kind": "folds", "steps": 2}}
MODELS: dict[str, dict[str, Any]] = {
    **{name: {"kind": "variant", "name": name} for name in ("dialogue", "everything", "lora")},
    **{name: {"kind": "multimodal", "name": name} for name in ("attention", "balanced")},
}
"""Segments of dialogues, every part with a frozen encoder, adapters; the other task."""
PLACES: dict[str, tuple[str, tuple[str, ...], dict[str, dict[str, Any]]]] = {
    "DDP bf16": ("cpu_2", ("--mixed_precision", "bf16"), PLAIN),
    "ZeRO-2 bf16": ("zero2", (), PLAIN),
    "ZeRO-2 file": ("", (), PLAIN),
    "ZeRO-2": ("zero2", ("--mixed_precision", "no"), FOLDED),
    "ZeRO-3": ("zero3_offload", ("--mixed_precision", "no"), PLAIN),
    "FSDP2": ("fsdp2", ("--mixed_precision", "no"), FOLDED),
    "ZeRO-3 models": ("zero3_offload", ("--mixed_precision", "no"), MODELS),
    "FSDP2 models": ("fsdp2", ("--mixed_precision", "no"), MODELS),
}
"""Launch file, options, and the runs there; ZeRO-3 is that with offloading."""
FILED = pytest.param("ZeRO-2 file", marks=pytest.mark.soak)

NO_FSDP = "error: the launch file asks for FSDP, but the engine here is"

pytestmark = pytest.mark.distributed


_LONGEST = 400
"""Seconds that a launch may take: ranks may wait for ever."""


def with_accelerate(config: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Launch two processes with a launch file, in a session of their own that is ended whole when it takes too long.

    `arguments` are the script and its own.
    """
    command = ["-m", "accelerate.commands.launch", "--config_file", str(config), "--num_processes", "2", *arguments]
    given = {**os.environ, "OMP_NUM_THREADS": "1", "AFFECT_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    given["PYTHONPATH"] = str(ROOT)
    with subprocess.Popen(
        [sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=given,
        start_new_session=True,
    ) as process:  # fmt: skip
        try:
            out, err = process.communicate(timeout=_LONGEST)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
            pytest.fail(f"not done within {_LONGEST} s: {err[-3000:]}")
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def zero_file(folder: Path, settings: dict[str, Any], stage: int = 2) -> Path:
    """Return a launch file of ZeRO whose settings are in a file of DeepSpeed's, which leaves no place for others."""
    (folder / "zero.json").write_text(json.dumps(settings))
    lines = (CONFIGS / f"zero{stage}.yaml").read_text().splitlines()
    lines = [line for line in lines if "mixed_precision" not in line and "zero_stage" not in line]
    (folder / "zero.yaml").write_text("\n".join([*lines, f"  deepspeed_config_file: {folder / 'zero.json'}"]) + "\n")
    return folder / "zero.yaml"


class Runs:
    """The runs of each place and of one process, made when they are first needed."""

    def __init__(self, top: Path, speech: Path, features: Path):
        self.top, self.roots = top, {"speech": speech, "features": features}
        self.said: dict[str, list[dict[str, Any]]] = {}
        self.failed: dict[str, str] = {}
        self.alone: set[str] = set()

    def single(self, name: str, asked: dict[str, Any]) -> Path:
        """Return the folder of a run in this process."""
        folder = self.top / "single" / name
        if name not in self.alone:
            run(self.roots, {**asked, "folder": str(folder)})
            self.alone.add(name)
        return folder

    def of(self, place: str) -> Path:
        """Return the folder of a place's runs."""
        top = self.top / place.replace(" ", "-")
        if place in self.failed:
            pytest.fail(f"the launch failed before: {self.failed[place]}")
        if place not in self.said:
            self.failed[place] = "it did not end well"
            top.mkdir()
            config, given, wanted = PLACES[place]
            asked = [{**one, "folder": str(top / name)} for name, one in wanted.items()]
            if place == "ZeRO-3":
                middle = str(top / "plain" / "checkpoints" / "step-0000003")
                asked.append({**PLAIN["plain"], "folder": str(top / "resumed"), "from": middle})
            # Caches are filled by one process first.
            for name, one in MODELS.items():
                if name in wanted:
                    self.single(name, one)
            path = CONFIGS / f"{config}.yaml" if config else zero_file(top, IN_BF16)
            roots = (str(self.roots["speech"]), str(self.roots["features"]))
            options = ("--config_file", str(path), *given)
            self.said[place] = launch(corner_worker.main, *roots, json.dumps(asked), accelerate=options)
            del self.failed[place]
        return top


@pytest.fixture(scope="module")
def places(small_corpus, tmp_path_factory) -> Runs:
    top = tmp_path_factory.mktemp("corners")
    return Runs(top, small_corpus, small.corpus(top / "features"))


def refused(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Return the lines that ranks ended with: one each, where the launcher did not end the second after the first."""
    assert done.returncode != 0, done.stdout
    assert "an engine was made" not in done.stdout
    assert "Traceback" not in done.stderr.split("torch/distributed/elastic")[0], done.stderr
    said = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert 1 <= len(said) <= 2, done.stderr
    return said


# Precision


@pytest.mark.parametrize("place", ["ZeRO-2 bf16", FILED, "DDP bf16"])
def test_bf16_computes_in_bf16_and_keeps_weights_in_float32(places, place):
    folder = places.of(place) / "plain"
    assert [rank["engine"] for rank in places.said[place]] == [place.split()[0]] * 2
    for rank in places.said[place]:
        assert rank["runs"]["plain"] == {"precision": "bf16", "computed": ["torch.bfloat16"], "kept": ["torch.float32"]}
    for name in ("model", "optimizer"):
        saved = load_file(folder / "checkpoints" / "step-0000004" / f"{name}.safetensors")
        assert {str(value.dtype) for value in saved.values()} == {"torch.float32"}


@pytest.mark.parametrize("place", ["ZeRO-2 bf16", FILED])
def test_losses_in_bf16_are_those_of_ddp_and_near_those_of_float32(places, place):
    found = runs.numbers(places.of(place) / "plain", "loss")
    assert len(found) == STEPS
    np.testing.assert_allclose(found, runs.numbers(places.of("DDP bf16") / "plain", "loss"), rtol=0, atol=2e-2)
    exact = runs.numbers(places.single("plain", PLAIN["plain"]), "loss")
    np.testing.assert_allclose(found, exact, rtol=0, atol=2e-2)
    assert np.abs(found - exact).max() > 1e-5, "bf16 can't be that exact"


# Offloading


def test_steps_of_zero_3_with_offloading_are_those_of_one_process(places):
    found, wanted = places.of("ZeRO-3") / "plain", places.single("plain", PLAIN["plain"])
    assert [rank["engine"] for rank in places.said["ZeRO-3"]] == ["ZeRO-3"] * 2
    assert len(runs.numbers(wanted, "loss")) == STEPS
    np.testing.assert_allclose(runs.numbers(found, "loss"), runs.numbers(wanted, "loss"), rtol=0, atol=1e-5)
    np.testing.assert_allclose(runs.numbers(found, "grad_norm"), runs.numbers(wanted, "grad_norm"), rtol=1e-4)
    for name in ("model", "optimizer"):
        path = f"checkpoints/step-0000004/{name}.safetensors"
        mine, its = load_file(found / path), load_file(wanted / path)
        assert {key: value.shape for key, value in mine.items()} == {key: value.shape for key, value in its.items()}
        for key, value in its.items():
            np.testing.assert_allclose(mine[key].numpy(), value.numpy(), rtol=1e-3, atol=3e-5, err_msg=key)


def test_a_run_with_offloading_goes_on_bit_for_bit(places):
    whole, resumed = places.of("ZeRO-3") / "plain", places.of("ZeRO-3") / "resumed"
    for event in ("step", "end"):
        wanted = [line for line in runs.lines(whole, event) if line["step"] == 4]
        assert wanted
        assert [line for line in runs.lines(resumed, event) if line["step"] == 4] == wanted
    for name in ("model", "optimizer"):
        path = f"checkpoints/step-0000004/{name}.safetensors"
        assert (whole / path).read_bytes() == (resumed / path).read_bytes()


# Several runs in a process, other models


@pytest.mark.parametrize("place", ["ZeRO-2", "FSDP2"])
def test_folds_one_after_another_are_those_of_one_process(places, place):
    found = places.of(place) / "folds"
    wanted = places.single("folds", FOLDED["folds"])
    assert [rank["engine"] for rank in places.said[place]] == [place] * 2
    losses = {}
    for fold in FOLDS:
        mine, its = (top / "test" / "seed0" / f"fold{fold}" for top in (found, wanted))
        assert runs.lines(mine, "end")
        losses[fold] = runs.numbers(its, "loss")
        assert len(losses[fold]) == 2
        np.testing.assert_allclose(runs.numbers(mine, "loss"), losses[fold], rtol=0, atol=1e-5)
        np.testing.assert_allclose(runs.numbers(mine, "grad_norm"), runs.numbers(its, "grad_norm"), rtol=1e-4)
    assert np.abs(losses[1] - losses[2]).max() > 1e-3, "folds differ"


@pytest.mark.soak
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("place", ["ZeRO-3 models", "FSDP2 models"])
def test_other_models_give_the_losses_of_one_process(places, place, name):
    found, wanted = places.of(place) / name, places.single(name, MODELS[name])
    if MODELS[name]["kind"] == "multimodal":
        (found,), (wanted,) = ((top / "test").glob("seed0/fold*") for top in (found, wanted))
    exact = runs.numbers(wanted, "loss")
    assert len(exact) == (2 if MODELS[name]["kind"] == "variant" else 3)
    np.testing.assert_allclose(runs.numbers(found, "loss"), exact, rtol=0, atol=2e-5)
    if None not in runs.numbers(wanted, "grad_norm"):
        np.testing.assert_allclose(runs.numbers(found, "grad_norm"), runs.numbers(wanted, "grad_norm"), rtol=1e-3)
    assert runs.lines(found, "end")


# What is refused, by real launches


def test_fsdp_without_a_gpu_stops_and_does_not_train_unsynchronised():
    said = refused(with_accelerate(CONFIGS / "fsdp2.yaml", WORKER, "engine"))
    assert all(line.startswith(NO_FSDP) for line in said), said


def test_a_rank_that_joins_late_is_told_the_same_and_not_that_another_left():
    def late() -> None:
        join_process_group = torch.distributed.init_process_group

        def slowly(*words: Any, **given: Any) -> None:
            join_process_group(*words, **given)
            if os.environ["RANK"] == "1":
                time.sleep(1)
                # It is with rank 0, as what joining may still ask for.
                torch.distributed.distributed_c10d._get_default_store().add("late", 1)

        torch.distributed.init_process_group = slowly
        corner_worker.main()

    done = ranks_of(late, "engine", accelerate=("--config_file", str(CONFIGS / "fsdp2.yaml")))
    said = refused(done)
    assert len(said) == 2
    assert all(line.startswith(NO_FSDP) for line in said), said


def test_a_world_of_another_size_stops_every_rank(tmp_path, small_corpus):
    arguments = ("demo", *options(small_corpus), "--runs", str(tmp_path / "runs"), "--train.world", "3")
    said = refused(with_accelerate(CONFIGS / "cpu_2.yaml", str(RECIPE), *arguments))
    assert set(said) == {"error: train.world asks for 3 processes, but 2 joined"}, said
    assert not (tmp_path / "runs").exists()
