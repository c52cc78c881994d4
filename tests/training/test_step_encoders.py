"""The step on real encoders, with everything random that they have: no cut, order or replay changes its gradient."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import (
    BertConfig,
    DebertaV2Config,
    DistilBertConfig,
    ElectraConfig,
    ModernBertConfig,
    RobertaConfig,
    WavLMConfig,
    WavLMModel,
)

from affect import keyed
from affect.losses.ccc import ccc_term
from affect.models import tiny
from affect.models.lora import add_lora
from affect.models.text import TextConfig, TextEncoder
from affect.models.text_encoder import PretrainedText, build_model, with_dropout
from affect.task import Batch
from affect.tasks.emotion.config import Model, Signature
from affect.tasks.emotion.model import EmotionModel
from affect.training import step, unkeyed
from affect.training.distributed import join
from tests.training import toy

SIZES = (3, 2, 4)
TERMS = [ccc_term("valence"), ccc_term("arousal")]


def batches(sizes: tuple[int, ...] = SIZES, *, text: bool = False) -> list[Batch]:
    """Return nine utterances, the same ones however they are cut into micro-batches."""
    g = torch.Generator().manual_seed(0)
    count = sum(sizes)
    samples = torch.randint(9000, 16000, (count,), generator=g)
    wave = torch.randn(count, 16000, generator=g)
    tokens, letters = torch.randint(2, 200, (count, 9), generator=g), torch.randint(3, 10, (count,), generator=g)
    labels = {name: torch.rand(count, generator=g) for name in ("valence", "arousal")}
    labels["valence"][[0, 3, 5]] = float("nan")
    made, first = [], 0
    for size in sizes:
        part = slice(first, first + size)
        longest = int(samples[part].max())
        inputs = {"waveform": wave[part, :longest], "samples": samples[part]}
        if text:
            width = int(letters[part].max())
            inputs = {"tokens": tokens[part, :width], "token_mask": torch.arange(width) < letters[part, None]}
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


def gradient(model: nn.Module, made: list[Batch], mode: step.Mode = "hold", now: int = 3) -> tuple[float, Tensor]:
    """Return the loss of a step and its gradient; torch's generator stands somewhere else each time."""
    model.zero_grad()
    torch.seed()
    result = step.accumulate(join(), model, TERMS, made, mode=mode, key=(5, now))
    return float(result.loss), toy.gradient(model)


def reversed_rows(batch: Batch) -> Batch:
    """Return a micro-batch with its examples in reverse."""
    flipped = ({name: t.flip(0) for name, t in tensors.items()} for tensors in (batch.inputs, batch.targets))
    inputs, targets = flipped
    return replace(batch, ids=batch.ids[::-1], inputs=inputs, targets=targets)


def hold_any_cut(model: nn.Module, **named: Any) -> None:
    """Hold that the loss and the gradient of a step with all that is random follow neither cut, order nor mode."""
    keyed.name_places(model)
    loss, wanted = gradient(model, batches(**named))
    assert float(wanted.norm()) > 0
    cuts: list[tuple[list[Batch], step.Mode]] = [
        (batches((9,), **named), "hold"), (batches(SIZES, **named), "replay"), (batches((1, 5, 3), **named), "replay"),
        ([reversed_rows(batch) for batch in batches((4, 5), **named)][::-1], "hold"),
    ]  # fmt: skip
    for cut, mode in cuts:
        other, found = gradient(model, cut, mode)
        assert other == pytest.approx(loss, abs=1e-5)
        assert toy.relative(found, wanted) < 1e-4
    assert toy.relative(gradient(model, batches(**named), now=4)[1], wanted) > 0.05, "nothing random was on"


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("name", [name for name in tiny.NAMES if name != "small"])
def test_what_an_encoder_draws_follows_the_examples(name, checkpointing):
    """Dropout, attention's too, LayerDrop and SpecAugment; recomputed in the backward, too."""
    torch.manual_seed(0)
    section = Model(
        encoder=name, train_encoder="all", encoder_dropout=0.2, layerdrop=0.3, spec_augment=True,
        checkpointing=checkpointing, prosody_dim=0, hidden=16, dropout=0.2,
    )  # fmt: skip
    hold_any_cut(EmotionModel(section, Signature()).train())


def test_whispers_windows_follow_the_examples():
    """How many windows there are is the longest recording's of a micro-batch."""
    torch.manual_seed(0)
    section = Model(encoder="tiny-whisper", train_encoder="all", encoder_dropout=0.2, spec_augment=True, prosody_dim=0)
    model = EmotionModel(section, Signature()).train()
    model.speech.encoder.backbone.window_frames = 30
    hold_any_cut(model)


@pytest.mark.parametrize(
    "parts", [{"temporal": "mamba", "mamba_dim": 8, "mamba_layers": 2}, {"lora": 2, "train_encoder": "transformer"}]
)
def test_what_other_parts_draw_follows_the_examples(parts):
    torch.manual_seed(0)
    section = Model(**{"encoder": "tiny", "train_encoder": "all", "encoder_dropout": 0.1, "prosody_dim": 0, **parts})
    hold_any_cut(EmotionModel(section, Signature()).train())


