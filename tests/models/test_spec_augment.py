"""SpecAugment's spans."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from affect.models.spec_augment import draw_spans


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 60), min_size=1, max_size=5),
    spare=st.integers(0, 10),
    probability=st.floats(0, 1),
    span=st.integers(1, 12),
    least=st.integers(0, 3),
    seed=st.integers(0, 1000),
)
def test_spans_are_whole_and_inside_valid_frames(lengths, spare, probability, span, least, seed):
    torch.manual_seed(seed)
    size = max(lengths) + spare + 1
    mask = draw_spans(torch.tensor(lengths), size, probability=probability, span=span, least=least)
    assert mask.shape == (len(lengths), size)
    for row, length in zip(mask.tolist(), lengths, strict=True):
        assert not any(row[length:])
        assert sum(row) <= span * max(least, probability * length / span + 1)
        runs = "".join("x" if hit else " " for hit in row).split()
        assert all(len(run) >= span for run in runs)
        if length >= span and least > 0:
            assert any(row)


def test_share_of_masked_frames():
    torch.manual_seed(0)
    mask = draw_spans(torch.full((2000,), 200), 200, probability=0.1, span=10, least=0)
    # 2 to 3 spans of 10 in 200, rounded at random: 20 frames a row but for overlaps.
    assert 0.085 < mask.float().mean() < 0.1
    counts = mask.sum(1)
    assert counts.float().std() > 0
