"""The trainer on a real task: the cut, the memory and an interruption change nothing that is optimised."""

from __future__ import annotations

import json
import logging
import re

import numpy as np
import pytest
import torch

from affect.errors import AffectError
from affect.task import Evaluation, evaluations_of
from affect.tasks.emotion.task import EmotionTask
from affect.training import checkpoint, run_dir, run_logging, step, trainer
from affect.training.clock import STEP
from affect.training.prediction import predict
from tests.training import runs

STEPS = 12


@pytest.fixture
def log(caplog):
    caplog.set_level(logging.INFO, logger="affect")
    return caplog


def trained(recipe, folder):
    runs.train(recipe, folder)
    return folder


@pytest.mark.parametrize(
    ("loss", "cuts"),
    [("ccc", [(100.0, "hold"), (2.0, "hold"), (0.2, "replay")]), ("mse", [(100.0, "hold"), (0.9, "replay")])],
)
def test_twelve_steps_give_the_same_losses_for_any_budget(small_corpus, tmp_path, loss, cuts):
    from dataclasses import replace

    found = []
    for budget, mode in cuts:
        base = runs.recipe(
            small_corpus, encoder="tiny", dropout=0.2, epochs=7, steps=STEPS, budget=budget, mode=mode,
            evaluate_every=7, checkpoint_every=7,
        )  # fmt: skip
        folder = tmp_path / f"{budget}-{mode}"
        runs.train(replace(base, loss=loss), folder, only=("valid",))
        found.append(runs.losses(folder))
        assert len(found[-1]) == STEPS
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], rtol=1e-5)


@pytest.mark.parametrize("memory", [torch.OutOfMemoryError("CUDA out of memory."), MemoryError()])
def test_running_out_of_memory_repeats_the_step_at_half_the_budget(small_corpus, tmp_path, monkeypatch, log, memory):
    recipe = runs.recipe(small_corpus, encoder="tiny", dropout=0.2, budget=3.0, epochs=1)
    wanted = runs.losses(trained(recipe, tmp_path / "whole"))
    unlucky = int(np.random.default_rng().integers(len(wanted)))
    real, calls = step.accumulate, []

    def failing(*arguments, **named):
        calls.append(named["mode"])
        result = real(*arguments, **named)
        if len(calls) == unlucky + 1:
            raise memory  # after the gradients were added: they have to be dropped
        return result

    monkeypatch.setattr(trainer.step, "accumulate", failing)
    folder = tmp_path / "short"
    run = runs.make(recipe, folder)
    trainer.train(run)
    np.testing.assert_allclose(runs.losses(folder), wanted, rtol=1e-5, err_msg=f"out of memory at step {unlucky + 1}")
    assert len(calls) == len(wanted) + 1
    assert run.state.budget == 1.5
    assert "repeating it with a budget of 1.5" in log.text


