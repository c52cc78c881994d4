"""What runs on an accelerator, run on the device of `device.py` and held against the CPU.

A process of its own runs this file (test_device.py), since a device is registered for good: it is collected by name
alone. Losses, rows and weights are the CPU's to rounding, whatever is computed there.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from affect import tasks
from affect.experiments import folds
from affect.inference import device
from affect.keyed import name_places
from affect.models import tiny
from affect.recipe import Optim, Train
from affect.tasks.emotion.config import Emotion, Model, Signature
from affect.tasks.emotion.model import EmotionModel
from affect.tasks.multimodal_emotion.models import MODELS
from affect.tasks.talking_face.config import Loss, TalkingFace
from affect.training import memory, run_dir, stacked_trainer, step, trainer
from affect.training.distributed import join, launch_settings
from affect.training.run import Run, Start
from tests.device import device as accelerator
from tests.distributed.chance_worker import TEXTS
from tests.inference.asking import ask
from tests.models.test_text import write_encoders
from tests.tasks.diarization import saved
from tests.tasks.diarization import small as voices
from tests.tasks.emotion import test_variants as variants
from tests.tasks.multimodal_emotion import fusing, small
from tests.tasks.talking_face import small as quality
from tests.tasks.talking_face import test_end_to_end as films
from tests.third.config import Activity
from tests.third.task import ActivityTask
from tests.training import runs, test_step_encoders, toy

DROPOUT = 0.1
"""The rate of every dropout here: masks follow the example, so that they are the CPU's on any device."""
NEAR = 1e-5
DEVICE = accelerator.register()


def without_gradients(mode: torch.inference_mode) -> None:
    mode._inference_mode_context = torch.no_grad()
    mode._inference_mode_context.__enter__()


# A tensor of this device can be none of that mode.
torch.inference_mode.__enter__ = without_gradients


@contextmanager
def on(kind: str) -> Iterator[None]:
    """Let engines that are joined inside compute on the `cpu` or on the `card`."""

    class There(launch_settings.Accelerator):
        @property
        def device(self) -> torch.device:
            return torch.device(kind)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launch_settings, "Accelerator", There)
        yield


def both(work: Callable[[str], Any]) -> tuple[Any, Any]:
    """Return what `work` gives on the CPU and on the device, told which it is."""
    found = []
    for kind in ("cpu", accelerator.NAME):
        with on(kind):
            assert join().device.type == kind
            found.append(work(kind))
    return found[0], found[1]


def with_dropout(recipe: Emotion) -> Emotion:
    """Return the recipe with all rates of dropout at `DROPOUT`."""
    rates = {"dropout": DROPOUT}
    if recipe.model.encoder_dropout is not None:
        rates["encoder_dropout"] = DROPOUT
    if recipe.model.text != "none":
        rates["text_dropout"] = DROPOUT
    return replace(recipe, model=replace(recipe.model, **rates))


def variant(root: Path, name: str, **train: Any) -> Emotion:
    """Return a recipe of two steps of two micro-batches or three, with one part switched on."""
    # A row of a dialogue's plan is several utterances.
    batch = 2 if name in ("dialogue", "everything") else 4
    given = {"batch": batch, "budget": 1.8, "steps": 2, "mode": "hold", **train}
    recipe = with_dropout(variants.variant(root, name, **given))
    # AdamW's first step has the rate's size however small a gradient is: rounding would be seen at a larger one.
    return replace(recipe, optim=replace(recipe.optim, lr=1e-4))


def numbers(row: Any) -> Any:
    """Return the numbers of a row's prediction."""
    return row["prediction"] | row.get("probability", {})


# The device itself


def test_it_refuses_what_an_accelerator_refuses():
    there, here = torch.ones(3, device=DEVICE), torch.ones(3)
    assert there.device == DEVICE
    with pytest.raises(RuntimeError, match="same device"):
        there + here
    with pytest.raises(RuntimeError, match="same device"):
        here[torch.tensor([0, 1], device=DEVICE)]
    with pytest.raises(RuntimeError):
        there.numpy()
    assert (there + torch.tensor(2.0)).tolist() == [3.0, 3.0, 3.0]


