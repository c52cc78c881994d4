"""LoRA on every kind of encoder: who learns, what it starts from, how it is stored and merged."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from affect.errors import AffectError
from affect.models.encoder import EncoderConfig, SpeechEncoder, backbone_parameters
from affect.models.lora import add_lora, is_adapted, merge
from tests.models.encoders import KINDS, adapters_of, make, speech

SAMPLES = [9000, 5000, 1200]
LINEARS = 6
"""Linear layers of a transformer layer: four of attention, two of the feed-forward network."""


@pytest.fixture(autouse=True)
def _seed():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def trained(name: str, **options) -> SpeechEncoder:
    """Return an adapted encoder whose B are no longer zero."""
    encoder, _ = make(name, **options)
    add_lora(encoder, 3)
    with torch.no_grad():
        for parameter in adapters_of(encoder):
            parameter.add_(0.1 * torch.randn_like(parameter))
    return encoder.eval()


def output(encoder: SpeechEncoder, wave: torch.Tensor) -> torch.Tensor:
    frames, mask = encoder(wave, torch.tensor(SAMPLES))
    return frames.masked_fill(~mask[..., None], 0)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("train", ["transformer", "all"])
@pytest.mark.parametrize("name", KINDS)
def test_every_adapter_gets_a_gradient_and_nothing_else(name, train, checkpointing):
    encoder, _ = make(name, train=train, gradient_checkpointing=checkpointing)
    add_lora(encoder, 4, dropout=0.1)
    encoder.train()
    adapters = {key for key, entry in encoder.named_parameters() if "lora_" in key}
    assert len(adapters) == 2 * 2 * LINEARS
    learning = {id(entry) for entry in backbone_parameters(encoder) if entry.requires_grad}
    assert learning == set(map(id, adapters_of(encoder)))
    frozen = {key: entry.detach().clone() for key, entry in encoder.named_parameters() if key not in adapters}
    optimiser = torch.optim.SGD([entry for entry in encoder.parameters() if entry.requires_grad], lr=0.1)
    wave, aim = speech(SAMPLES), torch.randn(encoder.width)
    for step in range(2):
        optimiser.zero_grad()
        (output(encoder, wave) * aim).square().mean().backward()
        for key, entry in encoder.named_parameters():
            if key not in adapters:
                assert entry.grad is None, key
            else:
                assert entry.grad is not None, key
                # B starts at zero, which keeps A from learning in the first step alone.
                assert bool(entry.grad.any()) == (step == 1 or "lora_B" in key), key
        optimiser.step()
    for key, entry in encoder.named_parameters():
        if key in frozen:
            torch.testing.assert_close(entry, frozen[key], atol=0, rtol=0)


@pytest.mark.parametrize("name", KINDS)
def test_starts_as_the_encoder_without_adapters(name):
    encoder, _ = make(name)
    wave = speech(SAMPLES)
    with torch.no_grad():
        before = output(encoder.eval(), wave)
        add_lora(encoder, 4)
        torch.testing.assert_close(output(encoder.eval(), wave), before, atol=0, rtol=0)


@pytest.mark.parametrize("name", KINDS)
def test_weights_travel_through_a_file(name, tmp_path):
    encoder = trained(name, layers="weighted")
    save_file({key: value.contiguous() for key, value in encoder.state_dict().items()}, tmp_path / "w.safetensors")
    again = SpeechEncoder.restore(encoder.config, encoder.to_config())
    add_lora(again, 3)
    again.load_state_dict(load_file(tmp_path / "w.safetensors"))
    wave = speech(SAMPLES)
    with torch.no_grad():
        torch.testing.assert_close(output(again.eval(), wave), output(encoder, wave), atol=0, rtol=0)
        other = SpeechEncoder.restore(encoder.config, encoder.to_config())
        add_lora(other, 2)
        with pytest.raises(RuntimeError, match="size mismatch"):
            other.load_state_dict(load_file(tmp_path / "w.safetensors"))


@pytest.mark.parametrize("name", KINDS)
def test_merged_is_plain_and_gives_the_same_output(name):
    encoder = trained(name)
    plain, _ = make(name)
    merged = merge(encoder)
    wave = speech(SAMPLES)
    with torch.no_grad():
        expected = output(encoder, wave)
        torch.testing.assert_close(output(merged, wave), expected, atol=1e-5, rtol=1e-5)
        assert not is_adapted(merged)
        assert list(merged.state_dict()) == list(plain.state_dict())
        plain.load_state_dict(merged.state_dict())
        torch.testing.assert_close(output(plain.eval(), wave), expected, atol=1e-5, rtol=1e-5)
        # The adapted one is as it was, and its adapters do something.
        assert is_adapted(encoder)
        torch.testing.assert_close(output(encoder, wave), expected, atol=0, rtol=0)
        for parameter in adapters_of(encoder):
            parameter.zero_()
        assert (output(encoder, wave) - expected).abs().max() > 1e-2


@pytest.mark.parametrize("name", KINDS)
def test_a_replayed_forward_is_the_same(name):
    encoder = trained(name, dropout=0.1)
    dropped, _ = make(name, dropout=0.1)
    add_lora(dropped, 4, dropout=0.3)
    dropped.load_state_dict(encoder.state_dict() | adapters_like(dropped))
    wave = speech(SAMPLES)
    values = []
    for grad in (True, False, True):
        torch.manual_seed(7)
        with torch.set_grad_enabled(grad):
            values.append(output(dropped.train(), wave).detach())
    torch.testing.assert_close(values[1], values[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(values[2], values[0], atol=0, rtol=0)
    torch.manual_seed(8)
    assert (output(dropped, wave) - values[0]).abs().max() > 1e-2


def adapters_like(encoder: SpeechEncoder) -> dict[str, torch.Tensor]:
    state = encoder.state_dict()
    return {key: 0.1 * torch.randn_like(value) for key, value in state.items() if "lora_" in key}


@pytest.mark.parametrize("name", KINDS)
def test_alone_equals_batched(name):
    encoder = trained(name)
    wave = speech(SAMPLES)
    with torch.no_grad():
        frames, mask = encoder(wave, torch.tensor(SAMPLES))
        for row, count in enumerate(SAMPLES):
            alone, _ = encoder(wave[row : row + 1, :count], torch.tensor([count]))
            torch.testing.assert_close(frames[row][mask[row]], alone[0], atol=1e-4, rtol=0)


def test_scaling_is_alpha_over_rank():
    encoder, _ = make("tiny")
    plain = {key: value.clone() for key, value in encoder.state_dict().items()}
    add_lora(encoder, 4, alpha=1.0)
    with torch.no_grad():
        for parameter in adapters_of(encoder):
            parameter.normal_()
    layer = encoder.backbone.layers[0].attention.q_proj
    change = merge(encoder).backbone.layers[0].attention.q_proj.weight
    change = change - plain["backbone.layers.0.attention.q_proj.weight"]
    product = layer.lora_B["default"].weight @ layer.lora_A["default"].weight
    torch.testing.assert_close(change, product / 4, atol=1e-5, rtol=1e-4)


def test_same_seed_same_adapters():
    values = []
    for seed in (1, 1, 2):
        encoder = SpeechEncoder.build(EncoderConfig(name="tiny"))
        torch.manual_seed(seed)
        add_lora(encoder, 2)
        values.append(adapters_of(encoder)[0].detach())
    assert bool((values[0] == values[1]).all())
    assert not bool((values[0] == values[2]).any())


def test_without_adapters():
    encoder, _ = make("tiny")
    assert not is_adapted(encoder)
    assert list(merge(encoder).state_dict()) == list(encoder.state_dict())


@pytest.mark.parametrize(
    ("rank", "options", "words"),
    [
        (0, {}, "lora rank is 0: it has to be at least 1"),
        (-2, {}, "lora rank is -2"),
        (33, {}, "lora rank is 33, but no layer of 'tiny' is wider than 32"),
        (4, {"alpha": 0.0}, "lora alpha is 0.0"),
        (4, {"dropout": 1.0}, "lora dropout is 1.0"),
    ],
)
def test_bad_values(rank, options, words):
    encoder, _ = make("tiny")
    with pytest.raises(AffectError, match=words) as caught:
        add_lora(encoder, rank, **options)
    assert "\n" not in str(caught.value)
    assert not is_adapted(encoder)


def test_bad_encoders():
    encoder, _ = make("tiny", train="none")
    with pytest.raises(AffectError, match="encoder.train is 'none'"):
        add_lora(encoder, 4)
    encoder, _ = make("tiny")
    add_lora(encoder, 4)
    with pytest.raises(AffectError, match="adapters already"):
        add_lora(encoder, 4)
