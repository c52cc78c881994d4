"""Valence, arousal and dominance of an utterance: speech, prosody and text, fused, a head a target."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from affect import checksums
from affect.checksums import DamagedError
from affect.errors import AffectError
from affect.models.dialogue import DialogueState
from affect.models.encoder import SpeechEncoder, backbone_parameters
from affect.models.fusion import Gate
from affect.models.heads import ClassHead, RegressionHead
from affect.models.mamba import UNDECAYED
from affect.models.prosody import ProsodyBranch
from affect.models.speaker import XVector
from affect.models.speech import SpeechBranch, restore_encoder
from affect.models.text import TextEncoder
from affect.models.va_config import EMOTION, VAConfig

__all__ = ["CONFIG", "WEIGHTS", "VAConfig", "VAModel", "build", "load", "save", "undecayed"]

WEIGHTS = "model.safetensors"
CONFIG = "config.json"


class VAModel(nn.Module):
    """One number on the unit scale for each target of an utterance, and logits for its emotion.

    Legend: U utterances, S samples, L layers, T frames, D channels, P functionals, E channels of an embedding,
    W tokens, K targets, G dialogues (or segments of them).
    """

    def __init__(
        self,
        config: VAConfig,
        encoder: SpeechEncoder | None = None,
        text: TextEncoder | None = None,
        xvector: XVector | None = None,
    ) -> None:
        """Build the model; `encoder`, `text` and `xvector`, where not given, are those that `config` names."""
        super().__init__()
        self.config = config
        width = 0
        self.speech = SpeechBranch(config, encoder, xvector) if config.uses_audio else None
        if self.speech is not None:
            width += self.speech.width
        self.text: TextEncoder | None = None
        if config.text is not None:
            self.text = text if text is not None else TextEncoder.build(config.text)
            width += self.text.width
        self.prosody: ProsodyBranch | None = None
        if config.uses_prosody:
            self.prosody = ProsodyBranch(config.prosody_features, width=config.prosody_width, dropout=config.dropout)
        self.dialogue: DialogueState | None = None
        if config.dialogue != "none":
            self.dialogue = DialogueState(
                width + config.prosody_width,
                width=config.mamba_width,
                layers=config.mamba_layers,
                state=config.state_width,
                decay=config.state_decay,
                dropout=config.dropout,
            )
            width += config.state_width
        gated = config.targets if config.gates else ()
        self.gates = nn.ModuleDict({target: Gate((config.prosody_width, width)) for target in gated})
        width += config.prosody_width
        self.heads = nn.ModuleDict({target: _head(config, target, width) for target in config.targets})
        self.log_variance = nn.Parameter(torch.zeros(len(config.targets))) if config.uncertainty else None
        # transformers' name for the layers that sharding engines wrap one by one.
        self._no_split_modules = [self.encoder.layer_class] if self.encoder is not None else []

    @property
    def encoder(self) -> SpeechEncoder | None:
        """The speech encoder, where there is one."""
        return self.speech.encoder if self.speech is not None else None

    @property
    def sampling_rate(self) -> int:
        """The rate in Hz of the waveforms it takes (16000 where it takes none)."""
        return self.encoder.sampling_rate if self.encoder is not None else 16_000

    def get_input_embeddings(self) -> None:
        """Say that there are none: Accelerate's FSDP asks, and transformers' speech models raise."""
        return None

    def forward(
        self,
        *,
        waveform: Tensor | None = None,
        samples: Tensor | None = None,
        states: Tensor | None = None,
        frames: Tensor | None = None,
        prosody: Tensor | None = None,
        speaker: Tensor | None = None,
        tokens: Tensor | None = None,
        token_mask: Tensor | None = None,
        turns: Tensor | None = None,
        seeds: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Return a tensor [U] in float32 for each number, logits [U, C] for `emotion`, and `log_variance` [U, K].

        Speech is `waveform` [U, S] and `samples` [U] (valid samples), or a frozen encoder's `states` [U, L, T, D] and
        `frames` [U] (valid ones); `seeds` [U] say what SpecAugment masks. `prosody` [U, P] are raw functionals,
        `speaker` [U, E] embeddings, `tokens` [U, W] with `token_mask` [U, W] a text. `turns` [G] says how many
        utterances of the batch each dialogue has (one each when not given). Raises AffectError if an input is missing.
        """
        heard = {"waveform": waveform, "samples": samples, "states": states, "frames": frames, "prosody": prosody,
                 "speaker": speaker, "tokens": tokens, "token_mask": token_mask, "seeds": seeds}  # fmt: skip
        given = {name: value for name, value in heard.items() if value is not None}
        return self.judge(self.perceive(given, turns), turns)

    def perceive(self, given: dict[str, Tensor], turns: Tensor | None = None) -> dict[str, Tensor]:
        """Return what each utterance is by itself, a vector [U, D] a branch, of the inputs of `forward` by name."""
        found: dict[str, Tensor] = {}
        if self.prosody is not None:
            if "prosody" not in given:
                raise AffectError("this model takes prosody functionals: they are missing")
            found["prosody"] = self.prosody(given["prosody"])
        if self.speech is not None:
            # After the prosody, which may choose among the frames.
            heard = {name: value for name, value in given.items() if name in SpeechBranch.INPUTS}
            found["speech"] = self.speech(heard | ({"rhythm": found["prosody"]} if found else {}), turns)
        if self.text is not None:
            if "tokens" not in given or "token_mask" not in given:
                raise AffectError("this model takes text: tokens and token_mask are missing")
            found["text"] = self.text(given["tokens"], given["token_mask"])
        return found

    def judge(self, perceived: dict[str, Tensor], turns: Tensor | None = None) -> dict[str, Tensor]:
        """Return the outputs of `forward`, of what `perceive` gave for utterances in the order they were said."""
        rhythm = perceived.get("prosody")
        others = [perceived[name] for name in ("speech", "text") if name in perceived]
        features = _join([*others, rhythm])
        if self.dialogue is not None:
            alone = torch.ones(features.shape[0], dtype=torch.long)
            others.append(self.dialogue(features, alone if turns is None else turns))
            features = _join([*others, rhythm])
        outputs: dict[str, Tensor] = {}
        for target, head in self.heads.items():
            gated = self.gates[target]([rhythm, _join(others)]) if len(self.gates) else features
            outputs[target] = head(gated)
        if self.log_variance is not None:
            outputs["log_variance"] = self.log_variance.float().expand(features.shape[0], -1)
        return outputs

    def describe(self) -> dict[str, Any]:
        """Return what `build` makes it of again, as JSON types."""
        speech = self.speech
        return {
            "model": self.config.to_dict(),
            "encoder": self.encoder.to_config() if self.encoder is not None else None,
            "text": self.text.to_config() if self.text is not None else None,
            "xvector": speech.xvector.to_config() if speech is not None and speech.xvector is not None else None,
        }

    def encoder_parameters(self) -> list[nn.Parameter]:
        """Return the trainable parameters of the pretrained encoders (layer weights are not of them, adapters are)."""
        found = [] if self.encoder is None else backbone_parameters(self.encoder)
        found += [] if self.text is None else self.text.pretrained_parameters()
        return [entry for entry in found if entry.requires_grad]

    def other_parameters(self) -> list[nn.Parameter]:
        """Return the trainable parameters that are not of a pretrained encoder."""
        encoder = {id(entry) for entry in self.encoder_parameters()}
        return [entry for entry in self.parameters() if entry.requires_grad and id(entry) not in encoder]


