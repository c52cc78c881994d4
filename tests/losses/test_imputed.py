"""The imputation loss against a loop over its units."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.func import vmap

from affect.errors import AffectError
from affect.losses.imputed import imputed
from affect.losses.masked import squared_error

MASKS = st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=8)


def sample(rows: int, streams: int = 3, seed: int = 0) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(seed)
    return {name: torch.randn(rows, streams, 5, generator=g) for name in ("imputed", "imputed_truth")}


@settings(max_examples=60, deadline=None)
@given(MASKS, st.integers(0, 1000), st.sampled_from([("audio", "text", "video"), ("audio", "audio", "text", "video")]))
def test_it_is_the_mean_over_streams_beside_another(rows, seed, streams):
    outputs, targets = sample(len(rows), len(streams), seed), {"present": torch.tensor(rows).float()}
    column = {"audio": 0, "text": 1, "video": 2}
    total, count = 0.0, 0
    for n, row in enumerate(rows):
        there = [s for s, modality in enumerate(streams) if row[column[modality]]]
        for s in there if len(there) > 1 else []:
            error = outputs["imputed"][n, s].numpy() - outputs["imputed_truth"][n, s].numpy()
            total, count = total + float(np.mean(error**2)), count + 1
    term = imputed(streams)
    assert float(term.sum(outputs, targets)) == pytest.approx(total, rel=1e-5, abs=1e-6)
    assert int(term.count(targets)) == count


def test_with_everything_present_it_is_the_squared_error():
    outputs, targets = sample(6), {"present": torch.ones(6, 3)}
    plain = squared_error("imputed").sum(outputs, {"imputed": outputs["imputed_truth"]})
    assert float(imputed().sum(outputs, targets)) == pytest.approx(float(plain) / 5, rel=1e-5)
    assert int(imputed().count(targets)) == 18


def test_two_modalities_read_their_own_columns():
    targets = {"present": torch.tensor([[1.0, 0, 1], [1, 1, 0]])}
    assert int(imputed(("audio", "video")).count(targets)) == 2
    assert int(imputed(("text", "video")).count(targets)) == 0


def test_rows_without_anything_change_nothing():
    outputs, present = sample(4), torch.ones(4, 3)
    more = {name: torch.cat([tensor, torch.full((2, 3, 5), 1e4)]).requires_grad_() for name, tensor in outputs.items()}
    targets = {"present": torch.cat([present, torch.zeros(2, 3)])}
    term = imputed()
    padded = term.sum(more, targets)
    padded.backward()
    assert float(padded.detach()) == pytest.approx(float(term.sum(outputs, {"present": present})))
    assert int(term.count(targets)) == 12
    assert (more["imputed"].grad[4:] == 0).all()
    assert (more["imputed"].grad[:4] != 0).all()


def test_pieces_add_up():
    outputs, targets = sample(8), {"present": (torch.arange(24).view(8, 3) % 5 > 0).float()}
    term = imputed()
    whole = (term.sum(outputs, targets), term.count(targets))
    cuts = [slice(0, 3), slice(3, 4), slice(4, 8)]
    parts = [
        (
            term.sum({k: v[c] for k, v in outputs.items()}, {"present": targets["present"][c]}),
            term.count({"present": targets["present"][c]}),
        )
        for c in cuts
    ]
    assert float(sum(p[0] for p in parts)) == pytest.approx(float(whole[0]), rel=1e-5)
    assert int(sum(p[1] for p in parts)) == int(whole[1])


def test_stacked_batches_are_those_batches_one_by_one():
    outputs = {name: torch.stack([sample(6, seed=k)[name] for k in range(3)]) for name in sample(1)}
    present = (torch.rand(3, 6, 3, generator=torch.Generator().manual_seed(0)) > 0.4).float()
    term = imputed(weight=2.0)
    sums, counts = vmap(lambda o, p: (term.sum(o, {"present": p}), term.count({"present": p})))(outputs, present)
    for k in range(3):
        one = {name: tensor[k] for name, tensor in outputs.items()}
        wanted = float(term.sum(one, {"present": present[k]}))
        assert float(sums[k]) == pytest.approx(wanted, rel=1e-5)
        assert int(counts[k]) == int(term.count({"present": present[k]}))


def test_it_is_additive_and_reads_what_it_says():
    term = imputed(weight=0.5)
    assert term.additive
    assert (term.name, term.weight) == ("imputed", 0.5)
    assert (term.outputs, term.targets) == (("imputed", "imputed_truth"), ("present",))


@pytest.mark.parametrize("streams", [("audio",), ("audio", "sound"), ()])
def test_streams_that_cannot_be_imputed_are_named(streams):
    with pytest.raises(AffectError, match="imputation needs two or more streams"):
        imputed(streams)