def test_memory_that_never_suffices_is_one_clear_error(small_corpus, tmp_path, monkeypatch):
    def failing(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr(trainer.step, "accumulate", failing)
    with pytest.raises(AffectError, match="out of memory even for single examples"):
        runs.train(runs.recipe(small_corpus), tmp_path / "run")


@pytest.mark.parametrize("encoder", ["none", "tiny"])
def test_an_interrupted_run_resumes_bit_for_bit(small_corpus, tmp_path, monkeypatch, encoder):
    recipe = runs.with_optim(runs.recipe(small_corpus, encoder=encoder, dropout=0.3, epochs=2), ema=0.9)
    whole = trained(recipe, tmp_path / "whole")
    folder = tmp_path / "cut"
    runs.interrupt(runs.make(recipe, folder), 5, monkeypatch)
    assert len(runs.losses(folder)) == 4, "a step past the checkpoint of epoch 1 was written"
    runs.train(recipe, folder)
    assert (folder / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    assert (folder / "predictions-test.jsonl").read_bytes() == (whole / "predictions-test.jsonl").read_bytes()


def test_the_state_of_another_machine_does_not_leak_in(small_corpus, tmp_path):
    """What is random is a function of the seed: a process that drew numbers before gives the same run."""
    recipe = runs.recipe(small_corpus, encoder="tiny", dropout=0.3, epochs=1)
    first = trained(recipe, tmp_path / "first")
    torch.rand(7)
    np.random.rand(3)
    second = trained(recipe, tmp_path / "second")
    assert (first / "metrics.jsonl").read_bytes() == (second / "metrics.jsonl").read_bytes()


def test_a_loss_that_is_no_number_stops_with_step_ids_and_checkpoint(small_corpus, tmp_path, monkeypatch):
    real = step.accumulate
    calls = []

    def poisoned(*arguments, **named):
        calls.append(1)
        result = real(*arguments, **named)
        return step.Result(result.loss * float("nan"), result.terms) if len(calls) == 5 else result

    monkeypatch.setattr(trainer.step, "accumulate", poisoned)
    run = runs.make(runs.recipe(small_corpus), tmp_path / "run")
    with pytest.raises(AffectError, match=r"step 5: the loss is not a finite number.*step-0000003.*Ses0\d"):
        trainer.train(run)
    before = checkpoint.steps(tmp_path / "run" / "checkpoints")[-1]
    assert before.name == "step-0000003"
    assert all(torch.isfinite(p).all() for p in run.model.parameters()), "the poisoned step was not taken"


def test_a_gradient_that_is_no_number_is_not_applied(small_corpus, tmp_path, monkeypatch):
    real = step.accumulate

    def poisoned(engine, model, *arguments, **named):
        result = real(engine, model, *arguments, **named)
        next(model.parameters()).grad.fill_(float("inf"))
        return result

    monkeypatch.setattr(trainer.step, "accumulate", poisoned)
    run = runs.make(runs.recipe(small_corpus), tmp_path / "run")
    with pytest.raises(AffectError, match="step 1: the gradient is not a finite number.*checkpoint: none"):
        trainer.train(run)
    assert all(torch.isfinite(p).all() for p in run.model.parameters())


def test_early_stopping_keeps_and_tests_the_best_weights(small_corpus, tmp_path, log):
    recipe = runs.with_optim(runs.recipe(small_corpus, epochs=30, patience=2), lr=0.5, schedule="constant")
    run = runs.make(recipe, tmp_path / "run")
    scores = trainer.train(run)
    evals = runs.lines(tmp_path / "run", "eval")
    best = max(evals, key=lambda line: line["scores"]["ccc"])
    assert len(evals) == best["epoch"] + 1 + 2 < 30
    end = runs.lines(tmp_path / "run", "end")[0]
    assert end["best_epoch"] == best["epoch"]
    assert scores["valid"]["ccc"] == pytest.approx(best["scores"]["ccc"], abs=1e-6)
    assert "stopping early" in log.text


def test_the_last_weights_are_kept_when_asked_for(small_corpus, tmp_path):
    from safetensors.torch import load_file

    def kept_is_last(choose: str) -> tuple[bool, list[float]]:
        recipe = runs.with_optim(runs.recipe(small_corpus, epochs=7, choose=choose), lr=0.5, schedule="constant")
        run = runs.make(recipe, tmp_path / choose)
        last = {}
        finish = run.finish
        run.finish = lambda: last.update({k: v.clone() for k, v in run.model.state_dict().items()}) or finish()
        trainer.train(run)
        kept = load_file(str(tmp_path / choose / "checkpoints" / "best" / "model.safetensors"))
        scores = [line["scores"]["ccc"] for line in runs.lines(tmp_path / choose, "eval")]
        return all(torch.equal(kept[name], last[name]) for name in kept), scores

    assert kept_is_last("last")[0]
    is_last, scores = kept_is_last("best")
    assert int(np.argmax(scores)) < len(scores) - 1, "the case must tell the two apart"
    assert not is_last


def test_never_drops_the_checkpoints_and_starts_anew(small_corpus, tmp_path, monkeypatch):
    recipe = runs.recipe(small_corpus, epochs=4)
    folder = tmp_path / "run"
    runs.interrupt(runs.make(recipe, folder), 11, monkeypatch)
    assert checkpoint.steps(folder / "checkpoints")[-1].name == "step-0000009"
    runs.interrupt(runs.make(recipe, folder, resume="never"), 5, monkeypatch)
    assert [path.name for path in checkpoint.steps(folder / "checkpoints")] == ["step-0000003"]
    assert len(runs.losses(folder)) == 4
    whole = trained(recipe, tmp_path / "whole")
    runs.train(recipe, folder)
    assert (folder / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()


def test_an_earlier_checkpoint_drops_those_after_it(small_corpus, tmp_path, monkeypatch):
    recipe = runs.recipe(small_corpus, epochs=4, keep=3)
    folder = tmp_path / "run"
    runs.interrupt(runs.make(recipe, folder), 11, monkeypatch)
    run = runs.make(recipe, folder, resume=str(folder / "checkpoints" / "step-0000003"))
    assert [path.name for path in checkpoint.steps(folder / "checkpoints")] == ["step-0000003"]
    trainer.train(run)
    whole = trained(recipe, tmp_path / "whole")
    assert runs.losses(folder) == runs.losses(whole)


def test_a_checkpoint_of_another_fold_is_refused(small_corpus, tmp_path):
    """Its weights have seen this fold's test part."""
    other = trained(runs.recipe(small_corpus), tmp_path / "other")
    with pytest.raises(AffectError, match="a checkpoint of another run"):
        runs.make(runs.recipe(small_corpus), tmp_path / "run", resume=str(checkpoint.steps(other / "checkpoints")[-1]))


def test_a_run_killed_after_stopping_early_does_not_go_on(small_corpus, tmp_path, monkeypatch):
    recipe = runs.with_optim(runs.recipe(small_corpus, epochs=30, patience=2), lr=0.5, schedule="constant")
    whole = trained(recipe, tmp_path / "whole")
    run = runs.make(recipe, tmp_path / "run")

    def dies():
        raise KeyboardInterrupt

    run.finish = dies
    with pytest.raises(KeyboardInterrupt):
        trainer.train(run)
    runs.train(recipe, tmp_path / "run")
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()


def test_a_mode_named_anew_is_taken_on_resuming(small_corpus, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    runs.interrupt(runs.make(runs.recipe(small_corpus, mode="hold"), folder), 5, monkeypatch)
    assert runs.make(runs.recipe(small_corpus, mode="replay"), folder).state.mode == "replay"


def test_weights_lost_before_the_end_are_one_line(small_corpus, tmp_path):
    import shutil

    run = runs.make(runs.recipe(small_corpus), tmp_path / "run")
    finish = run.finish
    run.finish = lambda: shutil.rmtree(run.checkpoints / "best") or finish()
    with pytest.raises(AffectError, match="holds no best weights"):
        trainer.train(run)


def test_plateau_halves_the_rates(small_corpus, tmp_path):
    recipe = runs.recipe(small_corpus, epochs=12)
    recipe = runs.with_optim(recipe, lr=0.5, schedule="plateau", plateau_patience=2, warmup=0.0)
    folder = trained(recipe, tmp_path / "run")
    rates = [line["lr"]["head"] for line in runs.lines(folder, "step")]
    assert rates[0] == 0.5
    assert min(rates) < 0.5
    assert {0.5 / rate for rate in rates} <= {2.0**k for k in range(12)}


def test_averaged_weights_are_what_is_evaluated_and_kept(small_corpus, tmp_path):
    from safetensors.torch import load_file

    recipe = runs.with_optim(runs.recipe(small_corpus, epochs=1), ema=0.99)
    run = runs.make(recipe, tmp_path / "run")
    trainer.train(run)
    kept = load_file(str(tmp_path / "run" / "checkpoints" / "best" / "model.safetensors"))
    average, last = run.average.model.state_dict(), run.engine.unwrap(run.model).state_dict()
    assert all(torch.equal(kept[name], average[name]) for name in kept)
    assert any(not torch.equal(kept[name], last[name]) for name in kept)


def test_both_rates_clipping_and_decay_reach_the_optimiser(small_corpus, tmp_path):
    recipe = runs.recipe(small_corpus, encoder="tiny", epochs=1)
    recipe = runs.with_optim(recipe, lr=1e-3, encoder_lr=1e-5, weight_decay=0.1, clip=1e-3, warmup=0.0)
    run = runs.make(recipe, tmp_path / "run")
    groups = {group["name"]: group for group in run.optimizer.param_groups}
    assert {name: group["peak"] for name, group in groups.items()} == {
        "encoder": 1e-5, "encoder_no_decay": 1e-5, "head": 1e-3, "head_no_decay": 1e-3
    }  # fmt: skip
    assert groups["encoder"]["weight_decay"] == groups["head"]["weight_decay"] == 0.1
    assert groups["encoder_no_decay"]["weight_decay"] == groups["head_no_decay"]["weight_decay"] == 0.0
    named = {id(p): name for name, p in run.model.named_parameters()}
    assert all(named[id(p)].endswith("weight") or "." not in named[id(p)] for p in groups["head"]["params"])
    taken = trainer.Trainer(run)
    batches = taken._loader().take(len(run.schedule.cut(0).ranks[0]))
    with run:
        run.update(*taken._gradient(batches)[:1], batches, taken.run.begin_step([])[0], dict)
    assert runs.lines(tmp_path / "run", "step")[0]["grad_norm"] > 1e-3
    clipped = torch.cat([p.grad.flatten() for p in run.parameters if p.grad is not None]).norm()
    assert float(clipped) == pytest.approx(1e-3, rel=1e-3)


def test_workers_change_nothing(small_corpus, tmp_path):
    alone = trained(runs.recipe(small_corpus, encoder="tiny", epochs=1), tmp_path / "alone")
    with_two = trained(runs.recipe(small_corpus, encoder="tiny", epochs=1, workers=2), tmp_path / "two")
    assert runs.losses(alone) == runs.losses(with_two)


def test_an_example_over_the_budget_is_named_once(small_corpus, tmp_path, log):
    trained(runs.recipe(small_corpus, budget=0.5), tmp_path / "run")
    said = [record for record in log.records if "over the budget" in record.message]
    assert len(said) == 1
    assert "Ses0" in said[0].message


def test_the_first_line_says_what_runs_where(small_corpus, tmp_path, log):
    trained(runs.recipe(small_corpus), tmp_path / "run")
    line = next(record.message for record in log.records if record.message.startswith("engine"))
    assert (
        "engine single, 1 rank on 1 node, cpu, precision no; global batch 8 of 24, 3 steps an epoch, 6 in all" in line
    )
    assert line.partition("micro-batches a rank (")[2].startswith(("hold", "mixed", "replay"))
    text = (tmp_path / "run" / "train.log").read_text()
    assert line in text.splitlines()[1], "after the line that says which run it is"
    assert "s of audio a second, padding" in text
    assert "TFLOP/s (" in text
    assert "GFLOP forward and backward; a large product here does" in text


def test_predictions_are_in_order_alone_as_batched(small_corpus, tmp_path):
    run = runs.make(runs.recipe(small_corpus, encoder="tiny"), tmp_path / "run")
    part = run.parts["test"]
    together = predict(run.engine, run.task, run.model, part, budget=1000.0, workers=0)
    alone = predict(run.engine, run.task, run.model, part, budget=0.1, workers=0)
    assert [row["id"] for row in together] == part["id"]
    for a, b in zip(together, alone, strict=True):
        assert a["prediction"] == pytest.approx(b["prediction"], abs=4e-4)  # 1e-4 on the unit scale
        assert a["target"] == b["target"]


def test_timing_holds_what_is_not_reproducible(small_corpus, tmp_path):
    folder = trained(runs.recipe(small_corpus), tmp_path / "run")
    timing = [json.loads(line) for line in (folder / "timing.jsonl").read_text().splitlines()]
    assert [line["step"] for line in timing] == list(range(1, 7))
    assert all(line["seconds"] > 0 and 0 <= line["waiting"] <= 1 and 0 <= line["padding"] < 1 for line in timing)
    assert "seconds" not in (folder / "metrics.jsonl").read_text()
    for line in timing:
        phases = [line[f"{phase}_seconds"] for phase in STEP]
        assert all(seconds >= 0 for seconds in phases)
        assert sum(phases) == pytest.approx(line["seconds"], rel=0.1)
        assert line["tflops_per_second"] == pytest.approx(line["flops"] / line["seconds"] / 1e12)
        assert line["computed_flops"] >= line["flops"] > 0 < line["peak_share"]


def test_tensorboard_gets_losses_rates_speeds_and_scores(small_corpus, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = runs.make(runs.recipe(small_corpus, trackers=("tensorboard",), diagnostics_every=1), tmp_path / "run")
    trainer.train(run)
    run.engine.end()
    events = EventAccumulator(str(next(tmp_path.glob("run/events.*"))))
    events.Reload()
    lines = list(run_dir.read_lines(tmp_path / "run" / "metrics.jsonl"))
    steps, scored = ([line for line in lines if line["event"] == kind] for kind in ("step", "eval"))
    timing = {line["step"]: line for line in run_dir.read_lines(tmp_path / "run" / "timing.jsonl")}
    for name, values in {
        "train/loss": [line["loss"] for line in steps],
        "train/grad_norm": [line["grad_norm"] for line in steps],
        "lr/head": [line["lr"]["head"] for line in steps],
        "valid/ccc": [line["scores"]["ccc"] for line in scored if line["evaluation"] == "valid"],
        "diagnostics/gradient_norm/ccc_valence": [line["diagnostics"]["gradient_norm/ccc_valence"] for line in steps],
    }.items():
        assert [event.value for event in events.Scalars(name)] == pytest.approx(values, rel=1e-5), name
    for name in ("waiting", "peak_share", "forward_seconds"):
        # Once a second at most.
        sent = events.Scalars(f"speed/{name}")
        assert [event.value for event in sent] == pytest.approx([timing[event.step][name] for event in sent], rel=1e-5)
        assert sent


def test_the_log_tells_the_scores_of_the_evaluation_that_selects(small_corpus, tmp_path, monkeypatch, log):
    each = [Evaluation(name="train", part="train", when="epoch", most=6), *evaluations_of([])[1:]]
    monkeypatch.setattr(EmotionTask, "evaluations", lambda task: each)
    runs.train(runs.recipe(small_corpus, epochs=1), tmp_path)
    lines = run_dir.read_lines(tmp_path / "metrics.jsonl")
    scores = {line["evaluation"]: line["scores"]["ccc"] for line in lines if line["event"] == "eval"}
    assert re.search(rf"epoch 1 of \d+: loss [\d.]+, ccc {scores['valid']:.3f} ", log.text)
    assert f"(train: {scores['train']:.3f})" in log.text


@pytest.mark.parametrize("choose", ["best", "last"])
def test_the_log_says_which_run_it_is_how_far_and_what_is_kept(small_corpus, tmp_path, monkeypatch, log, choose):
    monkeypatch.setattr(run_logging, "_SAYS", 0.0)
    folder = tmp_path / "demo" / "seed0" / "fold1"
    folder.mkdir(parents=True)
    (folder / "environment.json").write_text(json.dumps({"held_out": {"train": ["A", "B"], "test": ["Ses01"]}}))
    runs.train(runs.recipe(small_corpus, epochs=2, choose=choose), folder)
    said = log.text
    assert re.search(r" demo/seed0/fold1: train \d+, valid \d+, test \d+ \(Ses01\)\n", said)
    assert re.search(r"epoch 1 of 2, step 2 of \d+: loss [\d.]+, \d:\d\d:\d\d left\n", said)
    first = re.search(r"epoch 1 of 2: loss [\d.]+, ccc -?[\d.]+.*\n", said)
    last = re.search(r"epoch 2 of 2: loss .*\n", said)
    assert first and last
    assert re.search(r", \d:\d\d:\d\d left\n$", first[0]) and "left" not in last[0]
    assert ("* best so far, kept" in first[0]) == (choose == "best")
    assert ("*" in said) == (choose == "best")
