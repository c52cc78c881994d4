"""The memory probe: what is named is taken, what is not follows the memory."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from affect import tasks
from affect.errors import AffectError
from affect.recipe import Train
from affect.training import memory
from affect.training.distributed import join
from tests.training import runs


class Setting:
    def __init__(self, root, loss: str = "ccc"):
        self.recipe = replace(runs.recipe(root, encoder="tiny"), loss=loss)
        self.task = tasks.make(self.recipe).for_fold(0, 1)
        self.part = self.task.datasets()["train"]
        self.lengths = np.asarray(self.part["length"])
        self.engine = join()
        torch.manual_seed(0)
        self.model = self.task.build_model()

    def choose(self, **train) -> tuple[float, str]:
        recipe = replace(self.recipe, train=Train(**{"batch": 8, **train}))
        self.state, self.words = memory.choose(self.engine, self.task, self.model, self.task.terms(), self.part, recipe)
        return self.state.budget, self.state.mode


@pytest.fixture(scope="module")
def ccc(small_corpus):
    return Setting(small_corpus)


@pytest.fixture(scope="module")
def mse(small_corpus):
    return Setting(small_corpus, "mse")


def limit(monkeypatch, setting: Setting, size: float) -> None:
    """Let `size` bytes be free for graphs, beside gradients and the optimiser's state."""
    trained = sum(p.numel() * p.element_size() for p in setting.model.parameters() if p.requires_grad)
    monkeypatch.setattr(setting.engine, "free_memory", lambda: int(size + 3 * trained))


def longest(setting: Setting) -> float:
    """Return the bytes of the longest example's graph, as found in an unlimited probe."""
    index = int(setting.lengths.argmax())
    return memory._bytes_per_unit(
        setting.engine, setting.task, setting.model, setting.part, setting.lengths, index
    ) * float(setting.lengths[index])


@pytest.mark.parametrize("mode", ["hold", "replay"])
def test_what_is_named_is_taken_and_nothing_is_run(ccc, monkeypatch, mode):
    def run(*_):
        raise AssertionError("the probe ran")

    monkeypatch.setattr(memory, "_bytes_per_unit", run)
    assert ccc.choose(budget=7, mode=mode) == (7.0, mode)


def test_an_additive_loss_never_holds(mse, monkeypatch):
    assert all(term.additive for term in mse.task.terms())
    assert mse.choose(budget=7.0) == (7.0, "one pass")
    limit(monkeypatch, mse, 1e12)
    assert mse.choose()[1] == "one pass"


def test_the_budget_follows_the_memory(ccc, monkeypatch):
    one = longest(ccc)
    top = float(ccc.lengths.max())
    found = {}
    for share in (0.5, 2.0, 4.0):
        limit(monkeypatch, ccc, share * one)
        found[share] = ccc.choose()[0]
    assert found[2.0] == pytest.approx(2 * top, rel=0.02)
    assert found[4.0] == pytest.approx(4 * top, rel=0.02)
    assert found[0.5] == top, "the longest example always fits its own budget"
    limit(monkeypatch, ccc, 0)
    assert ccc.choose()[0] == top


def test_a_whole_batch_is_the_largest_budget(ccc, monkeypatch):
    limit(monkeypatch, ccc, 1e15)
    monkeypatch.setattr(memory, "_CPU_BYTES", 10**15)
    assert ccc.choose(batch=4)[0] == pytest.approx(4 * float(ccc.lengths.max()))


def test_a_cpu_takes_no_more_than_pays(ccc, monkeypatch):
    limit(monkeypatch, ccc, 1e15)
    monkeypatch.setattr(memory, "_CPU_BYTES", 3 * longest(ccc))
    assert ccc.choose()[0] == pytest.approx(3 * float(ccc.lengths.max()), rel=0.02)


def test_hold_where_a_ranks_whole_share_fits_else_replay(ccc, monkeypatch):
    one, top = longest(ccc), float(ccc.lengths.max())
    limit(monkeypatch, ccc, 20 * one)
    assert ccc.choose(budget=2 * top)[1] == "hold"
    limit(monkeypatch, ccc, 2.2 * one)
    assert ccc.choose(budget=2 * top) == (2 * top, "replay"), "a named budget stays"
    limit(monkeypatch, ccc, 3 * one)
    assert ccc.choose(budget=2 * top)[1] == "mixed", "some of the graphs fit"
    assert ccc.state.capacity == pytest.approx(2.5 * top, rel=0.01)
    assert f"mixed, {ccc.state.capacity:.4g} s of audio of graphs kept" in ccc.words
    assert ccc.choose(budget=2 * top, mode=0.5)[1] == "mixed"
    limit(monkeypatch, ccc, 20 * one)
    assert ccc.choose(budget=2 * top, mode="replay")[1] == "replay"


def test_the_probe_leaves_no_trace(ccc):
    ccc.model.train()
    before = {name: value.clone() for name, value in ccc.model.state_dict().items()}
    ccc.choose()
    assert all(torch.equal(before[name], value) for name, value in ccc.model.state_dict().items())
    assert all(p.grad is None for p in ccc.model.parameters())
    assert ccc.model.training
    ccc.model.eval()
    ccc.choose()
    assert not ccc.model.training


def test_too_little_memory_for_one_example_is_one_line(ccc, monkeypatch):
    def run(*_):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(memory, "_saved", run)
    with pytest.raises(AffectError, match=r"out of memory with the longest example alone \(Ses0"):
        ccc.choose()


def test_averaged_weights_are_counted(ccc, monkeypatch):
    limit(monkeypatch, ccc, 3 * longest(ccc))
    plain = ccc.choose()[0]
    monkeypatch.setattr(ccc, "recipe", runs.with_optim(ccc.recipe, ema=0.9))
    assert ccc.choose()[0] < plain


def test_what_autograd_keeps_is_counted():
    """Against a graph whose saved tensors are known: x and relu(xW) of float32, the weights left out."""
    net = torch.nn.Sequential(torch.nn.Linear(10, 1000, bias=False), torch.nn.ReLU())

    class Named(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x):
            return {"y": self.net(x)}

    kept = memory._saved(Named(), {"x": torch.randn(50, 10)})
    assert kept == (50 * 10 + 50 * 1000) * 4