def test_it_counts_what_the_host_waits_for():
    there, mask = torch.arange(4.0, device=DEVICE), torch.tensor([True, False, True, True]).to(DEVICE)
    accelerator.waits.clear()
    both = there * 2 + torch.ones(4, device=DEVICE)
    torch.where(mask, both, 0.0).sum()
    torch.ones(4).pin_memory().to(DEVICE, non_blocking=True)
    assert not accelerator.waits
    for ask_for in (
        lambda: float(there.sum()), lambda: bool(mask.any()), lambda: there.tolist(), lambda: there.cpu(),
        lambda: there[mask], lambda: mask.nonzero(), lambda: torch.tensor(1.0, device=DEVICE),
        lambda: torch.ones(4).to(DEVICE), lambda: torch.ones(4).pin_memory().to(DEVICE),
    ):  # fmt: skip
        accelerator.waits.clear()
        ask_for()
        assert accelerator.waits.total() == 1


def test_its_memory_is_counted():
    module, before = torch.get_device_module(DEVICE), torch.get_device_module(DEVICE).memory_allocated()
    module.reset_peak_memory_stats()
    with accelerator.memory_counted():
        held = torch.zeros(1000, device=DEVICE)
        view, other = held[10:], held + 1
    assert module.memory_allocated() - before == 8000
    del held, other
    assert module.memory_allocated() - before == 4000
    del view
    assert module.memory_allocated() == before
    assert module.max_memory_allocated() - before == 8000


# Whole runs


@pytest.mark.parametrize(("place", "name"), enumerate(variants.NAMES))
def test_every_part_of_the_speech_model_trains_and_predicts_as_on_the_cpu(small_corpus, tmp_path, place, name):
    """In each mode by turns; validation, checkpoint, best weights and the test's rows with it."""
    mode = ("hold", "replay", 0.5)[place % 3]

    def work(kind: str) -> tuple[list[float], list[Any]]:
        folder = tmp_path / kind / "seed0" / "fold1"
        # One step: its loss is before the weights change, the rows are after it.
        recipe = variant(small_corpus, name, mode="hold" if kind == "cpu" else mode, steps=1)
        run = runs.make(recipe, folder, only=("test",))
        assert {p.device.type for p in run.model.parameters()} == {kind}
        trainer.train(run)
        return runs.losses(folder), run_dir.read_rows(folder, "test")

    (losses, rows), (found, predicted) = both(work)
    assert found == pytest.approx(losses, abs=NEAR)
    assert [row["id"] for row in predicted] == [row["id"] for row in rows]
    for one, other in zip(rows, predicted, strict=True):
        for target, value in numbers(one).items():
            assert numbers(other)[target] == pytest.approx(value, abs=1e-4)


def test_text_encoders_of_transformers_train_as_on_the_cpu(small_corpus, tmp_path):
    write_encoders(tmp_path / "texts", TEXTS)

    def work(kind: str) -> list[list[float]]:
        found = []
        for name in TEXTS:
            base = variant(small_corpus, "text", mode="hold" if kind == "cpu" else "replay")
            recipe = replace(base, model=replace(base.model, text=str(tmp_path / "texts" / name)))
            folder = tmp_path / kind / name / "fold1"
            trainer.train(runs.make(recipe, folder, only=("valid",)))
            found.append(runs.losses(folder))
        return found

    wanted, found = both(work)
    assert_near(found, wanted)