def _join(parts: Sequence[Tensor | None]) -> Tensor:
    """Return the parts that are there, side by side, in the last one's precision."""
    present = [part for part in parts if part is not None]
    return torch.cat([part.to(present[-1].dtype) for part in present], dim=-1)


def _head(config: VAConfig, target: str, width: int) -> nn.Module:
    if target == EMOTION:
        return ClassHead(width, hidden=config.hidden, dropout=config.dropout, classes=len(config.classes))
    return RegressionHead(width, hidden=config.hidden, dropout=config.dropout, sigmoid=config.sigmoid)


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


def save(model: VAModel, folder: Path) -> None:
    """Write the weights (safetensors) and the configuration to `folder`; `load` needs nothing else."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    save_file(tensors, folder / WEIGHTS)
    facts = {
        "model": model.config.to_dict(),
        "encoder": model.encoder.to_config() if model.encoder is not None else None,
        "text": model.text.to_config() if model.text is not None else None,
        "xvector": model.speech.xvector.to_config() if model.speech is not None and model.speech.xvector else None,
    }
    (folder / CONFIG).write_text(json.dumps(facts, indent=2) + "\n")


def build(facts: dict[str, Any]) -> VAModel:
    """Build the model that config.json describes, with random weights and without the hub."""
    encoder = restore_encoder(facts["encoder"]) if facts["encoder"] is not None else None
    text = TextEncoder.from_config(facts["text"]) if facts.get("text") is not None else None
    xvector = XVector.from_config(facts["xvector"]) if facts.get("xvector") is not None else None
    return VAModel(VAConfig.from_dict(facts["model"]), encoder, text, xvector)


def load(folder: Path) -> VAModel:
    """Return the model that `save` wrote, on the CPU and in evaluation mode.

    A folder with checksums is held against them. Raises AffectError if it holds no such model or its files are damaged.
    """
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise AffectError(f"{folder} holds no model: {name} is missing")
    try:
        if (folder / checksums.FILE).exists():
            checksums.check(folder)
        facts = json.loads((folder / CONFIG).read_text())
        model = build(facts)
        model.load_state_dict(load_file(folder / WEIGHTS))
    # Before ValueError, which it is one of.
    except DamagedError as error:
        raise AffectError(
            f"the model in {folder} is damaged: {error}; copy it there again, or train it anew with --overwrite"
        ) from error
    # Cut-off JSON, cut-off weights, fields or tensors that do not belong to this model.
    except (OSError, ValueError, KeyError, TypeError, SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise AffectError(f"the model in {folder} cannot be read: {reason[:300]}") from error
    return model.eval()
