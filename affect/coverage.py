"""Weights held against the model that takes them: what is missing, has no place, another shape, or no finite value.

What a file lacks would stay random, what it has besides would be left out, and both in silence.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from affect.errors import first_few

_NUMBER = re.compile(r"(?<![^.])\d+(?![^.])")
"""A part of a name that is a number: a layer's, mostly."""
_WRAPPER = re.compile(r"(module|_orig_mod|model|backbone|network)\.")
"""What DDP, torch.compile, Lightning and trunks with a head of their own put before names."""
_MASKED = "masked_spec_embed"
"""What SpecAugment fills in while training, and nothing else reads: files of speech encoders may lack it."""


def not_finite(weights: Mapping[str, Tensor]) -> list[str]:
    """Return the names of the weights that hold a NaN or an infinity."""
    return [name for name, value in weights.items() if value.is_floating_point() and value.numel() and _broken(value)]


def _broken(value: Tensor) -> bool:
    # One pass and no mask as large as the tensor; a NaN is both of them.
    low, high = torch.aminmax(value.detach())
    return not bool(torch.isfinite(low) & torch.isfinite(high))


def faults(
    model: nn.Module, missing: Iterable[str], unexpected: Iterable[str], shapes: Iterable[str],
    weights: Mapping[str, Tensor] | None = None,
) -> str:  # fmt: skip
    """Return in a line's words what is wrong with weights for `model`, "" where nothing is.

    `shapes` are names with both shapes in words, `weights` what is held to be finite, the model's own when not given.
    """
    own, lacking = model.state_dict(), set(missing)
    read = {name: value for name, value in (own if weights is None else weights).items() if name not in lacking}
    kinds = {
        f"of {len(own)} are missing": lacking, "have no place in it": unexpected, "are of another shape": shapes,
        "hold NaN or infinite values": not_finite(read),
    }  # fmt: skip
    counted = {kind: sorted(names) for kind, names in kinds.items()}
    words = [f"{len(names)} {kind} ({first_few(names)})" for kind, names in counted.items() if names]
    return f"its weights do not fit {type(model).__name__}: {'; '.join(words)}" if words else ""


def faults_of_reading(model: nn.Module, facts: Mapping[str, Any], spare: tuple[str, ...] = ()) -> str:
    """Return `faults` of a model that transformers has read, of its loading `facts`.

    Names that begin as one of `spare` have no part in what the model is read for. What the file has besides is a head,
    and right, unless parts are missing, or it is of a stack that the model has: the configuration then names fewer
    layers than there are.
    """
    prefix = f"{getattr(model, 'base_model_prefix', '')}."
    counted = {
        kind: [name for name in facts[kind] if not name.removeprefix(prefix).startswith(spare)]
        for kind in ("missing_keys", "unexpected_keys")
    }
    missing = [name for name in counted["missing_keys"] if name.rpartition(".")[2] != _MASKED]
    unexpected = counted["unexpected_keys"]
    if not missing:
        stacks = {_NUMBER.sub("*", name.removeprefix(prefix)) for name in model.state_dict()}
        unexpected = [name for name in unexpected if _NUMBER.sub("*", name.removeprefix(prefix)) in stacks]
    return faults(model, missing, unexpected, [_unlike(*triple) for triple in facts["mismatched_keys"]])


def faults_of_saved(model: nn.Module, weights: Mapping[str, Tensor]) -> str:
    """Return `faults` of weights that have to be a model's, name by name."""
    own = model.state_dict()
    both = [(name, value.shape, own[name].shape) for name, value in weights.items() if name in own]
    shapes = [_unlike(name, held, wanted) for name, held, wanted in both if held != wanted]
    return faults(model, own.keys() - weights.keys(), weights.keys() - own.keys(), shapes, weights)


def pretrained_missing(model: nn.Module, names: Iterable[str]) -> list[str]:
    """Return what `names` of weights lack of a model's pretrained parts, which tell by `to_config` what they are."""
    parts = tuple(f"{name}." for name, part in model.named_modules() if hasattr(part, "to_config"))
    lacking = set(model.state_dict()).difference(names)
    return sorted(name for name in lacking if name.startswith(parts) and name.rpartition(".")[2] != _MASKED)


def behind_prefix(wanted: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> list[str]:
    """Return the names of `weights` that would be one of `wanted`, of its shape, without a wrapper's prefix."""
    prefixed = []
    for name, value in weights.items():
        own = name
        while own not in wanted and (prefix := _WRAPPER.match(own)):
            own = own[prefix.end() :]
        if own != name and own in wanted and own not in weights and wanted[own].shape == value.shape:
            prefixed.append(name)
    return prefixed


def holes(model: nn.Module, names: Iterable[str]) -> list[str]:
    """Return the layers of `model` of which `names` of weights have none, though they have some of a later layer."""
    names, lacking = list(names), list[str]()
    for stack, layers in model.named_modules():
        if isinstance(layers, nn.ModuleList):
            parts = (name.removeprefix(f"{stack}.").partition(".")[0] for name in names if name.startswith(f"{stack}."))
            there = {int(part) for part in parts if part.isdecimal()}
            own = (number for number in range(max(there, default=0)) if number < len(layers) and number not in there)
            lacking += [f"{stack}.{number}" for number in own if layers[number].state_dict()]
    return lacking


def _unlike(name: str, held: Iterable[int], wanted: Iterable[int]) -> str:
    return f"{name}: {list(held)} for {list(wanted)}"
