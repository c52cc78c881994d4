"""The scan against the recurrence written out one number at a time, in value, gradient, memory and dtype."""

# ruff: noqa: N803

from __future__ import annotations

import weakref

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from affect.models import selective_scan as scan
from affect.models.selective_scan import STEPS, selective_scan

NAMES = ("u", "delta", "A", "B", "C", "D", "z", "delta_bias")


def arguments(rows: int, length: int, channels: int, states: int, seed: int = 0, dtype=torch.float64) -> dict:
    g = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=g, dtype=torch.float64).to(dtype).requires_grad_()

    wide, narrow = (rows, length, channels), (rows, length, states)
    shapes = (wide, wide, (channels, states), narrow, narrow, (channels,), wide, (channels,))
    made = {name: draw(*shape) for name, shape in zip(NAMES, shapes, strict=True)}
    # From channels that remember to channels that forget at once: A from -0.05 to -7.
    made["A"] = (-torch.logspace(-1.3, 0.85, channels * states, dtype=torch.float64).view(channels, states)).to(dtype)
    made["A"].requires_grad_()
    return made


def slowly(u, delta, A, B, C, D=None, z=None, delta_bias=None, *, delta_softplus=False) -> torch.Tensor:
    """The definition, a state at a time, with [D, N] as the papers write it."""
    step = delta if delta_bias is None else delta + delta_bias
    step = torch.log1p(step.exp()) if delta_softplus else step
    rows = []
    for b in range(len(u)):
        h, outputs = torch.zeros_like(A), []
        for t in range(u.shape[1]):
            dt = step[b, t][:, None]
            h = (dt * A).exp() * h + dt * B[b, t] * u[b, t][:, None]
            outputs.append(h @ C[b, t])
        rows.append(torch.stack(outputs))
    y = torch.stack(rows)
    y = y if D is None else y + D * u
    return y if z is None else y * z * z.sigmoid()


def outcome(function, made: dict, weights: torch.Tensor) -> dict[str, torch.Tensor]:
    y = function(**made, delta_softplus=True)
    found = torch.autograd.grad((y * weights).sum(), list(made.values()))
    return {"y": y.detach(), **dict(zip(made, found, strict=True))}


@settings(max_examples=25, deadline=None)
@given(
    rows=st.integers(1, 3),
    length=st.one_of(st.integers(1, 4), st.integers(STEPS - 1, STEPS + 1), st.integers(2 * STEPS, 2 * STEPS + 3)),
    channels=st.integers(1, 5),
    states=st.integers(1, 4),
    seed=st.integers(0, 99),
    left_out=st.sets(st.sampled_from(["D", "z", "delta_bias"])),
)
def test_it_is_the_recurrence_in_value_and_in_every_gradient(rows, length, channels, states, seed, left_out):
    made = arguments(rows, length, channels, states, seed)
    made = {name: value for name, value in made.items() if name not in left_out}
    weights = torch.randn(rows, length, channels, dtype=torch.float64)
    ours, theirs = outcome(selective_scan, made, weights), outcome(slowly, made, weights)
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name], atol=1e-9, rtol=1e-9, msg=name)


@pytest.mark.parametrize("length", [1, 3, STEPS + 2])
def test_gradients_are_those_of_finite_differences(length):
    made = arguments(2, length, 2, 2)
    softly = lambda *values: selective_scan(*values, delta_softplus=True)  # noqa: E731
    assert torch.autograd.gradcheck(softly, tuple(made.values()))


def test_rows_beyond_a_tile_wait_their_turn_and_nothing_changes(monkeypatch):
    made = arguments(5, 20, 4, 3)
    weights = torch.randn(5, 20, 4, dtype=torch.float64)
    whole = outcome(selective_scan, made, weights)
    calls = []
    original = scan.SelectiveScan.apply
    monkeypatch.setattr(scan, "TILE", 2 * 4 * 3)
    monkeypatch.setattr(scan.SelectiveScan, "apply", lambda *a: calls.append(a[0].shape[1]) or original(*a))
    tiled = outcome(selective_scan, made, weights)
    assert calls == [2, 2, 1]
    for name in whole:
        torch.testing.assert_close(tiled[name], whole[name], atol=1e-12, rtol=1e-12, msg=name)


