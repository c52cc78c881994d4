"""What a step computes: counted on a few rows, true of all, whatever the cut."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from affect import cache, tasks
from affect.data.corpora import synthetic
from affect.models.convolution import ConvStack
from affect.task import Key
from affect.training import cost_probe, plan, step, work
from affect.training.distributed import join
from affect.training.flops import Counter
from affect.training.loader import Collated, Order
from affect.training.plan import Cut, Micro
from affect.training.work import Work
from tests.tasks.multimodal_emotion import small
from tests.training import runs

LONGER = {"dialogues": 1, "utterances": 4, "seconds": (1.0, 3.0)}
WORK = Work(once=(1.0, 2.0, 3.0), again=(0.0, 1.0, 0.0), peak=100.0)
LENGTHS = np.array([2.0, 4.0, 3.0])
CUT = Cut(((Micro((0, 1)), Micro((2,))), (Micro((2,)), Micro((2,), filler=True))))


def test_what_rows_need_follows_their_own_lengths():
    assert WORK.needed(LENGTHS) == (4 + 4 + 3) + (16 + 8 + 3) + (9 + 6 + 3)


@pytest.mark.parametrize(("held", "again"), [(np.inf, 0.0), (1, 2 * 3.0), (0, 2 * 4.0 + 3 * 3.0)])
def test_what_is_computed_is_padded_and_has_fillers_and_replays(held, again):
    assert WORK.computed(LENGTHS, CUT, held) == 2 * 27 + 3 * 18 + again


def test_speed_is_shared_by_the_ranks():
    found = WORK.speed(1e13, seconds=2.0, ranks=4)
    assert found == {"flops": 1e13, "tflops_per_second": 5.0, "peak_share": 5e12 / 100.0 / 4}


@pytest.fixture(autouse=True)
def _all_rows_that_a_curve_needs(monkeypatch):
    monkeypatch.setattr(work, "FEWEST", 3)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Of 2 s a frame more or less is 1 %."""
    root = tmp_path_factory.mktemp("longer") / "generated"
    synthetic.read(str(root), **LONGER)
    return root


class Setting:
    def __init__(self, root, **model):
        base = runs.recipe(root, encoder="tiny")
        section = replace(base.model, prosody_dim=0, **model)
        self.recipe = replace(base, data=replace(base.data, **LONGER), model=section)
        self.task, self.engine = tasks.make(self.recipe).for_fold(0, 1), join()
        self.part = self.task.datasets()["train"]
        torch.manual_seed(0)
        self.model = self.task.build_model()


@pytest.fixture
def setting(corpus):
    return Setting(corpus)


def measured(setting):
    s = setting
    return work.measure(s.engine, s.task, s.model, s.part, s.recipe)


@pytest.mark.parametrize("trained", ["all", "transformer", "none"])
def test_a_step_computes_what_is_said(corpus, monkeypatch, trained):
    """Within 1 %, all that a whole step computes: hold, replay and between, frozen parts kept."""
    monkeypatch.setattr(ConvStack, "by_row", False)
    s = Setting(corpus, train_encoder=trained)
    found, lengths = measured(s), np.array(s.part["length"][:])
    cut = plan.cut(lengths, np.arange(6), 1, 4.0)
    data = Collated(s.task, s.part)
    batches = [data.batch(Order(micro, Key(seed=0, epoch=0))) for micro in cut.ranks[0]]
    assert len(batches) > 2
    modes: dict[step.Mode, float] = {"hold": np.inf, "replay": 0, 1: 1}
    for mode, held in modes.items():
        with Counter() as counter:
            step.accumulate(s.engine, s.model, s.task.terms(), batches, mode=mode, key=(0, 0))
        s.model.zero_grad()
        assert found.computed(lengths, cut, held) == pytest.approx(counter.total, rel=0.01)


@pytest.mark.parametrize("model", [
    {"encoder": "tiny", "train_encoder": "none"}, {"encoder": "tiny-whisper", "train_encoder": "transformer"},
    {"encoder": "tiny-group", "temporal": "mamba", "checkpointing": True},
])  # fmt: skip
def test_rows_of_all_lengths_take_what_the_counted_few_say(corpus, model):
    s = Setting(corpus, **model)
    part, net = s.part, s.model
    before = {name: value.clone() for name, value in net.state_dict().items()}
    found = measured(s)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())
    data, rows, counted = Collated(s.task, part), range(0, len(part), 2), []
    with cost_probe.probing(s.engine, net):
        for row in rows:
            batch = data.batch(Order(Micro((row,)), Key(seed=0, epoch=0)))
            counted.append(work._operations(net, batch.inputs))
    lengths = np.array(part["length"][:])[rows]
    said = np.stack([np.polyval(curve, lengths) for curve in (found.once, found.again)], 1)
    np.testing.assert_allclose(said.sum(0), np.sum(counted, 0), rtol=0.01)
    np.testing.assert_allclose(said, counted, rtol=0.02)


def test_a_frozen_part_is_kept_and_nothing_of_it_goes_backward(corpus, setting):
    one, other = measured(setting), measured(Setting(corpus, train_encoder="none"))
    row = np.array([2.0])
    assert other.needed(row) < 0.4 * one.needed(row), "forward alone, which is a third"
    assert np.polyval(other.again, row)[0] < 0.01 * np.polyval(one.again, row)[0]


def test_it_is_remembered(setting, monkeypatch, tmp_path):
    monkeypatch.setenv("AFFECT_CACHE", str(tmp_path))
    found = measured(setting)
    assert {path.name for path in cache.cache_folder().iterdir()} == {"flops", "peak"}

    def again(*_):
        raise AssertionError("done again")

    monkeypatch.setattr(work, "_count", again)
    monkeypatch.setattr(work, "_timed_product", again)
    assert measured(setting) == found
    (path,) = (cache.cache_folder() / "peak").iterdir()
    path.write_text("null")
    with pytest.raises(AssertionError):
        measured(setting)


def test_features_of_one_size_are_counted_by_the_example(feature_corpus, tmp_path):
    """A stack's lines have them too, of an epoch of each run's."""
    top = small.train(small.recipe(feature_corpus, epochs=2), tmp_path, seeds=(0,))
    for folder in small.folders(top):
        lines = small.read(folder / "timing.jsonl")
        assert len(lines) == 2
        for line in lines:
            phases = sum(line[f"{phase}_seconds"] for phase in ("loading", "forward", "backward", "update"))
            assert phases == pytest.approx(line["seconds"], rel=0.1)
            assert line["tflops_per_second"] == pytest.approx(line["flops"] / line["seconds"] / 1e12)
    task = tasks.make(small.recipe(feature_corpus)).for_fold(0, 1)
    model = task.build_model()
    part = task.datasets()["train"]
    inputs = Collated(task, part).batch(Order(Micro(tuple(range(len(part)))), Key(seed=0, epoch=0))).inputs
    with Counter() as counter:
        cost_probe.backward_of(model.train()(**inputs))
    assert lines[0]["flops"] == pytest.approx(counter.total, rel=1e-6)
