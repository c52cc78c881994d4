"""WavLM's attention and its relative positions against transformers' own."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._dynamo.testing import CompileCounter
from transformers.models.wavlm.modeling_wavlm import WavLMAttention

from affect.keyed import examples, name_places
from affect.models.wavlm import FIRST_LENGTH, GatedAttention, relative_buckets, skewed


def pair(first_layer: bool = True) -> tuple[GatedAttention, WavLMAttention]:
    torch.manual_seed(0)
    theirs = WavLMAttention(
        32, 4, dropout=0.0, num_buckets=320, max_distance=800, has_relative_position_bias=first_layer
    )
    with torch.no_grad():
        theirs.gru_rel_pos_const.copy_(torch.randn(1, 4, 1, 1))
    ours = GatedAttention(theirs)
    assert sorted(ours.state_dict()) == sorted(theirs.state_dict())
    return ours, theirs


@settings(max_examples=25, deadline=None)
@given(length=st.integers(1, 2000), buckets=st.sampled_from([32, 320]), farthest=st.integers(200, 1000))
def test_buckets_equal_transformers(length, buckets, farthest):
    theirs = WavLMAttention(8, 2, num_buckets=buckets, max_distance=farthest)
    expected = theirs._relative_positions_bucket(torch.arange(-(length - 1), length))
    assert relative_buckets(length, buckets=buckets, max_distance=farthest).tolist() == expected.tolist()


@pytest.mark.parametrize("length", [1, 7, 90, FIRST_LENGTH + 3])
def test_position_bias_equals_transformers(length):
    ours, theirs = pair()
    bias = ours.position_bias(length, torch.device("cpu"))
    torch.testing.assert_close(bias[0], theirs.compute_bias(length, length), atol=0, rtol=0)


@pytest.mark.parametrize("length", [1, 2, 7])
def test_the_windows_of_a_compiled_bias_are_those_of_a_plain_one(length):
    values = torch.randn(3, 2 * length - 1)
    assert torch.equal(skewed(values, length), values.unfold(1, length, 1).flip(1)[None])


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_a_compiled_layer_is_one_graph_for_all_lengths(dropout):
    torch._dynamo.reset()
    ours, _ = pair()
    ours.dropout = dropout
    name_places(ours)
    counter = CompileCounter()
    compiled = torch.compile(ours, backend=counter, dynamic=True, fullgraph=True)
    for rows, length in ((2, 9), (3, 14)):
        x = torch.randn(rows, length, 32)
        with examples(0, length, [str(row) for row in range(rows)]):
            expected = ours(x)[0]
        with examples(0, length, [str(row) for row in range(rows)]):
            torch.testing.assert_close(compiled(x)[0], expected)
    assert counter.frame_count == 1


def test_bucket_table_grows_and_is_reused():
    ours, _ = pair()
    ours.position_bias(10, torch.device("cpu"))
    table = ours.buckets
    ours.position_bias(FIRST_LENGTH, torch.device("cpu"))
    assert ours.buckets is table
    ours.position_bias(FIRST_LENGTH + 1, torch.device("cpu"))
    assert len(ours.buckets) == 2 * FIRST_LENGTH + 1


@pytest.mark.parametrize("gradient", [True, False])
@pytest.mark.parametrize("padded", [True, False])
def test_attention_equals_transformers(gradient, padded):
    ours, theirs = pair()
    hidden = torch.randn(3, 20, 32)
    valid = torch.ones(3, 20, dtype=torch.long)
    if padded:
        valid[1, 12:] = 0
    added = torch.zeros(3, 1, 1, 20).masked_fill(valid[:, None, None] == 0, -torch.inf)
    with torch.set_grad_enabled(gradient):
        ours_, _, bias = ours(hidden, added)
        theirs_, _, their_bias = theirs(hidden, valid)
    torch.testing.assert_close(ours_, theirs_, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(bias.expand(3, -1, -1, -1).flatten(0, 1), their_bias)


def test_later_layer_needs_the_first_ones_bias():
    first, _ = pair()
    later, theirs = pair(first_layer=False)
    hidden = torch.randn(2, 9, 32)
    _, _, bias = first(hidden)
    expected, _, _ = theirs(hidden, None, bias.expand(2, -1, -1, -1).flatten(0, 1))
    torch.testing.assert_close(later(hidden, None, bias)[0], expected, atol=1e-6, rtol=1e-5)
    with pytest.raises(ValueError, match="position_bias"):
        later(hidden)


def test_gradients_equal_transformers():
    ours, theirs = pair()
    hidden = torch.randn(2, 15, 32)
    weights = torch.randn(2, 15, 32)
    (ours(hidden)[0] * weights).sum().backward()
    found = {name: entry.grad.clone() for name, entry in ours.named_parameters()}
    ours.zero_grad()
    (theirs(hidden)[0] * weights).sum().backward()
    for name, entry in theirs.named_parameters():
        torch.testing.assert_close(found[name], entry.grad, atol=1e-5, rtol=1e-4)
