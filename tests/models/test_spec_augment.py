"""SpecAugment's spans: where they lie, how many there are, and that a row's are its own."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from affect import keyed
from affect.models.spec_augment import draw_spans
from tests.models.encoders import KINDS, make, speech


@pytest.fixture(autouse=True)
def _seed():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def numbers(count: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-(2**63), 2**63 - 1, (count,), generator=generator)


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 60), min_size=1, max_size=5),
    spare=st.integers(0, 10),
    probability=st.floats(0, 1),
    span=st.integers(1, 12),
    least=st.integers(0, 3),
    seed=st.integers(-(2**63), 2**63 - 1),
    stream=st.integers(0, 9),
)
def test_spans_are_whole_and_inside_valid_frames(lengths, spare, probability, span, least, seed, stream):
    options = {"probability": probability, "span": span, "least": least, "stream": stream}
    size = max(lengths) + spare + 1
    seeds = torch.full((len(lengths),), seed)
    mask = draw_spans(torch.tensor(lengths), size, keys=seeds, **options)
    assert mask.shape == (len(lengths), size)
    for k, (row, length) in enumerate(zip(mask.tolist(), lengths, strict=True)):
        assert not any(row[length:])
        assert sum(row) <= span * max(least, probability * length / span + 1)
        runs = "".join("x" if hit else " " for hit in row).split()
        assert all(len(run) >= span for run in runs)
        if length >= span and least > 0:
            assert any(row)
        alone = draw_spans(torch.tensor([length]), length + 1, keys=seeds[k : k + 1], **options)
        assert alone[0].tolist() == row[: length + 1], "a row in any batch and padding is the row alone"


@pytest.mark.parametrize("probability", [0.05, 0.1, 0.123, 0.4])
def test_share_of_masked_frames(probability):
    lengths = torch.full((4000,), 200)
    mask = draw_spans(lengths, 200, probability=probability, span=1, least=0, keys=numbers(4000), stream=0)
    # With spans of one step nothing overlaps: the share is the probability, rounded at random.
    share = mask.float().mean(1)
    assert abs(float(share.mean()) - probability) < 3e-4
    assert float((share - probability).abs().max()) <= 1 / 200 + 1e-6
    mask = draw_spans(lengths, 200, probability=probability, span=10, least=0, keys=numbers(4000), stream=0)
    # k spans of 10 out of 191 places leave a step in the middle free with a chance of about (1 - 10/191)^k.
    spans = probability * 20
    whole, rest = int(spans), spans - int(spans)
    free = (1 - rest) * (1 - 10 / 191) ** whole + rest * (1 - 10 / 191) ** (whole + 1)
    assert abs(float(mask[:, 10:190].float().mean()) - (1 - free)) < 0.01


def test_every_place_is_as_likely():
    mask = draw_spans(torch.full((20_000,), 40), 40, probability=0.1, span=1, least=0, keys=numbers(20_000), stream=0)
    hits = mask.float().mean(0)
    # 4 of 40 places: a standard error of .0021 each.
    assert float((hits - 0.1).abs().max()) < 5 * 0.0021


def test_neighbouring_seeds_and_streams_are_unrelated():
    lengths, seeds = torch.full((4000,), 100), torch.arange(4000)

    def draw(seeds, stream):
        mask = draw_spans(lengths, 100, probability=0.3, span=1, least=0, keys=seeds, stream=stream).float()
        return mask - mask.mean()

    first = draw(seeds, 0)
    for other in (draw(seeds + 1, 0), draw(seeds, 1), draw(-seeds - 1, 0)):
        assert abs(float((first * other).mean()) / 0.21) < 0.01
    assert not torch.equal(draw(seeds, 0), draw(seeds + 1, 0))


def test_the_numbers_are_splitmix64s():
    """Against the same generator in Python's unbounded whole numbers."""

    def reference(state: int) -> int:
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) % 2**64
        return state ^ (state >> 31)

    states = numbers(500)
    assert [value % 2**64 for value in keyed.scramble(states).tolist()] == [
        reference(state % 2**64) for state in states.tolist()
    ]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="compares with a CUDA device")
def test_the_same_spans_on_another_device():
    lengths, seeds = torch.randint(0, 1500, (64,)), numbers(64)
    options = {"probability": 0.2, "span": 10, "least": 2, "stream": 3}
    there = draw_spans(lengths.cuda(), 1500, keys=seeds.cuda(), **options)
    torch.testing.assert_close(there.cpu(), draw_spans(lengths, 1500, keys=seeds, **options))


def masked(name: str):
    """Return an encoder in training mode, whose only randomness is SpecAugment, strong enough to show."""
    encoder, _ = make(name, train="all", spec_augment=True, dropout=0.0)
    encoder.backbone.time_masks, encoder.backbone.feature_masks = (0.3, 2, 1), (0.2, 2, 1)
    keyed.name_places(encoder)
    return encoder.train()


def heard(encoder, wave, samples, names):
    """Return frames and their mask as they are in training, of examples with these names."""
    with keyed.examples(0, 0, list(names)):
        return encoder(wave, samples)


@pytest.mark.parametrize("name", KINDS)
def test_a_row_is_masked_alike_in_every_batch_and_padding(name):
    encoder = masked(name)
    counts = [16_000, 9000, 3000]
    wave, samples, names = speech(counts), torch.tensor(counts), "abc"
    torch.manual_seed(1)
    frames, mask = heard(encoder, wave, samples, names)
    torch.manual_seed(2)
    for row, count in enumerate(counts):
        part = slice(row, row + 1)
        alone, _ = heard(encoder, wave[part, :count], samples[part], names[part])
        torch.testing.assert_close(frames[part][mask[part]], alone[0], atol=1e-4, rtol=1e-4)
    other, _ = heard(encoder, wave, samples, names[::-1])
    differ = [not torch.allclose(frames[row][mask[row]], other[row][mask[row]], atol=1e-2) for row in range(3)]
    assert differ == [True, False, True], "the middle row keeps its name"


@pytest.mark.parametrize("off", ["time_masks", "feature_masks"])
def test_each_window_of_a_long_recording_is_masked_differently(off):
    encoder = masked("tiny-whisper")
    setattr(encoder.backbone, off, (0.0, 2, 1))
    encoder.backbone.window_frames = 50
    drawn = []
    original = encoder.backbone.log_mel.forward
    encoder.backbone.log_mel.forward = lambda wave, steps: original(wave, steps) * 0 + 1
    encoder.backbone.conv1.register_forward_pre_hook(lambda _, inputs: drawn.append(inputs[0][0] == 0))
    heard(encoder, torch.randn(1, 32_000), torch.tensor([32_000]), "a")
    assert len(drawn) == 2
    assert all(bool(mask.any()) for mask in drawn)
    assert not torch.equal(*drawn)


@pytest.mark.parametrize("name", KINDS)
def test_nothing_is_masked_in_evaluation(name):
    encoder = masked(name).eval()
    wave, samples = speech([12_000, 9000]), torch.tensor([12_000, 9000])
    torch.testing.assert_close(heard(encoder, wave, samples, "ab")[0], encoder(wave, samples)[0], atol=0, rtol=0)


def test_the_global_generator_is_left_alone():
    encoder = masked("tiny")
    wave, samples = speech([8000]), torch.tensor([8000])
    before = torch.get_rng_state()
    heard(encoder, wave, samples, "a")
    assert torch.equal(torch.get_rng_state(), before)
