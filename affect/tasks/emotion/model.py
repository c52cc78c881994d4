"""The model of valence, arousal, dominance and emotion: speech, prosody and text, fused, a head a target.

Legend: U utterances, S samples, L layers, T frames, D channels, P functionals, E channels of an embedding, W tokens,
K targets, C classes, G dialogues (or segments of them).
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor, nn

from affect.config import from_dict, to_dict
from affect.errors import AffectError
from affect.keyed import rearranged
from affect.models.dialogue import DialogueState, TemporalMamba
from affect.models.encoder import EncoderConfig, SpeechEncoder, backbone_parameters, by_length
from affect.models.fusion import FiLM, Gate, ProsodyAttention
from affect.models.heads import ClassHead, RegressionHead
from affect.models.layer_stack import mask_frames
from affect.models.mamba import UNDECAYED
from affect.models.mel import make_encoder, restore_encoder
from affect.models.pooling import build_pooling
from affect.models.prosody import ProsodyBranch
from affect.models.speaker import XVector
from affect.models.text import TextConfig, TextEncoder
from affect.tasks.emotion.config import EMOTION, PROBABILITY, UNIT, Model, Signature

_MOST = 60
"""Seconds of padded audio that the utterances of a dialogue are encoded by: a whole dialogue can be minutes."""


class SpeechBranch(nn.Module):
    """Encoder, Mamba over frames, pooling, speaker modulation and the prosody's attention, as configured."""

    INPUTS = ("waveform", "samples", "states", "frames", "speaker")
    """What it takes of a batch; the prosody branch's output comes beside."""
    by_row = True
    """Whether the utterances of dialogues may be encoded in several calls, see `ConvStack.by_row`."""

    def __init__(self, config: Model, data: Signature, encoder: SpeechEncoder, xvector: XVector | None = None) -> None:
        """Build the branch around `encoder`; `xvector`, where not given, is the one that `config` names."""
        super().__init__()
        self.encoder = encoder
        if config.lora:
            # Imported here: peft takes a second, which a run without adapters need not wait for.
            from affect.models.lora import add_lora

            add_lora(self.encoder, config.lora)
        channels, width, heads = self.encoder.width, config.mamba_dim, config.prosody_attention
        self.temporal: TemporalMamba | None = None
        if config.temporal != "none":
            self.temporal = TemporalMamba(channels, width=width, layers=config.mamba_layers, dropout=config.dropout)
            channels = width
        self.pooling = build_pooling(config.pooling, channels)
        self.width = self.pooling.width
        self.xvector: XVector | None = None
        if config.speaker not in ("none", "embedding"):
            self.xvector = xvector or XVector.build(config.speaker)
        speaker = self.xvector.width if self.xvector is not None else data.speaker_features
        self.film = FiLM(self.width, speaker) if config.speaker != "none" else None
        self.attention = ProsodyAttention(config.prosody_dim, channels, width, heads=heads) if heads else None
        self.width += width if heads else 0

    def forward(self, heard: dict[str, Tensor], turns: Tensor | None = None) -> Tensor:
        """Return [U, D] of `waveform` [U, S] and `samples` [U], or `states` [U, L, T, D] and `frames` [U].

        `heard` may also hold `speaker` [U, E] and `rhythm` [U, P] (the prosody branch's). Utterances of dialogues
        (`turns` given) are encoded in groups of similar length, and a few at a time, unless ranks must call alike: all
        at once then, padded to the longest.
        """
        lengths = heard.get("frames", heard.get("samples"))
        if lengths is None or not ("states" in heard or "waveform" in heard):
            raise AffectError("this model takes audio: waveform and samples are missing")
        if turns is None or not self.by_row:
            return self._encode(heard)
        # Groups are shapes, which the host makes: it reads the lengths once, and copies all places at once.
        counts = lengths.cpu()
        groups = by_length(counts / (self.encoder.sampling_rate if "samples" in heard else 50), _MOST)
        places = torch.cat(groups).to(lengths.device)
        parts = []
        for group, place in zip(groups, torch.split(places, [len(group) for group in groups]), strict=True):
            with rearranged(itemgetter(place)):
                own = {name: value[place] for name, value in heard.items()}
                parts.append(self._encode(own, int(counts[group[0]])))
        return torch.cat(parts)[places.argsort()]

    def _encode(self, heard: dict[str, Tensor], longest: int | None = None) -> Tensor:
        frames, mask = self._frames(heard, longest)
        if self.temporal is not None:
            frames = self.temporal(frames)
        vector: Tensor = self.pooling(frames, mask)
        if self.film is not None:
            speaker = heard.get("speaker")
            if speaker is None and self.xvector is not None:
                speaker = self.xvector(heard["waveform"], heard["samples"])
            if speaker is None:
                raise AffectError("this model takes speaker embeddings: they are missing")
            vector = self.film(vector, speaker.to(vector.dtype))
        if self.attention is None:
            return vector
        attended = self.attention(heard["rhythm"].to(frames.dtype), frames, mask)
        return torch.cat([vector, attended.to(vector.dtype)], dim=-1)

    def _frames(self, heard: dict[str, Tensor], longest: int | None) -> tuple[Tensor, Tensor]:
        """Return frames [U, T, D] and their mask [U, T] of inputs that are cut to the `longest`, where that is given.

        A batch as it was collated has no more padding than that already: to look would make a device's host wait.
        """
        if "states" in heard:
            states = heard["states"][:, :, :longest]
            return self.encoder.mix(states.unbind(1)), mask_frames(heard["frames"], states.shape[2])
        frames, mask = self.encoder(heard["waveform"][:, :longest], heard["samples"])
        return frames, mask


