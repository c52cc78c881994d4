"""Modality dropout: the ramp, the patterns and their frequencies, and what a forward makes of them."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from affect.tasks.multimodal_emotion.models.modality_dropout import CHOICES, NONE, draw, effective, keep, kept_sets
from affect.tasks.multimodal_emotion.models.toolkit import Attention
from tests.tasks.multimodal_emotion.models.streams import ROBUST, STREAMS, config, inputs


@pytest.mark.parametrize(
    ("epoch", "wanted"), [(0, 0.0), (29, 0.0), (30, 0.0), (45, 0.1), (60, 0.2), (90, 0.2), (33, 0.02)]
)
def test_ramp_is_full_at_twice_the_warm_up(epoch, wanted):
    assert effective(0.2, 30, epoch) == pytest.approx(wanted)


def test_without_warm_up_it_is_full_at_once():
    assert [effective(0.3, 0, epoch) for epoch in (0, 1, 50)] == [0.3] * 3


@given(st.floats(0, 0.99), st.integers(0, 60), st.integers(0, 200))
def test_ramp_only_rises_and_stays_within(p, warmup, epoch):
    now, then = effective(p, warmup, epoch), effective(p, warmup, epoch + 1)
    assert 0 <= now <= then <= p


def test_begin_follows_the_ramp():
    net = Attention(*config(**ROBUST))
    assert net.begin(45) == {"modality_dropout": pytest.approx(0.1)}
    assert net.probability == pytest.approx(0.1)
    assert Attention(*config()).begin(45) == {}


def test_a_new_model_is_in_its_first_epoch():
    assert Attention(*config(**ROBUST)).probability == 0.0
    assert Attention(*config(**{**ROBUST, "warmup": 0})).probability == 0.2


@pytest.mark.parametrize("modalities", [1, 2, 3])
def test_something_present_always_stays(modalities):
    table = kept_sets(modalities)
    assert table.shape == (2**modalities, CHOICES + 1, modalities)
    for index in range(2**modalities):
        bits = torch.tensor([(index >> place) & 1 for place in range(modalities)]).float()
        assert torch.equal(table[index, NONE], bits)
        for kept in table[index, :CHOICES]:
            assert (kept <= bits).all()
            assert kept.any() == bits.any()
            assert (kept.sum() < bits.sum()) == (bits.sum() > 1)


@pytest.mark.parametrize("index", range(8))
def test_incomplete_subsets_of_what_is_there_are_equally_frequent(index):
    """And so is the survival of each modality: one half."""
    bits = [(index >> place) & 1 for place in range(3)]
    counts = Counter(tuple(kept.tolist()) for kept in kept_sets(3)[index, :CHOICES])
    assert len(counts) == {0: 1, 1: 1, 2: 2, 3: 6}[sum(bits)]
    assert len(set(counts.values())) == 1
    if sum(bits) > 1:
        survival = kept_sets(3)[index, :CHOICES].mean(0)
        assert survival.tolist() == [0.5 * bit for bit in bits]


def test_draws_are_uniform_with_the_probability():
    torch.manual_seed(0)
    choice = draw(torch.rand(60_000, 2), 0.6)
    shares = torch.bincount(choice, minlength=CHOICES + 1) / 60_000
    assert choice.dtype == torch.int64
    assert shares.tolist() == pytest.approx([0.1] * 6 + [0.4], abs=0.006)
    assert (draw(torch.rand(1000, 2), 0.0) == NONE).all()


@given(st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=8), st.integers(0, 6))
def test_keep_reads_the_set_of_each_example(rows, choice):
    present = torch.tensor(rows).float()
    kept = keep(kept_sets(3), torch.full((len(rows),), choice), present)
    assert (kept <= present).all()
    assert torch.equal(kept.any(1), present.any(1))
    for row, found in zip(present, kept, strict=True):
        assert torch.equal(found, keep(kept_sets(3), torch.tensor([choice]), row[None])[0])


def quiet(**named) -> Attention:
    """A training model whose only noise is modality dropout."""
    torch.manual_seed(0)
    net = Attention(*config(dropout=0.0, modality_dropout=0.5, **named)).train()
    net.begin(100)
    return net


@pytest.mark.parametrize("choice", range(CHOICES + 1))
@pytest.mark.parametrize(
    ("switches", "softmax"), [({}, "masked"), ({"missing": "token"}, "none"), ({"imputation": 1.0}, "masked")]
)
def test_balanced_is_as_if_missing_from_the_start(switches, softmax, choice):
    net = quiet(dropout_kind="balanced", softmax=softmax, **switches)
    batch = inputs(30)
    noise = {"modality": torch.full((30,), choice)}
    kept = keep(kept_sets(3), noise["modality"], batch["present"])
    absent = {key: batch[key] * kept[:, s : s + 1] for s, (key, _, _) in enumerate(STREAMS)}
    dropped, missing = net(**batch, noise=noise), net.eval()(present=kept, **absent)
    for key in ("emotion", "valence", "attention"):
        torch.testing.assert_close(dropped[key], missing[key], atol=1e-6, rtol=1e-5)


def test_views_survive_the_dropout():
    """Alignment and imputation learn from all that is really there."""
    net = quiet(dropout_kind="balanced")
    batch = inputs()
    dropped = net(**batch, noise={"modality": torch.zeros(8, dtype=torch.int64)})
    whole = net(**batch, noise={"modality": torch.full((8,), NONE)})
    for key in ("audio_h", "text_h", "video_h"):
        assert torch.equal(dropped[key], whole[key])
    assert not torch.equal(dropped["emotion"], whole["emotion"])


def test_a_pattern_asks_not_what_is_there():
    """The report's dropout may leave an incomplete example with nothing."""
    net = quiet(softmax="masked")
    present = torch.tensor([[1.0, 0, 0]])
    streams = {key: torch.randn(1, width) * (key == "audio") for key, _, width in STREAMS}
    lost = [
        float(net(present, {"modality": torch.tensor([choice])}, **streams)["attention"].detach().sum()) == 0
        for choice in range(CHOICES + 1)
    ]
    assert sum(lost) == 3
    assert not lost[NONE]


