"""The task from voices and recordings to turns, over every way in which a batch may be cut."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from affect import keyed, tasks
from affect.data.activity import in_seconds
from affect.data.rttm import write_rttm
from affect.data.simulation import Simulation
from affect.data.simulator import Simulator
from affect.errors import AffectError
from affect.task import LOG_VARIANCE, Batch, Key, Outputs
from affect.tasks.diarization.config import ACTIVITY, SPEAKER, VOICES, Data, Loss
from affect.tasks.diarization.corpus import EXAMPLE, WINDOW, read
from affect.tasks.diarization.task import DiarizationTask
from affect.training import trainer
from affect.training.terms import whole
from tests.tasks.diarization import small
from tests.tasks.diarization.small import VARIANTS
from tests.training import runs

KEY = Key(seed=3, epoch=2)
CUTS = {"held": {"mode": "hold", "budget": 8.0}, "replayed": {"mode": "replay", "budget": 4.0},
        "mixed": {"mode": 0.5, "budget": 4.0}}  # fmt: skip


def outputs_of(model: torch.nn.Module, batch: Batch) -> Outputs:
    with torch.no_grad(), keyed.examples(0, 5, batch.ids):
        outputs: Outputs = model(**batch.inputs)
    return outputs


@pytest.mark.parametrize("name", VARIANTS)
def test_it_trains_in_one_piece_and_cut_and_what_it_saves_predicts_the_same(voices_root, tmp_path, name):
    last = {"steps": 2, "epochs": 1, "choose": "last"}
    run = small.run(small.recipe(voices_root, name, mode="hold", budget=1e4, **last), tmp_path / "whole")
    found = trainer.train(run)
    assert np.isfinite(found["valid"]["der"])
    # A mixed step holds some of its micro-batches and replays the others.
    cuts = CUTS if name == "ours" else ("mixed",)
    for cut in cuts:
        small.train(small.recipe(voices_root, name, **CUTS[cut], **last), tmp_path / cut)
        assert runs.losses(tmp_path / cut) == pytest.approx(runs.losses(tmp_path / "whole"), rel=1e-5), cut
    for folder in ("whole", *cuts):
        assert "not keyed" not in (tmp_path / folder / "train.log").read_text()
    again = tasks.load(tmp_path / "whole" / "checkpoints" / "best")
    task = run.task
    part = task.datasets()["train"]
    batch = task.collate([part[k] for k in range(3)], KEY)
    for output, values in outputs_of(run.engine.unwrap(run.model).eval(), batch).items():
        torch.testing.assert_close(outputs_of(again, batch)[output], values, atol=1e-6, rtol=0)
    recordings = task.collate([task.datasets()["valid"][0]], None)
    with torch.no_grad():
        assert task.predict(again, recordings) == task.predict(run.engine.unwrap(run.model), recordings)


def test_a_run_that_is_interrupted_goes_on_to_the_same_bytes(voices_root, tmp_path, monkeypatch):
    recipe = small.recipe(voices_root, epochs=2, evaluate_every=2, budget=1e4)
    assert small.train(recipe, tmp_path / "whole")
    runs.interrupt(small.run(recipe, tmp_path / "cut"), 4, monkeypatch)
    small.train(recipe, tmp_path / "cut")
    whole, cut = (tmp_path / folder / "metrics.jsonl" for folder in ("whole", "cut"))
    assert cut.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("name", VARIANTS)
def test_every_parameter_learns(voices_root, name):
    task = small.task(voices_root, name)
    torch.manual_seed(0)
    model = task.new_model().train()
    batch = task.collate(list(task.datasets()["train"]), KEY)
    with keyed.examples(0, 0, batch.ids):
        whole(task.terms(), model(**batch.inputs), batch.targets).total.backward()
    assert all(parameter.grad is not None for parameter in model.parameters() if parameter.requires_grad)
    still = [n for n, p in model.named_parameters() if p.requires_grad and not p.grad.any()]
    # As in the report: nobody is taught what no speaker is, and a norm sees zeros alone.
    assert still == {"before": ["non_speaker", "detection.0.frames_norm.weight"]}.get(name, [])


@pytest.mark.parametrize("name", VARIANTS)
def test_an_example_is_the_same_alone_and_in_a_batch_with_dropout_on(voices_root, name):
    task = small.task(voices_root, name)
    model = task.new_model().train()
    keyed.name_places(model)
    rows = [task.datasets()["train"][k] for k in range(3)]
    together, targets = (batch := task.collate(rows, KEY)).inputs, batch.targets
    outputs = outputs_of(model, batch)
    for k, row in enumerate(rows):
        alone = task.collate([row], KEY)
        for name_ in ("waveform", "slots"):
            assert torch.equal(alone.inputs[name_][0], together[name_][k]), name_
        assert torch.equal(alone.targets[ACTIVITY][0].nan_to_num(-1), targets[ACTIVITY][k].nan_to_num(-1))
        own = outputs_of(model, alone)
        torch.testing.assert_close(own[ACTIVITY][0], outputs[ACTIVITY][k], atol=1e-4, rtol=1e-4)
    assert not torch.equal(task.collate(rows, Key(seed=3, epoch=3)).inputs["waveform"], together["waveform"])
    assert not torch.equal(task.collate(rows, Key(seed=4, epoch=2)).inputs["waveform"], together["waveform"])


@torch.no_grad()
def test_two_evaluations_are_the_same(voices_root):
    task = small.task(voices_root)
    model = task.new_model().eval()
    part = task.datasets()["test_2_speakers_4s"]
    rows = [[*task.predict(model, task.collate(some, None))] for some in ([part[0], part[1]], [part[0]])]
    assert rows[0][0] == rows[1][0]
    assert task.predict(model, task.collate([part[0], part[1]], None)) == rows[0]
    assert {"turns"} == rows[0][0]["prediction"].keys() == rows[0][0]["target"].keys()
    assert (rows[0][0]["speakers"], rows[0][0]["seconds"], rows[0][0]["uem"]) == (2, 4.0, [[0.0, 4.0]])


def test_workers_do_not_change_what_is_simulated(voices_root, tmp_path):
    for workers in (0, 1):
        small.train(small.recipe(voices_root, workers=workers, steps=2, budget=1e4), tmp_path / str(workers))
    assert runs.losses(tmp_path / "0") == runs.losses(tmp_path / "1")


# Voices and conversations


def test_what_is_tested_is_the_same_for_every_seed(voices_root):
    first, second = (tasks.make(small.recipe(voices_root)).for_fold(seed, 1) for seed in (0, 5))
    assert first.recipe.seed != second.recipe.seed
    parts = first.datasets()
    assert sorted(parts) == ["test_2_speakers_1.5s", "test_2_speakers_4s", "train", "valid"]
    seen = []
    for name in set(parts) - {"train"}:
        for row in parts[name]:
            one, other = (task.blocks.recording(row) for task in (first, second))
            assert np.array_equal(one[0], other[0]) and one[1:] == other[1:]
            assert one[1], row
            seen.append(one[0].tobytes()[:4000])
    assert len({*seen}) == len(seen)


def test_plain_conversations_are_those_in_a_room_but_for_their_sound(voices_root):
    simulation = Simulation(speakers=(2, 3), turn=(0.3, 1.0), gap=0.5, noise=1.0, reverberation=1.0)
    data = small.data(voices_root, test_sound=("plain", "trained"))
    task = small.task(voices_root, data=data, simulation=simulation)
    parts = task.datasets()
    assert sorted(name for name in parts if name.endswith("_plain")) == [
        "test_2_speakers_1.5s_plain",
        "test_2_speakers_4s_plain",
    ]
    for plain, room in zip(parts["test_2_speakers_4s_plain"], parts["test_2_speakers_4s"], strict=True):
        (clean, turns, _), (heard, same, _) = (task.blocks.recording(row) for row in (plain, room))
        assert turns == same and not np.array_equal(clean, heard)
        silent = np.ones(len(clean), bool)
        for turn in turns:
            silent[round(turn.start * 16_000) : round(turn.end * 16_000)] = False
        assert not clean[silent].any() and np.any(heard[silent]) == silent.any()
    # The first kind is validation's.
    assert {row["kind"] for row in parts["valid"]} == {"plain"}
    assert {row["kind"] for row in small.task(voices_root).datasets()["valid"]} == {"conversation"}


def speakers_of(task: DiarizationTask, part: str) -> set[str]:
    return {turn.speaker for row in task.datasets()[part] for turn in task.blocks.recording(row)[1]}


@pytest.mark.parametrize("held_out", [0, 2])
def test_nothing_is_trained_on_voices_of_tests_or_of_those_held_out(voices_root, held_out):
    recipe = small.recipe(voices_root)
    recipe = replace(
        recipe,
        data=small.data(voices_root, held_out=held_out, valid=6),
        simulation=replace(recipe.simulation, speakers=(2, 2)),
    )
    task = tasks.make(recipe).for_fold(0, 1)
    corpus = task.corpus
    assert len(corpus.training) == 5 - held_out and len(corpus.test) == 4
    assert len({*corpus.training.speakers} & {*corpus.validation.speakers}) == (0 if held_out else 5)
    rows = list(task.datasets()["train"])
    named = {int(voice) for row in rows for voice in task.collate([row], KEY).targets[VOICES].flatten()}
    assert named <= {-100, *range(len(corpus.training))}
    assert speakers_of(task, "train") <= {*corpus.training.speakers}
    assert speakers_of(task, "valid") <= {*corpus.validation.speakers}
    assert speakers_of(task, "test_2_speakers_4s") <= {*corpus.test.speakers}


@pytest.fixture(scope="module")
def folder(voices_root, tmp_path_factory) -> Path:
    """A folder of recordings of one speaker each, of five voices."""
    root = tmp_path_factory.mktemp("speech") / "own"
    root.mkdir()
    for path in sorted((voices_root / "seen").rglob("*.wav")):
        (root / f"{path.parent.name}-{path.name}").symlink_to(path)
    return root


def test_of_a_folder_of_voices_a_fifth_is_kept_for_tests(folder, voices_root):
    corpus = read(Data(voices="folder", root=str(folder)))
    assert (len(corpus.training), len(corpus.test)) == (4, 1)
    assert not {*corpus.training.speakers} & {*corpus.test.speakers}
    assert corpus.identity.startswith("own@")
    assert read(Data(root=str(folder))).identity == corpus.identity
    other = read(Data(voices="folder", root=str(folder), test_root=str(voices_root / "unseen"), held_out=2))
    assert (len(other.training), len(other.validation), len(other.test)) == (3, 2, 4)
    assert other.fingerprint != corpus.fingerprint
    faster = read(Data(root=str(folder), test_root=str(voices_root / "unseen"), held_out=2, speeds=(0.9, 1.1)))
    assert len(faster.training) == 9 and {*other.training.speakers} < {*faster.training.speakers}
    for part in ("validation", "test"):
        assert getattr(faster, part).fingerprint == getattr(other, part).fingerprint, "chosen and tested by real voices"


def test_a_table_or_a_layout_tells_who_speaks(folder, small_corpus):
    files = sorted(folder.glob("*.wav"))
    table = folder.parent / "who.csv"
    table.write_text("file,who\n" + "".join(f"own/{path.name},{path.name[4:7]}\n" for path in files))
    data = Data(root=str(folder.parent), table="who.csv", columns=("file", "who"), most_seconds=2.0)
    corpus = read(data)
    assert {*corpus.training.speakers} | {*corpus.test.speakers} == {f"{k:03d}" for k in range(5)}
    assert all(len(corpus.training.speech(k)) == 32_000 for k in range(4)), "a voice has 5 s"
    corpus = read(Data(root=str(small_corpus), voices_layout="iemocap"))
    assert all(name.startswith("Ses0") for name in corpus.training.speakers) and len(corpus.training) > 1


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"test_root": "{folder}"}, "5 speakers are in data.root and in data.test_root: seen000, seen001"),
        ({"held_out": 4}, "4 of 4 voices can't be held out"),
        ({"root": "{folder}/nothing"}, "no such folder of voices"),
        ({"speaker": "folder"}, "has no voice that can be used"),
        ({"voices_layout": "iemocap"}, "."),
        ({"voices_layout": "rttm_folder"}, "is of recordings with turns, not of"),
        ({"test_speakers": (2,)}, "data.test_speakers asks for 2 speakers of 1 test voices"),
        ({"test_root": "{unseen}", "held_out": 3}, "simulation.speakers asks for 3 speakers of 2 training voices"),
        ({"recordings": "{folder}"}, "."),
    ],
)
def test_voices_that_can_not_be_used_are_one_line(folder, voices_root, fields, said):
    places = {"folder": folder, "unseen": voices_root / "unseen"}
    given = {name: value.format(**places) if isinstance(value, str) else value for name, value in fields.items()}
    base = small.recipe(voices_root)
    data = Data(**{"voices": "folder", "root": str(folder), "test_speakers": (1,), **given})
    with pytest.raises(AffectError, match=said) as error:
        tasks.make(replace(base, data=data)).for_fold(0, 1).datasets()
    assert "\n" not in str(error.value)


def test_embeddings_are_of_another_block_unless_they_are_to_be_of_the_same(voices_root):
    made = {}
    for which in ("other", "same"):
        task = small.task(voices_root, loss=Loss(reference=which))
        made[which] = task.collate([task.datasets()["train"][0]], KEY).inputs
    assert torch.equal(made["other"]["waveform"], made["same"]["waveform"])
    assert not torch.equal(made["other"]["reference"], made["other"]["waveform"])
    assert torch.equal(made["same"]["reference"], made["same"]["waveform"])
    assert torch.equal(made["same"]["reference_spoken"], made["same"]["spoken"])


# Recordings


@pytest.fixture(scope="module")
def recordings(voices_root, tmp_path_factory) -> Path:
    """Three recordings to train on, one of validation, one of tests, with RTTM, of generated voices."""
    root = tmp_path_factory.mktemp("recordings")
    base = small.recipe(voices_root)
    simulator = Simulator(read(base.data).test, base.simulation)
    for k, part in enumerate(("train", "train", "train", "dev", "test")):
        made = simulator.conversation(9, 0, k, 6.0 if part == "train" else 1.5)
        (root / part).mkdir(exist_ok=True)
        soundfile.write(root / part / f"r{k}.wav", made.samples, 16_000)
        with (root / part / f"r{k}.rttm").open("w") as stream:
            write_rttm(stream, f"r{k}", in_seconds(made.turns))
    return root


def with_recordings(voices_root: Path, recordings: Path, name: str = "ours", **named: float) -> DiarizationTask:
    data = small.data(voices_root, recordings=str(recordings), **{"real": 0.2, "shift": 0.64, **named})
    return small.task(voices_root, name, data=data)


def test_a_share_of_the_examples_are_windows_of_recordings(voices_root, recordings):
    task = with_recordings(voices_root, recordings)
    kinds = list(task.datasets()["train"]["kind"])
    assert (kinds.count(EXAMPLE), kinds.count(WINDOW)) == (8, 2)
    assert len(task.datasets()["real_valid"]) == len(task.datasets()["real_test"]) == 1
    row = next(row for row in task.datasets()["train"] if row["kind"] == WINDOW)
    sounds = {each: soundfile.read(recordings / "train" / f"r{each}.wav", dtype="float32")[0] for each in range(3)}
    starts = set()
    for epoch in range(4):
        batch = task.collate([row], Key(seed=0, epoch=epoch))
        both = [batch.inputs[name][0].numpy() for name in ("waveform", "reference")]
        found = [
            (each, start)
            for block in both
            for each, sound in sounds.items()
            for start in range(0, len(sound) - len(block) + 1, 64)
            if np.array_equal(sound[start : start + 200], block[:200])
        ]
        assert len(found) == 2 and found[0][0] == found[1][0], found
        # Two windows of one recording, which share no sample.
        assert abs(found[0][1] - found[1][1]) >= len(both[0])
        starts.add(found[0])
    assert len(starts) > 1
    same = [task.collate([row], KEY).inputs["waveform"] for _ in range(2)]
    assert torch.equal(*same)


def test_windows_say_who_speaks_when_and_are_shown_in_evaluations_of_training(voices_root, recordings):
    task = with_recordings(voices_root, recordings, real=0.5)
    windows = [row for row in task.datasets()["train"] if row["kind"] == WINDOW]
    batch = task.collate(windows, KEY)
    assert batch.inputs["spoken"].any(2).sum(1).min() >= 1
    frames = batch.inputs["spoken"].any(1).repeat_interleave(task.recipe.model.frame, 1)
    power = batch.inputs["waveform"].square()
    assert power[frames].mean() > 5 * power[~frames].mean()
    shown = task.collate(windows[:2], None)
    assert shown.inputs["samples"].tolist() == [task.blocks.size] * 2
    assert all(row["target"]["turns"] for row in shown.rows)


def test_recordings_are_tested_whole_and_their_speakers_are_no_training_voices(voices_root, recordings, tmp_path):
    task = with_recordings(voices_root, recordings, "before")
    batch = task.collate([row for row in task.datasets()["train"] if row["kind"] == WINDOW], KEY)
    assert (batch.targets[SPEAKER] == -100).all()
    run = small.run(task.recipe, tmp_path / "run", only=("real_valid", "real_test"))
    scores = trainer.train(run)
    assert {"real_valid", "real_test"} <= scores.keys()
    assert np.isfinite(scores["real_test"]["der"])


def test_baselines_are_of_every_test_part(voices_root, recordings):
    rows = with_recordings(voices_root, recordings).baselines()
    assert sorted(rows) == ["real_test", "real_valid", "test_2_speakers_1.5s", "test_2_speakers_4s"]
    for of in rows.values():
        assert sorted(of) == ["all_speakers", "one_speaker", "oracle_speech", "silence"]
        assert all(row["target"]["turns"] for row in of["silence"])


def test_a_run_says_its_voices_and_what_it_left_out(voices_root):
    said = small.task(voices_root).describe()
    assert said["voices"] == {"training": 5, "validation": 5, "test": 4}
    assert said["utterances"]["train"] == 8


def test_learned_weights_have_their_own_rate(voices_root):
    task = small.task(voices_root, "before")
    recipe = replace(task.recipe, loss=replace(task.recipe.loss, weights_lr=0.02))
    own = tasks.make(recipe).for_fold(0, 1)
    groups = {group["name"]: group for group in own.param_groups(own.new_model())}
    assert (groups["loss_weights"]["lr"], groups["loss_weights"]["weight_decay"]) == (0.02, 0.0)
    batch = own.collate([own.datasets()["train"][0]], KEY)
    assert outputs_of(own.new_model(), batch)[LOG_VARIANCE].shape == (1, 2)


def test_the_same_recording_to_train_on_and_to_test_is_refused(voices_root, recordings, tmp_path, caplog):
    root = tmp_path / "copied"
    shutil.copytree(recordings, root)
    for ending in (".wav", ".rttm"):
        shutil.copy(root / "train" / f"r0{ending}", root / "test" / f"again{ending}")
    (root / "test" / "again.rttm").write_text((root / "train" / "r0.rttm").read_text().replace("r0", "again"))
    with pytest.raises(
        AffectError, match=r"1 recordings are in two parts .*: r0 \(train\) = again \(test\) \(remove one"
    ):
        with_recordings(voices_root, root).datasets()
    recipe = small.recipe(voices_root)
    data = replace(recipe.data, recordings=str(root))
    tasks.make(replace(recipe, data=data)).for_fold(0, 1).datasets()


def test_a_recording_of_a_voice_to_train_with_and_of_one_to_test_is_refused(folder, voices_root, tmp_path):
    first = min(folder.iterdir())
    shutil.copytree(voices_root / "unseen", tmp_path / "test")
    (tmp_path / "test" / "another").mkdir()
    shutil.copy(first, tmp_path / "test" / "another" / "x.wav")
    who = first.name.partition("-")[0]
    words = rf"leaks: 1 recordings of voices are in two parts .*: {who} \(train\) = another \(test\)"
    with pytest.raises(AffectError, match=words):
        read(Data(voices="folder", root=str(folder), test_root=str(tmp_path / "test")))
