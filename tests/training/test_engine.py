"""The engine: what it refuses, what it seeds, and fp16's scaled gradients (on a CPU, with a scaler of its own)."""

from __future__ import annotations

import contextlib
import json
import logging
import random

import numpy as np
import pytest
import torch

from affect.errors import AffectError
from affect.experiments import folds
from affect.recipe import Optim, Train
from affect.training import step, trainer
from affect.training.distributed import Engine, is_out_of_memory, join
from tests import forked
from tests.launching import RECIPE, in_its_own_process, small
from tests.training import runs, toy, toy_task


@pytest.fixture
def engine() -> Engine:
    return join()


# What is refused


def test_the_attention_whose_backward_may_be_nan_with_a_mask_is_off(engine):
    assert not torch.backends.cuda.cudnn_sdp_enabled()
    assert torch.backends.cuda.mem_efficient_sdp_enabled()


def test_fp16_without_a_gpu_is_one_line(monkeypatch):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    with pytest.raises(AffectError, match="precision fp16 needs a GPU and none is here") as error:
        join()
    assert "\n" not in str(error.value)


def test_a_launch_file_that_compiles_is_one_line(engine, monkeypatch):
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "INDUCTOR")
    with pytest.raises(AffectError, match="asks for torch.compile .dynamo_backend inductor., which runs do not take"):
        join()