class EmotionModel(nn.Module):
    """A number on the scale of the labels for each target of an utterance, and logits for its emotion."""

    def __init__(
        self, config: Model, data: Signature, *, encoder: SpeechEncoder | None = None,
        text: TextEncoder | None = None, xvector: XVector | None = None, lengths: tuple[float, float] | None = None,
    ) -> None:  # fmt: skip
        """Build the model; `encoder`, `text` and `xvector`, where not given, are those that `config` names.

        `lengths` are the shortest and longest utterance that it is trained on, in seconds (words of a text alone).
        """
        super().__init__()
        self.config, self.data, self.lengths = config, data, lengths
        width = 0
        self.speech: SpeechBranch | None = None
        if config.encoder != "none":
            self.speech = SpeechBranch(config, data, encoder or make_encoder(encoder_options(config)), xvector)
            width += self.speech.width
        self.text: TextEncoder | None = None
        if config.text != "none":
            self.text = text or TextEncoder.build(text_options(config))
            width += self.text.width
        functionals, rhythm = data.prosody_features, config.prosody_dim
        self.prosody = ProsodyBranch(functionals, width=rhythm, dropout=config.dropout) if rhythm else None
        self.dialogue: DialogueState | None = None
        if config.dialogue != "none":
            self.dialogue = DialogueState(
                width + rhythm, width=config.mamba_dim, layers=config.mamba_layers, state=config.state_dim,
                decay=config.state_decay, dropout=config.dropout,
            )  # fmt: skip
            width += config.state_dim
        gated = data.targets if config.gates else ()
        self.gates = nn.ModuleDict({target: Gate((rhythm, width)) for target in gated})
        width += rhythm
        self.heads = nn.ModuleDict({target: _head(config, data, target, width) for target in data.targets})
        self.log_variance = nn.Parameter(torch.zeros(len(data.targets))) if config.uncertainty else None
        # transformers' name for the layers that sharding engines wrap one by one.
        self._no_split_modules = [self.encoder.layer_class] if self.encoder is not None else []

    @property
    def encoder(self) -> SpeechEncoder | None:
        """The speech encoder, where there is one."""
        return self.speech.encoder if self.speech is not None else None

    def get_input_embeddings(self) -> None:
        """Say that there are none: Accelerate's FSDP asks, and transformers' speech models raise."""

    def forward(self, *, turns: Tensor | None = None, **given: Tensor) -> dict[str, Tensor]:
        """Return each number [U] on the scale of the labels, and as `<name>_unit` from 0 to 1, in float32.

        Of `emotion` it returns logits [U, C] and `emotion_probability` [U, C], and with it `log_variance` [U, K].

        Speech is `waveform` [U, S] and `samples` [U] (valid samples), or a frozen encoder's `states` [U, L, T, D] and
        `frames` [U] (valid ones). `prosody` [U, P] are raw functionals, `speaker` [U, E] embeddings, `tokens` [U, W]
        with `token_mask` [U, W] a text. `turns` [G] says how many utterances of the batch each dialogue has (one each
        when not given). Raises AffectError if an input is missing.
        """
        return self.judge(self.perceive(given, turns), turns)

    def perceive(self, given: dict[str, Tensor], turns: Tensor | None = None) -> dict[str, Tensor]:
        """Return what each utterance is by itself, a vector [U, D] a branch, of the inputs of `forward` by name."""
        vectors: dict[str, Tensor] = {}
        if self.prosody is not None:
            if "prosody" not in given:
                raise AffectError("this model takes prosody functionals: they are missing")
            vectors["prosody"] = self.prosody(given["prosody"])
        if self.speech is not None:
            # After the prosody, which may choose among the frames.
            heard = {name: value for name, value in given.items() if name in SpeechBranch.INPUTS}
            vectors["speech"] = self.speech(heard | ({"rhythm": vectors["prosody"]} if vectors else {}), turns)
        if self.text is not None:
            if "tokens" not in given or "token_mask" not in given:
                raise AffectError("this model takes text: tokens and token_mask are missing")
            vectors["text"] = self.text(given["tokens"], given["token_mask"])
        return vectors

    def judge(self, perceived: dict[str, Tensor], turns: Tensor | None = None) -> dict[str, Tensor]:
        """Return the outputs of `forward`, of what `perceive` gave for utterances in the order they were said."""
        rhythm = perceived.get("prosody")
        others = [perceived[name] for name in ("speech", "text") if name in perceived]
        features = _join([*others, rhythm])
        if self.dialogue is not None:
            # In the host's memory, which is where turns are read.
            alone = torch.ones(features.shape[0], dtype=torch.long)
            others.append(self.dialogue(features, alone if turns is None else turns))
            features = _join([*others, rhythm])
        outputs: dict[str, Tensor] = {}
        low, high = self.data.scale
        for target, head in self.heads.items():
            value = head(self.gates[target]([rhythm, _join(others)]) if len(self.gates) else features)
            if target == EMOTION:
                outputs |= {target: value, target + PROBABILITY: value.softmax(-1)}
            else:
                outputs |= {target: low + (high - low) * value, target + UNIT: value}
        if self.log_variance is not None:
            outputs["log_variance"] = self.log_variance.float().expand(features.shape[0], -1)
        return outputs

    def describe(self) -> dict[str, Any]:
        """Return what `build` makes it of again, as JSON types."""
        xvector = self.speech.xvector if self.speech is not None else None
        parts = {"encoder": self.encoder, "text": self.text, "xvector": xvector}
        architectures = {name: part.to_config() if part is not None else None for name, part in parts.items()}
        own = {"model": to_dict(self.config), "data": to_dict(self.data), "lengths": self.lengths and [*self.lengths]}
        return {**own, **architectures}

    def encoder_parameters(self) -> list[nn.Parameter]:
        """Return the trainable parameters of the pretrained encoders (layer weights are not of them, adapters are)."""
        parameters = [] if self.encoder is None else backbone_parameters(self.encoder)
        parameters += [] if self.text is None else self.text.pretrained_parameters()
        return [entry for entry in parameters if entry.requires_grad]