def test_a_tile_is_a_row_at_least_and_a_card_takes_all():
    assert scan.tile_rows(8, 10 * scan.TILE, torch.device("cpu")) == 1
    assert scan.tile_rows(8, scan.TILE // 4, torch.device("cpu")) == 4
    assert scan.tile_rows(8, 10 * scan.TILE, torch.device("cuda")) == 8


def test_memory_order_does_not_matter():
    made = arguments(3, 19, 4, 2)
    weights = torch.randn(3, 19, 4, dtype=torch.float64)
    expected = outcome(selective_scan, made, weights)

    def turned(value: torch.Tensor) -> torch.Tensor:
        double = torch.stack([value.detach(), value.detach()], dim=-1).transpose(0, -2).contiguous()
        out = double.transpose(0, -2)[..., 0]
        assert out.numel() == 1 or not out.is_contiguous()
        return out.requires_grad_()

    found = outcome(selective_scan, {name: turned(value) for name, value in made.items()}, weights)
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], atol=1e-12, rtol=1e-12, msg=name)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("autocast", [False, True])
def test_half_precision_is_computed_in_float32(dtype, autocast):
    made = arguments(2, 40, 6, 3, dtype=torch.float32)
    half = {n: v.detach().to(dtype if n in {"u", "delta", "B", "C", "z"} else v.dtype) for n, v in made.items()}
    inputs = {name: value.requires_grad_() for name, value in half.items()}
    wide = {name: value.detach().float().requires_grad_() for name, value in half.items()}
    weights = torch.randn(2, 40, 6)
    expected = outcome(selective_scan, wide, weights.to(dtype).float())
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        y = selective_scan(**inputs, delta_softplus=True)
        assert y.dtype == dtype
        found = torch.autograd.grad(y, list(inputs.values()), weights.to(dtype))
    assert torch.equal(y, expected["y"].to(dtype)), "a sum was rounded on the way"
    for (name, value), got in zip(inputs.items(), found, strict=True):
        assert got.dtype == value.dtype
        torch.testing.assert_close(got, expected[name].to(value.dtype), msg=name)


def test_large_steps_neither_overflow_nor_poison_gradients():
    made = arguments(2, 30, 4, 3, dtype=torch.float32)
    with torch.no_grad():
        made["delta"].mul_(1e3)
    found = outcome(selective_scan, made, torch.ones(2, 30, 4))
    for name, value in found.items():
        assert torch.isfinite(value).all(), name


class Exported(torch.nn.Module):
    def forward(self, made: dict[str, torch.Tensor]) -> torch.Tensor:
        return selective_scan(**made, delta_softplus=True)


def test_one_exported_graph_is_the_recurrence_at_every_length():
    def plain(rows: int, length: int) -> dict[str, torch.Tensor]:
        made = arguments(rows, length, 4, 3, seed=length, dtype=torch.float32)
        return {name: value.detach() for name, value in made.items()}

    free = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    sizes = {name: free if name in {"u", "delta", "B", "C", "z"} else None for name in NAMES}
    graph = torch.export.export(Exported(), (plain(2, 9),), dynamic_shapes=(sizes,), strict=False)
    assert len(list(graph.graph.nodes)) < 60, "the graph grew with the length"
    for rows, length in ((3, 2), (2, 40), (5, 101)):
        made = plain(rows, length)
        torch.testing.assert_close(graph.module()(made), slowly(**made, delta_softplus=True), atol=1e-5, rtol=1e-5)


class Peak(TorchDispatchMode):
    """Bytes of all tensors made inside of it that are alive together, at most, and of the largest."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: dict[int, int] = {}
        self.top = self.largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for value in tree_leaves(result):
            if isinstance(value, torch.Tensor) and value.untyped_storage()._cdata not in self.alive:
                storage = value.untyped_storage()
                self.alive[storage._cdata] = storage.nbytes()
                self.top = max(self.top, sum(self.alive.values()))
                self.largest = max(self.largest, storage.nbytes())
                weakref.finalize(storage, self.alive.pop, storage._cdata)
        return result


def peak(length: int, function=selective_scan) -> Peak:
    made = arguments(2, length, 64, 32, dtype=torch.float32)
    with Peak() as seen:
        function(**made, delta_softplus=True).sum().backward()
    return seen


def test_memory_is_linear_in_length_and_a_fraction_of_all_states():
    short, long = peak(256), peak(512)
    assert long.top < 2.05 * short.top
    states = 4 * 2 * 512 * 64 * 32  # bytes of the states of all frames, once
    assert long.largest < states / 8
    assert long.top < states, "all tensors together, gradients included, take less than the states would once"
    assert peak(64, slowly).top > 2 * states * 64 / 512, "what autograd keeps of the definition; else Peak is blind"