@pytest.mark.parametrize("train", ["all", "transformer"])
def test_what_dialogues_draw_follows_the_utterances(train):
    """They are encoded in groups of similar length; their states are rows of dialogues; convolutions may be frozen."""
    torch.manual_seed(0)
    section = Model(
        encoder="tiny", train_encoder=train, encoder_dropout=0.2, layerdrop=0.3, spec_augment=True, dialogue="mamba",
        segment=3, state_dim=4, mamba_dim=8, mamba_layers=1, prosody_dim=0, hidden=16,
    )  # fmt: skip
    model = EmotionModel(section, Signature()).train()
    keyed.name_places(model)

    def found(cut: tuple[int, ...], mode: step.Mode, now: int = 3) -> tuple[float, Tensor]:
        made = batches(cut)
        for one in made:
            one.inputs["turns"] = torch.full((len(one.ids) // 3,), 3)
        return gradient(model, made, mode, now)

    loss, wanted = found((9,), "hold")
    for cut, mode in (((3, 6), "hold"), ((6, 3), "replay"), ((3, 3, 3), 1)):
        other, its = found(cut, mode)
        assert other == pytest.approx(loss, abs=1e-5)
        assert toy.relative(its, wanted) < 1e-4
    assert toy.relative(found((9,), "hold", 4)[1], wanted) > 0.05


TEXTS = {
    "bert": BertConfig, "roberta": RobertaConfig, "deberta-v2": DebertaV2Config, "distilbert": DistilBertConfig,
    "electra": ElectraConfig, "modernbert": ModernBertConfig,
}  # fmt: skip
SIZE = {
    "vocab_size": 258, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
    "max_position_embeddings": 64, "pad_token_id": 0,
}  # fmt: skip
OTHER = {
    "deberta-v2": {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_buckets": 8,
                   "max_relative_positions": 16},
    "distilbert": {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32},
    "modernbert": {"bos_token_id": 1, "eos_token_id": 1, "cls_token_id": 1, "sep_token_id": 1},
}  # fmt: skip


@pytest.mark.parametrize("name", [*TEXTS, "ngrams"])
def test_what_a_text_encoder_draws_follows_the_examples(name):
    torch.manual_seed(0)
    config = TextConfig(name=name, dropout=0.2)
    if name == "ngrams":
        text = TextEncoder.build(config)
    else:
        made = with_dropout(TEXTS[name](**{**SIZE, **OTHER.get(name, {})}), 0.2)
        text = TextEncoder(config, PretrainedText(build_model(made), name=name, frozen=False))
    section = Model(encoder="none", text=name, prosody_dim=0, hidden=16, dropout=0.2)
    hold_any_cut(EmotionModel(section, Signature(), text=text).train(), text=True)


def test_what_adapters_drop_follows_the_examples():
    """A recipe's own adapters drop nothing; peft's modules for it are replaced all the same."""
    torch.manual_seed(0)
    section = Model(encoder="tiny", train_encoder="transformer", prosody_dim=0, hidden=16, dropout=0.0)
    model = EmotionModel(section, Signature())
    add_lora(model.encoder, 2, dropout=0.3)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.1)
    hold_any_cut(model.train())


@pytest.mark.parametrize("train", ["transformer", "none"])
@pytest.mark.parametrize("name", ["tiny", "tiny-whisper"])
def test_what_is_frozen_is_computed_once_a_step(name, train):
    """The convolutions, or whole encoders, though a replayed micro-batch is forwarded twice; the gradient is hold's."""
    torch.manual_seed(0)
    section = Model(
        encoder=name, train_encoder=train, text="tiny-text", train_text="none", prosody_dim=0, hidden=16, dropout=0.2
    )
    model = EmotionModel(section, Signature()).train()
    keyed.name_places(model)
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


class Theirs(nn.Module):
    """transformers' own WavLM, whose SpecAugment draws from NumPy and whose LayerDrop draws from torch."""

    def __init__(self) -> None:
        super().__init__()
        config = WavLMConfig(**{**tiny.TINY, **tiny.LARGE_STYLE}, apply_spec_augment=True, mask_time_length=2)
        config.mask_time_prob, config.mask_time_min_masks, config.layerdrop = 0.4, 2, 0.5
        config.hidden_dropout = config.attention_dropout = 0.2
        self.encoder = WavLMModel(config)
        self.head = nn.Linear(config.hidden_size, 2)

    def forward(self, waveform, samples):
        mask = (torch.arange(waveform.shape[1])[None] < samples[:, None]).long()
        pooled = self.encoder(waveform, attention_mask=mask).last_hidden_state.mean(1)
        scores = self.head(pooled)
        return {"valence": scores[:, 0], "arousal": scores[:, 1]}


def test_replay_restores_the_numpy_state_that_transformers_masks_from(monkeypatch):
    """What is not keyed follows the cut, but a replay repeats it; and it is named."""
    torch.manual_seed(0)
    model = Theirs().train()
    with unkeyed.watched(model, torch.device("cpu")) as names:
        wanted = gradient(model, batches())[1]
    assert "encoder (WavLMModel)" in names, "its SpecAugment"
    assert "encoder.encoder.dropout (Dropout)" in names
    assert "encoder.encoder (WavLMEncoderStableLayerNorm)" in names, "its LayerDrop"
    assert toy.relative(gradient(model, batches(), "replay")[1], wanted) < 1e-6
    monkeypatch.setattr(np.random, "seed", lambda *_: None)
    left_alone = [gradient(model, batches(), mode)[1] for mode in ("hold", "replay")]
    assert toy.relative(*left_alone) > 1e-3, "without NumPy's state it is silently wrong"