def _join(parts: Sequence[Tensor | None]) -> Tensor:
    """Return the parts that are there, side by side, in the last one's precision."""
    present = [part for part in parts if part is not None]
    return torch.cat([part.to(present[-1].dtype) for part in present], dim=-1)


def _head(config: Model, data: Signature, target: str, width: int) -> nn.Module:
    hidden = (config.hidden, config.hidden // 2)
    if target == EMOTION:
        return ClassHead(width, hidden=hidden, dropout=config.dropout, classes=len(data.classes))
    return RegressionHead(width, hidden=hidden, dropout=config.dropout, sigmoid=config.sigmoid)


NORMS = (nn.LayerNorm, nn.GroupNorm)
GAINS = ("bias", "rel_attn_embed.weight", "gru_rel_pos_const", "weight.original0", "weight_g", *UNDECAYED)
"""Endings of names that decay leaves alone: biases, WavLM's position bias and gate, weight norm's gain, Mamba's own."""


def undecayed(model: nn.Module) -> set[str]:
    """Return the names of the parameters that weight decay leaves alone.

    These are norms, biases, gains, position biases and whatever else has one dimension (layer weights, log
    variances). Names are those of `model.named_parameters()`; ask before an engine shards the model.
    """
    norms = {id(entry) for module in model.modules() if isinstance(module, NORMS) for entry in module.parameters()}
    return {
        name
        for name, entry in model.named_parameters()
        if id(entry) in norms or entry.ndim <= 1 or name.endswith(GAINS)
    }


def encoder_options(config: Model) -> EncoderConfig:
    """Return which speech encoder a section `model` asks for, and how it is used."""
    return EncoderConfig(
        name=config.encoder, train=config.train_encoder, layers=config.layers, dropout=config.encoder_dropout,
        attention_dropout=config.attention_dropout, gradient_checkpointing=config.checkpointing,
        layerdrop=config.layerdrop, spec_augment=config.spec_augment,
    )  # fmt: skip


def text_options(config: Model) -> TextConfig:
    """Return which text encoder a section `model` asks for, and how it is used."""
    return TextConfig(name=config.text, train=config.train_text, dropout=config.text_dropout)


def build(facts: dict[str, Any]) -> EmotionModel:
    """Return the model that `EmotionModel.describe` described, with random weights and without the Hub."""
    config = from_dict(Model, facts["model"], "model")
    encoder, text, xvector = facts.get("encoder"), facts.get("text"), facts.get("xvector")
    # What an earlier version of affect wrote has none.
    lengths = facts.get("lengths")
    return EmotionModel(
        config,
        from_dict(Signature, facts["data"], "data"),
        encoder=None if encoder is None else restore_encoder(encoder_options(config), encoder),
        text=None if text is None else TextEncoder.restore(text_options(config), text),
        xvector=None if xvector is None else XVector.from_config(xvector),
        lengths=None if lengths is None else (float(lengths[0]), float(lengths[1])),
    )