@pytest.mark.parametrize("name", [name for name in tiny.NAMES if name != "small"])
def test_the_step_of_every_encoder_is_the_cpus(name):
    section = Model(
        encoder=name, train_encoder="all", encoder_dropout=DROPOUT, layerdrop=0.5, spec_augment=True, prosody_dim=0,
        hidden=16, dropout=DROPOUT, checkpointing=name == "tiny",
    )  # fmt: skip
    torch.manual_seed(0)
    made = EmotionModel(section, Signature()).train()
    name_places(made)

    def work(kind: str) -> list[Any]:
        found = []
        for mode in ("hold",) if kind == "cpu" else ("hold", "replay", 1):
            engine, model = join(), copy.deepcopy(made).to(kind)
            batches = [batch.to(engine.device) for batch in test_step_encoders.batches((5, 4))]
            result = step.accumulate(engine, model, test_step_encoders.TERMS, batches, mode=mode, key=(5, 3))
            found.append((float(result.loss), toy.gradient(model).cpu()))
        return found

    ((loss, gradient),), there = both(work)
    for value, other in there:
        assert value == pytest.approx(loss, abs=NEAR)
        assert toy.relative(other, gradient) < 1e-4


@pytest.mark.parametrize("name", {kind: name for name, kind in MODELS.items()}.values())
def test_fusion_models_train_alone_and_stacked_as_on_the_cpu(feature_corpus, tmp_path, name):
    recipe = small.recipe(feature_corpus, name=name, dropout=DROPOUT, epochs=1)

    def work(kind: str) -> list[list[float]]:
        top = small.train(recipe, tmp_path / kind, seeds=(0,))
        if kind != "cpu" and name == "misa":
            # The most terms; what is stacked is the same model.
            alone = small.train(recipe, tmp_path / "alone", seeds=(0,), stacked=False)
            assert_near([small.losses(f) for f in small.folders(alone)], [small.losses(f) for f in small.folders(top)])
        return [small.losses(folder) for folder in small.folders(top)]

    wanted, found = both(work)
    assert len(found) == 2
    assert_near(found, wanted)


@pytest.mark.parametrize(("place", "name"), enumerate(name for name in MODELS if name != "misa"))
def test_fusion_models_are_cut_as_on_the_cpu(feature_corpus, tmp_path, place, name):
    """In each mode by turns; the one of the most terms is below."""
    base = small.with_(
        small.recipe(feature_corpus, name=name, dropout=DROPOUT, epochs=1),
        data__fold=1, optim__lr=1e-4, train__batch=45, train__budget=15.0,
    )  # fmt: skip

    def work(kind: str) -> list[list[float]]:
        mode = "hold" if kind == "cpu" else ("hold", "replay", 0.5)[place % 3]
        recipe = small.with_(base, train__mode=mode)
        top = small.train(recipe, tmp_path / kind, seeds=(0,), stacked=False, only=("valid",))
        return [small.losses(folder) for folder in small.folders(top)]

    wanted, found = both(work)
    assert_near(found, wanted)


def assert_near(found: list[list[float]], wanted: list[list[float]]) -> None:
    assert np.abs(np.array(found) - np.array(wanted)).max() < NEAR


def test_a_fusion_model_is_cut_predicts_and_goes_on_as_on_the_cpu(feature_corpus, tmp_path, monkeypatch):
    """The one of the most terms; each epoch is a step of several micro-batches, and a session."""
    base = small.recipe(feature_corpus, name="misa", dropout=DROPOUT, epochs=2)
    base = small.with_(base, data__fold=1, optim__lr=1e-4, train__batch=45, train__budget=15.0)

    def session(kind: str, mode: Any, folder: str) -> Path:
        with on(kind):
            recipe = small.with_(base, train__mode=mode)
            top = small.train(recipe, tmp_path / folder, seeds=(0,), stacked=False, only=("test1",))
        return small.folders(top)[0]

    wanted = session("cpu", "hold", "here")
    with runs.interrupted(2, monkeypatch):
        session(accelerator.NAME, "replay", "there")
    assert_alike(session(accelerator.NAME, 0.5, "there"), wanted, "test1")


def assert_alike(folder: Path, wanted: Path, part: str) -> None:
    """Hold that a run has another one's losses, and predicts what that does."""
    assert runs.losses(folder) == pytest.approx(runs.losses(wanted), abs=NEAR)
    rows, others = (run_dir.read_rows(each, part) for each in (wanted, folder))
    assert rows
    assert [row["id"] for row in others] == [row["id"] for row in rows]
    for row, other in zip(rows, others, strict=True):
        assert numbers(other) == {name: pytest.approx(value, abs=1e-4) for name, value in numbers(row).items()}