def test_a_world_that_did_not_join_is_one_line(engine, monkeypatch):
    """A launcher that promised two processes and started one, which is alone already."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(AffectError, match="asked for 2 processes but 1 joined; see accelerate_configs/"):
        join()


def test_two_processes_on_a_cpu_that_accelerate_makes_one_of(tmp_path, small_corpus):
    """`--cpu --num_processes 2` starts one process without a word: train.world is how a recipe can insist."""
    command = ["-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", "--num_machines", "1"]
    command += ["--mixed_precision", "no", "--dynamo_backend", "no", str(RECIPE), "demo", *small(small_corpus)]
    done = in_its_own_process(tmp_path, *command, "--train.world", "2")
    said = [line for line in done.stderr.splitlines() if line.startswith("error")]
    assert done.returncode != 0
    assert said == ["error: train.world asks for 2 processes, but 1 joined"]
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("threads", ["0", "-1", "many", "1.5"])
def test_threads_that_are_no_number_are_one_line(engine, monkeypatch, threads):
    monkeypatch.setenv("AFFECT_THREADS", threads)
    with pytest.raises(AffectError, match="AFFECT_THREADS must be a positive number"):
        join()


def test_threads_are_a_ranks_share_of_the_cores(engine, monkeypatch):
    from affect.training import hardware as module

    set_to = []
    monkeypatch.setattr(torch, "set_num_threads", set_to.append)
    monkeypatch.setattr(module, "cores", lambda: 8)
    for named, ranks in (("", "1"), ("", "3"), ("", "20"), ("5", "2")):
        monkeypatch.setenv("AFFECT_THREADS", named)
        monkeypatch.setenv("LOCAL_WORLD_SIZE", ranks)
        join()
    assert set_to == [8, 2, 1, 5]


# What is random


def draws() -> list[float]:
    return [random.random(), float(np.random.rand()), float(torch.rand(1)), float(torch.randn(1))]


def test_seeded_fixes_python_numpy_and_torch(engine):
    def found(*key: int) -> list[float]:
        draws()
        with engine.seeded(*key):
            return draws()

    first = found(3, 1)
    assert found(3, 1) == first
    for other in (found(3, 2), found(1, 3), found(3), found(3, 1, 1)):
        assert all(a != b for a, b in zip(first, other, strict=True))


# Collectives of one process (those of two: tests/distributed/test_trainer.py)


def test_alone_collectives_return_what_they_are_given(engine):
    table = torch.arange(6.0).reshape(3, 2)
    rows, start = engine.gather(table)
    assert torch.equal(rows, table)
    assert start == 0
    assert engine.gather(table[:0])[0].shape == (0, 2)
    assert torch.equal(engine.sum(table), table)
    assert engine.gather_objects([1, "a"]) == [1, "a"]
    assert engine.smallest(3.0) == 3.0


def test_on_main_returns_and_raises(engine):
    assert engine.on_main(lambda: {"a": 1}) == {"a": 1}

    def fail():
        raise AffectError("the disk is full")

    with pytest.raises(AffectError, match="^the disk is full$"):
        engine.on_main(fail)


# Memory


@pytest.mark.parametrize(
    ("error", "wanted"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (MemoryError(), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (KeyboardInterrupt(), False),
        (AffectError("out of memory even for single examples"), False),
    ],
)
def test_what_is_out_of_memory(error, wanted):
    assert is_out_of_memory(error) is wanted


def test_memory_is_counted_in_bytes(engine):
    assert 50e6 < engine.memory() < 1e12
    assert 1e6 < engine.free_memory() < 1e14


def test_out_of_memory_in_the_middle_of_a_step_leaves_no_gradient(small_corpus, tmp_path, monkeypatch):
    """A micro-batch that does not synchronise failed: what was added before it has to be dropped all the same."""
    recipe = runs.recipe(small_corpus, encoder="tiny", epochs=1, budget=1.5, mode="replay")
    runs.train(recipe, tmp_path / "whole")
    wanted = runs.lines(tmp_path / "whole", "step")
    run = runs.make(recipe, tmp_path / "short")
    assert len(run.schedule.cut(1).ranks[0]) > 2
    real, calls = run.engine.backward, []
    first = len(run.schedule.cut(0).ranks[0])

    def failing(loss):
        calls.append(1)
        if len(calls) == first + 2:  # the second micro-batch of the second step
            raise torch.OutOfMemoryError("CUDA out of memory.")
        real(loss)

    monkeypatch.setattr(run.engine, "backward", failing)
    trainer.train(run)
    found = runs.lines(tmp_path / "short", "step")
    assert run.state.budget == 0.75
    np.testing.assert_allclose([x["loss"] for x in found], [x["loss"] for x in wanted], rtol=1e-5)
    np.testing.assert_allclose([x["grad_norm"] for x in found], [x["grad_norm"] for x in wanted], rtol=1e-4)


# fp16: the same code with a scaler, in float32, which a CPU has too


def with_scaler(engine: Engine, model, scale: float):
    """Return the prepared model and optimiser of an engine that scales its losses."""
    engine.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=10**6)
    return engine.prepare(model, torch.optim.SGD(model.parameters(), lr=0.1), Optim())


@pytest.mark.parametrize("mode", ["hold", "replay"])
@pytest.mark.parametrize("name", ["ccc_valence", "additive", "both kinds"])
def test_a_scaled_gradient_unscaled_is_the_plain_one(engine, name, mode):
    x, targets = toy.data(24)

    def gradient(scale: float | None) -> torch.Tensor:
        torch.manual_seed(0)
        model = toy.Toy()
        mine = join()
        mine.accelerator.scaler = None
        prepared, optimizer = (
            with_scaler(mine, model, scale)
            if scale
            else mine.prepare(model, torch.optim.SGD(model.parameters()), Optim())
        )
        terms = toy.terms(toy.MIXES[name])
        step.accumulate(mine, prepared, terms, toy.batches(x, targets, (5, 7, 12)), mode=mode, key=(0, 0))
        assert mine.loss_scale() == (scale or 1.0)
        if scale:
            scaled = toy.gradient(model).norm()
            mine.accelerator.scaler.unscale_(optimizer.optimizer)
            assert float(scaled / toy.gradient(model).norm()) == pytest.approx(scale, rel=1e-4)
        return toy.gradient(model)

    assert toy.relative(gradient(2.0**16), gradient(None)) < 1e-6


def test_an_overflow_is_a_skipped_step_and_training_goes_on(small_corpus, tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO, logger="affect")
    recipe = runs.with_optim(runs.recipe(small_corpus, epochs=2), ema=0.9, clip=None)
    real_prepare = Engine.prepare

    def prepare(self, model, optimizer, optim):
        self.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=10**6)
        self.precision, self.autocast = "fp16", contextlib.nullcontext
        return real_prepare(self, model, optimizer, optim)

    monkeypatch.setattr(Engine, "prepare", prepare)
    # Without native_amp Accelerate would clip scaled gradients: unscale them as it does with it.
    real_update = Engine.update

    def update(self, *arguments, **named):
        self.accelerator.scaler.unscale_(self.accelerator._optimizers[-1].optimizer)
        return real_update(self, *arguments, **named)

    monkeypatch.setattr(Engine, "update", update)
    run = runs.make(recipe, tmp_path / "run")
    real, seen, weights = step.accumulate, [], []

    def overflowing(engine, model, *arguments, **named):
        weights.append(torch.cat([p.detach().flatten().clone() for p in model.parameters()]))
        result = real(engine, model, *arguments, **named)
        seen.append(run.average.count)
        if len(seen) == 3:
            next(p for p in model.parameters() if p.grad is not None).grad.view(-1)[0] = float("inf")
        return result

    monkeypatch.setattr(trainer.step, "accumulate", overflowing)
    trainer.train(run)
    assert torch.equal(weights[2], weights[3]), "the step that overflowed changed nothing"
    assert not torch.equal(weights[3], weights[4])
    assert seen == [0, 1, 2, 2, 3, 4], "nor was it averaged"
    assert run.engine.accelerator.scaler.get_scale() == 4.0
    assert [r.message for r in caplog.records if "fp16 overflow" in r.message] == [
        "step 3: fp16 overflow, no update; the loss scale was lowered"
    ]
    steps = runs.lines(tmp_path / "run", "step")
    assert len(steps) == 6
    assert steps[2]["grad_norm"] is None
    assert all(line["grad_norm"] > 0 for line in steps[:2] + steps[3:])
    assert "NaN" not in json.dumps(steps)
    # The scale is resumed with the rest.
    saved = json.loads((tmp_path / "run" / "checkpoints" / "step-0000006" / "scaler.json").read_text())
    assert saved["scale"] == 4.0


# The recipe's precision

REFUSED = "the launch file says mixed_precision bf16, the recipe train.precision no: keep one"


@pytest.mark.parametrize(
    ("launched", "asked", "said"),
    [
        ("no", ("bf16", None, "no"), ["bf16 torch.bfloat16", "no torch.float32", "no torch.float32"]),
        ("bf16", (None, "bf16", "no"), ["bf16 torch.bfloat16", "bf16 torch.bfloat16", REFUSED]),
    ],
)
def test_precision_is_each_recipes_where_the_launch_file_names_none(monkeypatch, launched, asked, said):
    """Of several recipes in one process (a suite, a sequence), too."""
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", launched)

    def joined(precision):
        try:
            engine = folds.join(toy_task.ToyRecipe(train=Train(precision=precision)))
            again = join(precision=precision)
            with engine.autocast(), again.autocast():
                print(engine.precision, (torch.ones(2, 2) @ torch.ones(2, 2)).dtype)
        except AffectError as error:
            print(error)

    done = forked.program(lambda: [joined(precision) for precision in asked])
    assert done.stdout.splitlines() == said, done.stderr