def test_two_modalities_drop_either():
    net = quiet(streams=STREAMS[:2], softmax="masked", dropout_kind="balanced")
    noise = {"modality": torch.arange(CHOICES + 1)}
    streams = {key: torch.randn(7, width) for key, _, width in STREAMS[:2]}
    weights = net(torch.ones(7, 2), noise, **streams)["attention"]
    assert (weights[:6] > 0).sum(0).tolist() == [3, 3]
    assert (weights[6] > 0).all()


def test_streams_of_a_modality_drop_together():
    streams = (("audio", "a", 5), ("audio", "b", 6), ("text", "t", 7))
    net = quiet(name="topn", streams=streams, softmax="masked", dropout_kind="balanced")
    batch = inputs(7, streams=streams, missing=0.0)
    weights = net(**batch, noise={"modality": torch.arange(CHOICES + 1)})["attention"]
    assert torch.equal(weights[:, 0] > 0, weights[:, 1] > 0)
    assert ((weights[:6, 0] > 0) != (weights[:6, 2] > 0)).all()


PATTERNS = {"ATV": 0.5, "AT": 0.3, "V": 0.2}


def test_patterns_are_left_as_often_as_asked():
    """Whatever is missing stays missing, and something always stays."""
    table = kept_sets(3, [[letter in letters for letter in "ATV"] for letters in PATTERNS])
    assert table.shape == (8, 4, 3)
    torch.manual_seed(0)
    choice = draw(torch.rand(20_000, 2), 1.0, tuple(PATTERNS.values()))
    shares = torch.bincount(choice, minlength=4) / len(choice)
    torch.testing.assert_close(shares, torch.tensor([0.5, 0.3, 0.2, 0.0]), atol=0.015, rtol=0)
    whole = keep(table, torch.tensor([0, 1, 2, 3]), torch.ones(4, 3))
    assert whole.tolist() == [[1, 1, 1], [1, 1, 0], [0, 0, 1], [1, 1, 1]]
    audio_text = torch.tensor([[1.0, 1.0, 0.0]]).repeat(4, 1)
    assert keep(table, torch.tensor([0, 1, 2, 3]), audio_text).tolist() == [[1, 1, 0]] * 4
    none = draw(torch.rand(50, 2), 0.0, tuple(PATTERNS.values()))
    assert set(none.tolist()) == {3}, "the draw that leaves out nothing"


@pytest.mark.parametrize("bad", ["ATV", "ATV=x", "VA=.5", "=.5", "ATV=0"])
def test_patterns_are_spelt_as_inspect_prints_them(bad):
    from affect.errors import AffectError
    from affect.tasks.multimodal_emotion.config import Model

    Model(modality_dropout=1.0, patterns=("ATV=.7", "T=0.3"))
    # tests/data/corpora/test_mer2023.py holds that it prints these.
    printed = "ATV=0.714 (5) AT=0.143 (1) AV=0.143 (1)"
    Model(modality_dropout=1.0, patterns=tuple(printed.split()[::2]))
    with pytest.raises(AffectError, match=r"model\.patterns must be LETTERS=FREQUENCY"):
        Model(modality_dropout=0.5, patterns=(bad,))
    with pytest.raises(AffectError, match="be left out without modality_dropout"):
        Model(patterns=("ATV=1",))
