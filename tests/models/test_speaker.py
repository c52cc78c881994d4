"""Speaker embeddings against transformers' own x-vector models."""

import copy
import json

import pytest
import torch
import torch.nn.functional as F
from transformers import (
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForXVector,
    WavLMConfig,
    WavLMForXVector,
)

from affect.errors import AffectError
from affect.models import tiny
from affect.models.pretrained import Preprocessing
from affect.models.speaker import XVector
from tests.models.encoders import speech

SIZES = {"tdnn_dim": (32, 32, 32, 32, 64), "xvector_output_dim": 24}
MODELS = {
    "wavlm-base": (WavLMConfig, WavLMForXVector, tiny.BASE_STYLE),
    "wavlm-large": (WavLMConfig, WavLMForXVector, tiny.LARGE_STYLE),
    "wav2vec2-base": (Wav2Vec2Config, Wav2Vec2ForXVector, tiny.BASE_STYLE),
    "wav2vec2-large": (Wav2Vec2Config, Wav2Vec2ForXVector, tiny.LARGE_STYLE),
}
SAMPLES = [16_000, 9001, 5200, 5199, 700, 40]
"""Not a single sample: repeated, it is a constant, which normalisation makes of rounding errors what it likes."""


@pytest.fixture(autouse=True)
def _seed():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def original(name: str, **options):
    config, model, style = MODELS[name]
    theirs = model(config(**tiny.TINY, **style, **SIZES, **options))
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return theirs.eval()


def make(name: str, normalised: bool = True, **options) -> tuple[XVector, torch.nn.Module]:
    theirs = original(name, **options)
    return XVector(copy.deepcopy(theirs), Preprocessing(do_normalize=normalised)), theirs


def expected(theirs, wave: torch.Tensor, normalised: bool) -> torch.Tensor:
    extractor = Wav2Vec2FeatureExtractor(do_normalize=normalised)
    values = extractor(wave.numpy(), sampling_rate=16_000, return_tensors="pt").input_values
    with torch.no_grad():
        if theirs.config.use_weighted_layer_sum and theirs.config.do_stable_layer_norm:
            return F.normalize(weighted_as_trained(theirs, values)[0], dim=-1)
        return F.normalize(theirs(values).embeddings[0], dim=-1)


def weighted_as_trained(theirs, values: torch.Tensor) -> torch.Tensor:
    """Return embeddings from states whose last is after the norm, which transformers 5.23 no longer hands on."""
    states = theirs.base_model(values, output_hidden_states=True)
    weighed = torch.stack([*states.hidden_states[:-1], states.last_hidden_state], -1) @ theirs.layer_weights.softmax(0)
    hidden = theirs.projector(weighed)
    for layer in theirs.tdnn:
        hidden = layer(hidden)
    return theirs.feature_extractor(torch.cat([hidden.mean(1), hidden.std(1)], -1))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_a_padded_batch_equals_transformers_one_by_one(name, normalised, weighted):
    model, theirs = make(name, normalised, use_weighted_layer_sum=weighted)
    wave = speech(SAMPLES)
    wave[1, SAMPLES[1] :] = float("nan")
    ours = model(wave, torch.tensor(SAMPLES))
    assert ours.shape == (6, 24) == (6, model.width)
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours.norm(dim=-1), torch.ones(6))
    for row in range(3):
        single = expected(theirs, wave[row, : SAMPLES[row]], normalised)
        torch.testing.assert_close(ours[row], single, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", MODELS)
def test_alone_equals_batched(name):
    model, _ = make(name)
    wave = speech(SAMPLES)
    together = model(wave, torch.tensor(SAMPLES))
    for row, count in enumerate(SAMPLES):
        alone = model(wave[row : row + 1, :count], torch.tensor([count]))
        torch.testing.assert_close(together[row], alone[0], atol=1e-4, rtol=0)
    distances = torch.cdist(together, together) + torch.eye(len(SAMPLES))
    assert distances.min() > 1e-3, "embeddings that are all alike would pass above"


def test_short_utterances_are_repeated():
    model, theirs = make("wavlm-base")
    assert model.least_samples == 400 + 15 * 320
    wave = speech([700])
    long = wave[0].repeat(8)[:5200]
    torch.testing.assert_close(model(wave, torch.tensor([700]))[0], expected(theirs, long, True), atol=1e-4, rtol=0)
    silent = model(torch.zeros(2, 100), torch.tensor([100, 0]))
    assert bool(torch.isfinite(silent).all())


def test_frozen_and_always_in_evaluation_mode():
    model, _ = make("wavlm-base", hidden_dropout=0.5)
    model.train()
    assert not any(module.training for module in model.modules())
    assert not any(parameter.requires_grad for parameter in model.parameters())
    wave = speech(SAMPLES)
    first, second = (model(wave, torch.tensor(SAMPLES)) for _ in range(2))
    torch.testing.assert_close(first, second, atol=0, rtol=0)
    assert not first.requires_grad
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(model(wave, torch.tensor(SAMPLES)), first, atol=0, rtol=0)


def test_configuration_and_weights_are_enough():
    model = XVector.build("tiny-xvector")
    again = XVector.from_config(json.loads(json.dumps(model.to_config())))
    again.load_state_dict(model.state_dict())
    wave = speech(SAMPLES)
    torch.testing.assert_close(again(wave, torch.tensor(SAMPLES)), model(wave, torch.tensor(SAMPLES)), atol=0, rtol=0)
    assert again.sampling_rate == 16_000
    assert again.preprocessing.do_normalize


@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("name", ["wavlm-base", "wav2vec2-large"])
def test_reads_a_folder(tmp_path, name, normalised):
    theirs = original(name)
    theirs.save_pretrained(tmp_path)
    Wav2Vec2FeatureExtractor(do_normalize=normalised).save_pretrained(tmp_path)
    model = XVector.build(str(tmp_path))
    wave = speech([9000])
    ours = model(wave, torch.tensor([9000]))[0]
    torch.testing.assert_close(ours, expected(theirs, wave[0], normalised), atol=1e-4, rtol=0)


def test_bad_names(tmp_path):
    for name in ("./absent", "tiny-xvectr", "a/b/c"):
        with pytest.raises(AffectError, match="no such folder, not a hub name") as caught:
            XVector.build(name)
        assert repr(name) in str(caught.value)
    with pytest.raises(AffectError, match=r"its config\.json cannot be read"):
        XVector.build(str(tmp_path))


def test_models_without_an_x_vector_head(tmp_path):
    original("wavlm-base").wavlm.save_pretrained(tmp_path)
    Wav2Vec2FeatureExtractor().save_pretrained(tmp_path)
    with pytest.raises(AffectError, match=r"is no x-vector model: its config\.json names WavLMModel") as caught:
        XVector.build(str(tmp_path))
    assert "\n" not in str(caught.value)
    tiny.architecture("tiny-hubert")[0].save_pretrained(tmp_path)
    with pytest.raises(AffectError, match="is of kind 'hubert', not supported; there are: wav2vec2, wavlm"):
        XVector.build(str(tmp_path))


def test_damaged_weights(tmp_path):
    original("wavlm-base").save_pretrained(tmp_path)
    Wav2Vec2FeatureExtractor().save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(AffectError, match="its weights cannot be read") as caught:
        XVector.build(str(tmp_path))
    assert "\n" not in str(caught.value)
