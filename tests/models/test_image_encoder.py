"""Image encoders inside a model: what learns, what is the same as in extraction, what is saved."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from affect.errors import AffectError
from affect.models.extractors.video import VideoExtractor
from affect.models.image_encoder import ImageEncoder, ImageEncoderConfig

IMAGES = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3)).astype(np.uint8))


def test_vectors_are_those_of_extraction():
    encoder, extractor = ImageEncoder.build(ImageEncoderConfig()), VideoExtractor.build("tiny", None)
    wanted = torch.from_numpy(extractor([extractor.prepare(image.numpy()) for image in IMAGES]))
    torch.testing.assert_close(encoder(IMAGES), wanted, atol=1e-5, rtol=1e-5)
    assert encoder.width == extractor.width
    plain = torch.full((1, 48, 48, 3), 90, dtype=torch.uint8)
    torch.testing.assert_close(encoder(plain), encoder(plain[:, :32, :32]), msg="images of another size are resized")


@pytest.mark.parametrize("train", [False, True])
def test_what_learns_gets_a_gradient_and_an_image_is_its_own(train):
    encoder = ImageEncoder.build(ImageEncoderConfig(train=train)).train()
    together = encoder(IMAGES)
    alone = torch.cat([encoder(image[None]) for image in IMAGES])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)
    learned = [parameter for parameter in encoder.parameters() if parameter.requires_grad]
    assert bool(learned) == train and together.requires_grad == train
    if train:
        together.square().sum().backward()
        assert all(parameter.grad is not None and parameter.grad.any() for parameter in learned)
    assert not encoder.model.training


def test_it_is_rebuilt_from_what_it_says_of_itself():
    encoder = ImageEncoder.build(ImageEncoderConfig(train=True))
    again = ImageEncoder.restore(encoder.config, json.loads(json.dumps(encoder.facts)))
    again.load_state_dict(encoder.state_dict())
    assert torch.equal(again(IMAGES), encoder(IMAGES))
    with pytest.raises(AffectError, match="no image encoder Nothing"):
        ImageEncoder.restore(encoder.config, {**encoder.facts, "class": "Nothing"})


def test_a_whole_model_loses_what_no_image_passes_through(tmp_path):
    """Parameters of a ViT that its mean state doesn't depend on (the pooler, the mask's token) are frozen."""
    from transformers import ViTConfig, ViTModel
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    facts = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    ViTModel(ViTConfig(image_size=16, patch_size=8, **facts)).save_pretrained(tmp_path)
    side = {"height": 16, "width": 16}
    CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size=side).save_pretrained(tmp_path)
    encoder = ImageEncoder.build(ImageEncoderConfig(name=str(tmp_path), train=True))
    frozen = [name for name, parameter in encoder.named_parameters() if not parameter.requires_grad]
    assert frozen and all("pooler" in name for name in frozen)
    again = ImageEncoder.restore(encoder.config, json.loads(json.dumps(encoder.facts)))
    again.load_state_dict(encoder.state_dict())
    assert torch.equal(again(IMAGES), encoder(IMAGES))
