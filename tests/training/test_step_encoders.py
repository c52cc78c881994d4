"""The step on real encoders, with everything random that they have: a replay gives hold's gradient."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from transformers import WavLMConfig, WavLMModel

from affect.losses.ccc import ccc_term
from affect.models import tiny
from affect.task import Batch
from affect.tasks.emotion.config import Model, Signature
from affect.tasks.emotion.model import EmotionModel
from affect.training import step
from affect.training.distributed import join
from tests.training import toy

SIZES = (3, 2, 4)
TERMS = [ccc_term("valence"), ccc_term("arousal")]


def batches(sizes: tuple[int, ...] = SIZES) -> list[Batch]:
    """Return nine utterances, the same ones however they are cut into micro-batches."""
    g = torch.Generator().manual_seed(0)
    count = sum(sizes)
    samples = torch.randint(9000, 16000, (count,), generator=g)
    wave = torch.randn(count, 16000, generator=g)
    seeds = torch.randint(2**63 - 1, (count,), generator=g)
    labels = {name: torch.rand(count, generator=g) for name in ("valence", "arousal")}
    labels["valence"][[0, 3, 5]] = float("nan")
    made, first = [], 0
    for size in sizes:
        part = slice(first, first + size)
        longest = int(samples[part].max())
        inputs = {"waveform": wave[part, :longest], "samples": samples[part], "seeds": seeds[part]}
        targets = {name: values[part] for name, values in labels.items()}
        ids = tuple(str(k) for k in range(count)[part])
        made.append(Batch(ids=ids, inputs=inputs, targets=targets, rows=[{}] * size))
        first += size
    return made


def with_text(made: list[Batch]) -> list[Batch]:
    """Return micro-batches whose utterances say something, too."""
    for batch in made:
        tokens = torch.full((len(batch.ids), 6), 70)
        batch.inputs.update(tokens=tokens, token_mask=torch.ones_like(tokens, dtype=torch.bool))
    return made


def gradients(model: nn.Module, key: tuple[int, ...] = (5, 3)) -> dict[str | int, torch.Tensor]:
    engine = join()
    found: dict[str | int, torch.Tensor] = {}
    for mode in ("hold", "replay", 1):
        model.zero_grad()
        step.accumulate(engine, model, TERMS, batches(), mode=mode, key=key)
        found[mode] = toy.gradient(model)
    return found


@pytest.mark.parametrize(
    ("name", "checkpointing"),
    [("tiny", False), ("tiny", True), *((name, False) for name in tiny.NAMES if name not in ("tiny", "small"))],
)
def test_replay_repeats_dropout_layerdrop_and_specaugment(name, checkpointing):
    torch.manual_seed(0)
    section = Model(
        encoder=name, train_encoder="all", encoder_dropout=0.2, layerdrop=0.5, spec_augment=True,
        checkpointing=checkpointing, prosody_dim=0, hidden=16, dropout=0.2,
    )  # fmt: skip
    model = EmotionModel(section, Signature()).train()
    found = gradients(model)
    assert float(found["hold"].norm()) > 0
    assert toy.relative(found["replay"], found["hold"]) < 1e-6
    assert toy.relative(found[1], found["hold"]) < 1e-6
    assert toy.relative(gradients(model, key=(5, 4))["hold"], found["hold"]) > 0.05, "nothing random was on"


@pytest.mark.parametrize("train", ["transformer", "none"])
@pytest.mark.parametrize("name", ["tiny", "tiny-whisper"])
def test_what_is_frozen_is_computed_once_a_step(name, train):
    """The convolutions, or whole encoders, though a replayed micro-batch is forwarded twice; the gradient is hold's."""
    torch.manual_seed(0)
    section = Model(
        encoder=name, train_encoder=train, text="tiny-text", train_text="none", prosody_dim=0, hidden=16, dropout=0.2
    )
    model = EmotionModel(section, Signature()).train()
    backbone = model.encoder.backbone
    parts = {"front": backbone.conv1 if "whisper" in name else backbone.convolution.conv_layers[0],
             "layers": backbone.layers[0], "text": model.text.backbone.model}  # fmt: skip
    calls: dict[str, int] = {}
    for part, module in parts.items():
        module.register_forward_hook(lambda *_, part=part: calls.update({part: calls.get(part, 0) + 1}))
    counted, found = {}, {}
    for mode in ("hold", "replay", 1):
        calls.clear()
        model.zero_grad()
        step.accumulate(join(), model, TERMS, with_text(batches()), mode=mode, key=(5, 3))
        counted[mode], found[mode] = dict(calls), toy.gradient(model)
    again = {} if train == "none" else {"layers": 2 * counted["hold"]["layers"]}
    assert counted["replay"] == counted["hold"] | again
    assert counted[1]["front"] == counted["hold"]["front"]
    assert toy.relative(found["replay"], found["hold"]) < 1e-6
    assert toy.relative(found[1], found["hold"]) < 1e-6


@pytest.mark.parametrize("name", [name for name in tiny.NAMES if name != "small"])
def test_specaugment_does_not_depend_on_the_cut(name):
    torch.manual_seed(0)
    section = Model(
        encoder=name, train_encoder="all", encoder_dropout=0.0, spec_augment=True, prosody_dim=0, hidden=16, dropout=0.0
    )
    model = EmotionModel(section, Signature()).train()
    found = []
    cuts = [batches(SIZES), batches((9,)), batches((1, 5, 3))]
    others = batches((9,))
    others[0].inputs["seeds"] += 1
    for k, cut in enumerate([*cuts, others]):
        model.zero_grad()
        step.accumulate(join(), model, TERMS, cut, mode="hold", key=(5, k))
        found.append(toy.gradient(model))
    assert max(toy.relative(other, found[0]) for other in found[1:3]) < 1e-3
    assert toy.relative(found[3], found[0]) > 0.02, "nothing was masked"


class Theirs(nn.Module):
    """transformers' own WavLM, whose SpecAugment draws from NumPy and whose LayerDrop draws from torch."""

    def __init__(self) -> None:
        super().__init__()
        config = WavLMConfig(**{**tiny.TINY, **tiny.LARGE_STYLE}, apply_spec_augment=True, mask_time_length=2)
        config.mask_time_prob, config.mask_time_min_masks, config.layerdrop = 0.4, 2, 0.5
        config.hidden_dropout = config.attention_dropout = 0.2
        self.encoder = WavLMModel(config)
        self.head = nn.Linear(config.hidden_size, 2)

    def forward(self, waveform, samples, seeds):
        mask = (torch.arange(waveform.shape[1])[None] < samples[:, None]).long()
        pooled = self.encoder(waveform, attention_mask=mask).last_hidden_state.mean(1)
        scores = self.head(pooled)
        return {"valence": scores[:, 0], "arousal": scores[:, 1]}


def test_replay_restores_the_numpy_state_that_transformers_masks_from(monkeypatch):
    torch.manual_seed(0)
    model = Theirs().train()
    found = gradients(model)
    assert toy.relative(found["replay"], found["hold"]) < 1e-6
    monkeypatch.setattr(np.random, "seed", lambda *_: None)
    left_alone = gradients(model)
    assert toy.relative(left_alone["replay"], left_alone["hold"]) > 1e-3, "without NumPy's state it is silently wrong"