def quality_of_features(root: Path) -> TalkingFace:
    """Return a recipe with every term of two scores, of clips of two features that are lost at random."""
    base = quality.recipe(root, "every_term", batch=36, budget=200.0)
    model = replace(base.model, encoder_layers=1, modality_dropout=0.4, alignment=0.1)
    data = replace(base.data, features=("visual", "audio"), scores=("audio_quality_score", "overall_score"))
    return replace(base, data=data, model=model)


def quality_of_clips(root: Path) -> TalkingFace:
    """Return a recipe of encoders that learn, with a term of the batch."""
    base = films.recipe(root.with_name("films"), loss=Loss(plcc=0.5))
    data = replace(base.data, clips=12, clip_seconds=(0.3, 0.5))
    return replace(base, data=data, train=replace(base.train, batch=12, steps=None, budget=60.0))


@pytest.mark.parametrize(
    ("make", "modes"), [(quality_of_features, ("hold", "replay", 0.5)), (quality_of_clips, ("replay", 0.5))]
)
def test_talking_faces_train_go_on_and_predict_as_on_the_cpu(clips_root, tmp_path, monkeypatch, make, modes):
    """Each epoch is a step of several micro-batches, and a session of another mode."""
    base, epochs = make(clips_root), len(modes)
    train = replace(base.train, epochs=epochs, evaluate_every=epochs)
    base = replace(base, optim=replace(base.optim, lr=1e-4, schedule="constant", warmup=0.0), train=train)

    def begun(mode: Any, folder: str) -> Run:
        recipe = replace(base, train=replace(base.train, mode=mode))
        run = quality.run(recipe, tmp_path / folder, only=("test",))
        assert run.schedule.per_epoch == 1
        assert len(run.schedule.cut(0).ranks[0]) > 2
        return run

    with on("cpu"):
        trainer.train(begun("hold", "here"))
    with on(accelerator.NAME):
        for mode in modes[:-1]:
            runs.interrupt(begun(mode, "there"), 2, monkeypatch)
        trainer.train(begun(modes[-1], "there"))
    assert_alike(tmp_path / "there", tmp_path / "here", "test")


def test_a_diarizer_trains_goes_on_and_predicts_as_on_the_cpu(tmp_path, monkeypatch):
    """Embeddings that are compared over the whole batch; each epoch is two steps of several micro-batches."""
    voices.corpus(tmp_path / "voices")
    base = voices.recipe(tmp_path / "voices", budget=4.0)

    def begun(mode: Any, folder: str) -> Run:
        recipe = replace(base, train=replace(base.train, mode=mode))
        return voices.run(recipe, tmp_path / folder, only=("valid",))

    with on("cpu"):
        trainer.train(begun("hold", "here"))
    with on(accelerator.NAME):
        run = begun("replay", "there")
        assert len(run.schedule.cut(0).ranks[0]) > 1
        runs.interrupt(run, 3, monkeypatch)
        trainer.train(begun(0.5, "there"))
    assert runs.losses(tmp_path / "there") == pytest.approx(runs.losses(tmp_path / "here"), abs=NEAR)
    found, wanted = (list(run_dir.read_rows(tmp_path / name, "valid")) for name in ("there", "here"))
    assert [row["id"] for row in found] == [row["id"] for row in wanted]


def test_a_task_of_another_package_trains_as_on_the_cpu(tmp_path):
    recipe = Activity(
        optim=Optim(lr=3e-2, schedule="constant", warmup=0.0),
        train=Train(batch=8, epochs=2, workers=0, trackers=(), budget=60.0, diagnostics_every=2),
    )

    def work(kind: str) -> list[float]:
        folder = tmp_path / kind / "seed0" / "fold1"
        run_dir.claim(folder, recipe, experiment="test", overwrite=False)
        trainer.train(Run(join(folder), ActivityTask(recipe).for_fold(0, 1), folder, Start(experiment="test")))
        return runs.losses(folder)

    wanted, found = both(work)
    assert found == pytest.approx(wanted, abs=NEAR)


