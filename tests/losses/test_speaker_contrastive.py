"""The contrastive loss of speakers against a sum over pairs by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from affect.losses.speaker_contrastive import speaker_contrastive

VOICES = torch.tensor([[3, 5, -100], [5, -100, -100], [7, 3, 9]])
"""Two voices speak in two conversations each."""


def sample() -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(0)
    first = torch.randn(3, 3, 4, generator=g)
    return {"a": first, "b": first + torch.randn(3, 3, 4, generator=g)}


def by_hand(outputs: dict[str, Tensor], temperature: float) -> float:
    one, other = (outputs[name].flatten(0, 1).double() for name in ("a", "b"))
    voices = VOICES.flatten().tolist()
    places = [k for k, voice in enumerate(voices) if voice != -100]
    total = 0.0
    for x, y in ((one, other), (other, one)):
        cosine = torch.nn.functional.cosine_similarity(x[:, None], y[None], dim=-1) / temperature
        for i in places:
            rest = [float(cosine[i, j]) for j in places if j == i or voices[j] != voices[i]]
            total += math.log(sum(map(math.exp, rest))) - float(cosine[i, i])
    return total / (2 * len(places))


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_value_is_that_of_the_pairs_of_different_voices(temperature):
    term = speaker_contrastive("a", "b", "v", temperature=temperature)
    assert float(term.value(sample(), {"v": VOICES})) == pytest.approx(by_hand(sample(), temperature), rel=1e-5)


def test_what_is_missing_gets_no_gradient_and_may_be_anything():
    outputs = sample()
    wanted = float(speaker_contrastive("a", "b", "v").value(outputs, {"v": VOICES}))
    missing = VOICES == -100
    for name in outputs:
        outputs[name] = outputs[name].masked_fill(missing[..., None], torch.nan).requires_grad_()
    value = speaker_contrastive("a", "b", "v").value(outputs, {"v": VOICES})
    value.backward()
    assert float(value.detach()) == pytest.approx(wanted, rel=1e-6)
    for output in outputs.values():
        assert not output.grad[missing].any()
        assert torch.isfinite(output.grad).all()


@pytest.mark.parametrize(
    ("voices", "defined"),
    [([[-100, -100]], False), ([[4, -100]], False), ([[4, 4]], False), ([[4, 6]], True), ([[0, 6]], True)],
)
def test_fewer_than_two_voices_tell_it_nothing(voices, defined):
    term = speaker_contrastive("a", "b", "v")
    targets = {"v": torch.tensor(voices)}
    assert bool(term.defined(targets)) == defined
    views = {name: torch.randn(1, 2, 3, requires_grad=True) for name in ("a", "b")}
    value = term.value(views, targets)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(views["a"].grad).all()
