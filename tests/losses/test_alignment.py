"""Alignment of the modalities against InfoNCE of each pair over the rows that have both."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.func import grad, vmap

from affect.errors import AffectError
from affect.losses.alignment import alignment, contrastive
from affect.losses.masked import MODALITIES


def sample(n: int = 9, seed: int = 0, width: int = 4) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(seed)
    shared = torch.randn(n, width, generator=g)
    return {f"{name}_h": shared + torch.randn(n, width, generator=g) for name in MODALITIES}


def value(outputs: dict[str, Tensor], present: Tensor, modalities: tuple[str, ...] = MODALITIES, **named: float):
    return alignment(modalities, **named).value(outputs, {"present": present})


def pair(outputs: dict[str, Tensor], first: str, second: str, temperature: float) -> float:
    return float(contrastive(f"{first}_h", f"{second}_h", temperature=temperature).value(outputs, {}))


@pytest.mark.parametrize("temperature", [0.05, 0.1, 1.0])
def test_with_everything_present_it_is_the_mean_of_the_pairs(temperature):
    outputs = sample()
    wanted = sum(pair(outputs, a, b, temperature) for a, b in combinations(MODALITIES, 2)) / 3
    assert float(value(outputs, torch.ones(9, 3), temperature=temperature)) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("pairing", list(combinations(MODALITIES, 2)))
def test_two_modalities_are_their_contrastive_loss(pairing):
    outputs = sample()
    assert float(value(outputs, torch.ones(9, 3), pairing)) == pytest.approx(pair(outputs, *pairing, 0.1), rel=1e-5)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=10), st.integers(0, 1000))
def test_a_pair_counts_the_rows_that_have_both(rows, seed):
    present = torch.tensor(rows).float()
    outputs = sample(len(rows), seed)
    total, count = 0.0, 0
    for i, j in combinations(range(3), 2):
        both = (present[:, i] > 0) & (present[:, j] > 0)
        if both.any():
            chosen = {name: tensor[both] for name, tensor in outputs.items()}
            total += pair(chosen, MODALITIES[i], MODALITIES[j], 0.1) * int(both.sum())
            count += int(both.sum())
    assert float(value(outputs, present)) == pytest.approx(total / max(count, 1), rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("junk", [0.0, 1e4, float("nan"), float("inf")])
def test_a_row_without_anything_changes_nothing(junk):
    outputs = sample(7)
    present = torch.tensor([[1, 1, 1], [1, 0, 1], [0, 1, 1], [1, 1, 0], [1, 1, 1], [1, 0, 0], [1, 1, 1]]).float()
    more = {name: torch.cat([tensor, torch.full((2, 4), junk)]).requires_grad_() for name, tensor in outputs.items()}
    padded = value(more, torch.cat([present, torch.zeros(2, 3)]))
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in outputs.items()}
    plain = value(leaves, present)
    padded.backward()
    plain.backward()
    assert float(padded.detach()) == pytest.approx(float(plain.detach()), rel=1e-6)
    for name, tensor in leaves.items():
        torch.testing.assert_close(more[name].grad[:7], tensor.grad)
        assert (more[name].grad[7:] == 0).all()
        assert (more[name].grad[:7][present[:, MODALITIES.index(name[:-2])] == 0] == 0).all()


@pytest.mark.parametrize("present", [torch.zeros(4, 3), torch.tensor([[1.0, 0, 0]]).repeat(4, 1)])
def test_without_any_pair_it_is_zero_with_a_gradient_of_zero(present):
    outputs = {name: tensor.requires_grad_() for name, tensor in sample(4).items()}
    loss = value(outputs, present)
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert all((tensor.grad == 0).all() for tensor in outputs.values())


def test_constant_vectors_have_finite_gradients():
    outputs = {name: torch.zeros(4, 3).requires_grad_() for name in sample()}
    value(outputs, torch.ones(4, 3)).backward()
    assert all(torch.isfinite(tensor.grad).all() for tensor in outputs.values())


def test_stacked_batches_are_those_batches_one_by_one():
    g = torch.Generator().manual_seed(0)
    present = (torch.rand(3, 9, 3, generator=g) > 0.3).float()
    each = [sample(9, seed) for seed in range(3)]
    stacked = {name: torch.stack([outputs[name] for outputs in each]) for name in each[0]}
    losses, gradients = vmap(lambda o, p: (value(o, p), grad(value)(o, p)))(stacked, present)
    for k in range(3):
        assert float(losses[k]) == pytest.approx(float(value(each[k], present[k])), rel=1e-5)
        for name, wanted in grad(value)(each[k], present[k]).items():
            torch.testing.assert_close(gradients[name][k], wanted, atol=1e-6, rtol=1e-5)


def test_alignment_is_rewarded():
    outputs = sample()
    same = dict.fromkeys(outputs, outputs["audio_h"])
    assert float(value(same, torch.ones(9, 3))) < float(value(outputs, torch.ones(9, 3)))


def test_it_is_of_the_batch_and_reads_what_it_says():
    term = alignment(("audio", "video"), weight=0.3)
    assert not term.additive
    assert (term.name, term.weight) == ("alignment", 0.3)
    assert (term.outputs, term.targets) == (("audio_h", "video_h"), ("present",))


@pytest.mark.parametrize(
    ("present", "wanted"),
    [
        ([[1, 1, 1], [1, 1, 1]], True),
        ([[1, 1, 0], [1, 1, 0], [0, 0, 1]], True),
        ([[1, 1, 0], [1, 0, 1], [0, 1, 1]], False),
        ([[1, 1, 1]], False),
        ([[1, 0, 0], [1, 0, 0]], False),
    ],
)
def test_two_rows_of_one_pair_define_it(present, wanted):
    assert bool(alignment().defined({"present": torch.tensor(present).float()})) is wanted


def test_half_precision_is_widened():
    outputs = {name: tensor.to(torch.bfloat16) for name, tensor in sample().items()}
    assert value(outputs, torch.ones(9, 3)).dtype == torch.float32


@pytest.mark.parametrize(
    ("modalities", "temperature", "words"),
    [
        (("audio",), 0.1, "two or more of audio, text, video, not audio"),
        (("audio", "sound"), 0.1, "not audio, sound"),
        (MODALITIES, 0.0, "temperature of the alignment is 0.0"),
    ],
)
def test_what_cannot_be_aligned_is_named(modalities, temperature, words):
    with pytest.raises(AffectError, match=words):
        alignment(modalities, temperature=temperature)


def test_a_task_may_name_columns_of_its_own():
    outputs = sample()
    named = {name.replace("text", "keypoints"): values for name, values in outputs.items()}
    present = torch.tensor([[1.0, 0.0, 1.0]] * 4 + [[1.0, 1.0, 1.0]] * 5)
    columns = ("audio", "keypoints", "video")
    found = alignment(columns, columns=columns).value(named, {"present": present})
    assert float(found) == pytest.approx(float(value(outputs, present)), rel=1e-6)
    with pytest.raises(AffectError, match="two or more of audio, keypoints, video, not text"):
        alignment(("text",), columns=columns)