def test_an_interrupted_run_goes_on_there_and_here(small_corpus, tmp_path, monkeypatch):
    """On the device byte for byte; a checkpoint belongs to no device."""
    recipe = runs.recipe(small_corpus, dropout=DROPOUT, epochs=2, batch=12)
    recipe = replace(recipe, optim=replace(recipe.optim, ema=0.9))
    whole, cut, moved = (tmp_path / name / "seed0" / "fold1" for name in ("whole", "cut", "moved"))
    with on(accelerator.NAME):
        runs.train(recipe, whole, only=("valid",))
        for folder in (cut, moved):
            run = runs.make(recipe, folder, only=("valid",))
            runs.interrupt(run, run.schedule.per_epoch + 1, monkeypatch)
        runs.train(recipe, cut, only=("valid",))
    assert (cut / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    with on("cpu"):
        runs.train(recipe, moved, only=("valid",))
    assert runs.losses(moved) == pytest.approx(runs.losses(whole), abs=NEAR)


# Memory


def test_the_probe_measures_the_device_and_chooses_by_its_memory(small_corpus, monkeypatch):
    """Forward and backward of one row and of two there; the CPU adds up what autograd keeps."""
    recipe = variant(small_corpus, "gates", budget="auto", mode="auto")

    def work(kind: str) -> tuple[float, str, str]:
        task = tasks.make(recipe).for_fold(0, 1)
        torch.manual_seed(0)
        model = task.build_model().to(kind)
        part = task.datasets()["train"]
        state, _ = memory.choose(join(), task, model, task.terms(), part, recipe)
        lengths = np.asarray(part["length"])
        per_unit = memory._bytes_per_unit(join(), task, model, part, lengths, int(lengths.argmax()))
        with monkeypatch.context() as patch:
            trained = sum(4 * p.numel() for p in model.parameters())
            full = accelerator.MEMORY - int((1.5 * per_unit * lengths.max() + 3 * trained) / 0.9)
            patch.setattr(accelerator._Allocation, "allocated", full)
            small_state, _ = memory.choose(join(), task, model, task.terms(), part, recipe)
        return per_unit, state.mode, small_state.mode

    with accelerator.memory_counted():
        (kept, _, _), (taken, roomy, tight) = both(work)
    assert 0.8 * kept < taken < 2.5 * kept, "a backward takes more than what is kept for it, not several times as much"
    assert (roomy, tight) == ("hold", "replay")


def test_a_step_that_runs_out_of_memory_is_repeated_at_half_the_budget(small_corpus, tmp_path, monkeypatch):
    recipe = variant(small_corpus, "gates")
    real, failed = EmotionModel.forward, []

    def forward(self: EmotionModel, **given: Any) -> Any:
        if self.training and not failed and len(given["prosody"]) > 1:
            failed.append(1)
            raise torch.OutOfMemoryError("no memory")
        return real(self, **given)

    def work(kind: str) -> list[float]:
        folder = tmp_path / kind / "seed0" / "fold1"
        run = runs.make(recipe, folder, only=("valid",))
        with monkeypatch.context() as patch:
            if kind != "cpu":
                patch.setattr(EmotionModel, "forward", forward)
            trainer.train(run)
        return runs.losses(folder)

    wanted, found = both(work)
    assert failed
    assert found == pytest.approx(wanted, abs=NEAR)


# What is made of a run


@pytest.fixture(scope="module")
def trained(small_corpus, tmp_path_factory) -> Path:
    """A run of the device, of prosody and words: its parts are small enough to be exported in a moment."""
    folder = tmp_path_factory.mktemp("trained") / "seed0" / "fold1"
    recipe = runs.recipe(small_corpus, dropout=DROPOUT, steps=2, budget=2.5, mode="replay")
    with on(accelerator.NAME):
        run = runs.make(recipe, folder, only=("valid",))
        trainer.train(run)
    return folder


def asked_on_both(run: Path, *files: Path, **named: Any) -> list[Any]:
    """Return the lines that a user is given, of models on the CPU; hold that those on the device give the same."""
    given = []
    for there in (torch.device("cpu"), DEVICE):
        accelerator.waits.clear()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(device, "of_predictions", lambda there=there: there)
            bad, lines = ask(run, *files, **named)
        assert bad == 0
        given.append(lines)
    assert accelerator.waits, "it was asked"
    assert flat(given[1]) == pytest.approx(flat(given[0]), abs=2e-4)
    return given[0]


def flat(value: Any) -> list[Any]:
    """Return all that a JSON value holds."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return [value] if inner is None else [leaf for each in inner for leaf in flat(each)]


def test_its_weights_predict_a_users_file(trained, tmp_path):
    (line,) = asked_on_both(trained, saved.recording(tmp_path / "call.wav", 1.0))
    assert set(line["prediction"]) == {"valence", "arousal"}


def test_a_fusion_model_predicts_a_users_features(tmp_path):
    fusing.save(tmp_path / "model", streams=(("audio", "hum", 3), ("text", "words", 5)))
    for name, width in (("audio", 3), ("text", 5)):
        np.save(tmp_path / f"{name}.npy", np.linspace(-1, 1, width, dtype=np.float32))
    (line,) = asked_on_both(tmp_path / "model", audio=[tmp_path / "audio.npy"], text=[tmp_path / "text.npy"])
    assert line["present"] == "AT"


def test_a_talking_face_is_scored(clips_root, tmp_path):
    quality.train(quality.recipe(clips_root, steps=1), tmp_path / "run")
    quality.npz(clips_root, tmp_path / "clip.npz")
    (line,) = asked_on_both(tmp_path / "run", tmp_path / "clip.npz")
    assert line["interval"]


def test_a_recording_is_diarized(tmp_path):
    model, talk = saved.model(tmp_path / "model"), saved.recording(tmp_path / "talk.wav", 6.3)
    (line,) = asked_on_both(model, talk)
    assert len(line["turns"]) > 3


def test_its_weights_are_exported(trained, tmp_path):
    pytest.importorskip("onnxruntime")
    from affect.tasks.emotion.export import export

    done = export(trained / "checkpoints" / "best", tmp_path / "model.onnx")
    assert done.difference < 1e-4


def test_its_surroundings_name_the_device(small_corpus):
    with on(accelerator.NAME):
        found = folds._surroundings(join(), tasks.make(runs.recipe(small_corpus)))
    assert (found["device"], found["device_memory_bytes"]) == ("a device in tests", accelerator.MEMORY)


# What the host waits for

READ = {"read: affect/training/step.py:read": 1, "read: affect/training/distributed/engine.py:_clipped": 1}
"""Of each step: its loss and terms, which a run that diverges stops by and the log records, in one copy, once the
whole gradient is queued; and the gradient's norm, which has to be a number before weights are changed."""


def waits_of_a_step(recipe: Emotion, folder: Path) -> tuple[dict[str, int], int]:
    """Return what the host waits for in a run's second step, by line, and the step's micro-batches."""
    with on(accelerator.NAME):
        run = runs.make(recipe, folder, only=("valid",))
        taken = trainer.Trainer(run)
        loader = taken._loader()
        run.model.train()
        with run:
            for now in range(2):
                count = len(run.schedule.cut(now).ranks[0])
                batches = loader.take(count)
                accelerator.waits.clear()
                result, line = taken._gradient(batches)
                run.update(result, batches, line, dict)
                # Read before anything else asks.
                waits = dict(accelerator.waits)
    return waits, count


@pytest.mark.parametrize(
    ("name", "mode"),
    [("gates", "hold"), ("gates", "replay"), ("gates", 0.5), ("spec_augment", "hold"), ("cached_frames", "hold"),
     ("multitask", "hold"), ("emotion", "hold")],
)  # fmt: skip
def test_a_step_waits_for_its_loss_and_its_norm(small_corpus, tmp_path, name, mode):
    """However many micro-batches and terms: inputs are copied from pinned memory, shapes are known to the host."""
    recipe = variant(small_corpus, name, mode=mode)
    if name == "gates":
        recipe = replace(recipe, optim=replace(recipe.optim, ema=0.9, clip=1.0))
    waits, micros = waits_of_a_step(recipe, tmp_path / "seed0" / "fold1")
    assert micros > 1
    assert waits == READ


def test_transformers_waits_in_each_forward_of_a_text(small_corpus, tmp_path):
    """It asks whether the mask has any padding, and leaves the mask out where it has none."""
    waits, micros = waits_of_a_step(variant(small_corpus, "text"), tmp_path / "seed0" / "fold1")
    assert waits == READ | {"read: affect/models/text_encoder.py:encode": micros}


def test_a_dialogue_waits_for_its_lengths_and_turns(small_corpus, tmp_path):
    """Once a forward each, since utterances are grouped by length, and a dialogue is a row: both are shapes."""
    waits, micros = waits_of_a_step(variant(small_corpus, "dialogue"), tmp_path / "seed0" / "fold1")
    model = "affect/tasks/emotion/model.py:forward"
    assert waits == READ | {
        f"read: {model}": micros, "read: affect/models/dialogue.py:forward": micros,
        f"copied from memory that is not pinned: {model}": micros,
    }  # fmt: skip


def test_diagnostics_wait_once_whatever_they_say(tmp_path):
    """What a task says of its micro-batches, in one copy, and the norms and products of the terms' gradients in one."""
    waits = {}
    for every in (None, 1):
        recipe = Activity(train=Train(batch=8, epochs=1, workers=0, trackers=(), budget=20.0, diagnostics_every=every))
        folder = tmp_path / str(every) / "seed0" / "fold1"
        run_dir.claim(folder, recipe, experiment="test", overwrite=False)
        with on(accelerator.NAME):
            run = Run(join(folder), ActivityTask(recipe).for_fold(0, 1), folder, Start(experiment="test"))
            taken = trainer.Trainer(run)
            with run:
                batches = taken._loader().take(len(run.schedule.cut(0).ranks[0]))
                accelerator.waits.clear()
                taken._gradient(batches)
                waits[every] = dict(accelerator.waits)
    # A gradient by term is a step of its own.
    terms = len(run.terms)
    assert waits[None] == {"read: affect/training/step.py:read": 1}
    assert waits[1] == {
        "read: affect/training/step.py:read": 1 + terms,
        "read: affect/training/diagnostics.py:_read": 2,
    }


def test_a_stack_waits_once_and_for_each_norm(feature_corpus, tmp_path):
    """Of K runs: all their losses and terms in one copy; each run's norm is checked before its own update."""
    real, seen = Run.update, []

    def update(self: Run, *arguments: Any) -> None:
        real(self, *arguments)
        seen.append(dict(accelerator.waits))

    recipe = small.recipe(feature_corpus, dropout=DROPOUT, epochs=1)
    with on(accelerator.NAME), pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "update", update)
        patch.setattr(stacked_trainer.Stack, "gradient", counted(stacked_trainer.Stack.gradient))
        small.train(recipe, tmp_path, seeds=(0,))
    assert seen[1] == {"read: affect/training/stack.py:_results": 1} | {
        "read: affect/training/distributed/engine.py:_clipped": 2
    }


def counted(real: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function, the waits counted from its beginning."""

    def begun(*arguments: Any) -> Any:
        accelerator.waits.clear()
        return real(*arguments)

    return begun


@pytest.mark.parametrize("workers", [0, 1])
def test_loaders_pin_what_goes_to_the_device(small_corpus, tmp_path, workers):
    with on(accelerator.NAME):
        run = runs.make(runs.recipe(small_corpus, steps=1, workers=workers), tmp_path / "seed0" / "fold1")
        (batch, *_) = trainer.Trainer(run)._loader().take(1)
    accelerator.waits.clear()
    moved = batch.to(DEVICE)
    assert {tensor.device for tensor in (*moved.inputs.values(), *moved.targets.values())} == {DEVICE}
    assert not accelerator.waits
