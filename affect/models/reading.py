"""Parts of encoders by transformers: what can't be read, or doesn't fit its configuration, is one line."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from pickle import UnpicklingError
from typing import Any

import torch

from affect.coverage import faults_of_reading
from affect.errors import AffectError

POOLER = "pooler."
"""The beginning of names of weights that read the first token for a task of pretraining: files made for others lack
them, and no features are made of them."""
_FOREIGN = (UnpicklingError, TypeError, AttributeError, EOFError)
"""What comes of a pickle that holds something else than names and tensors, or a program's objects beside them."""


def attempt(name: str, part: str, read: Callable[..., Any], *, trust: bool = False, **arguments: Any) -> Any:
    """Return `read(**arguments)`; raises AffectError, naming the encoder and the part, if that fails.

    `trust` lets a program run that the encoder brings along. Told either way, transformers asks nothing on the
    terminal.
    """
    try:
        return read(trust_remote_code=trust, **arguments)
    # What transformers, the hub, torch, tokenizers and safetensors raise for missing, damaged, foreign or unreachable
    # files has no other base.
    except Exception as error:
        # The words of transformers are longer than a line, and name the option at their end.
        if not trust and "trust_remote_code" in str(error):
            words = "brings a program of its own along: read it; extracting features of texts runs one with"
            raise AffectError(f"encoder {name!r} {words} --trust-remote-code") from error
        reason = " ".join(str(error).split()) or type(error).__name__
        if part == "weights" and isinstance(error, _FOREIGN):
            # torch's words on a pickle advise to run what is in it.
            told = "" if isinstance(error, UnpicklingError) else f" ({reason})"
            reason = f"they are no state dict, which is names and tensors alone{told}"
        raise AffectError(f"encoder {name!r}: its {part} cannot be read: {reason[:300]}") from error


def read_model(
    name: str, auto: Any, *, spare: tuple[str, ...] = (), dtype: torch.dtype = torch.float32, **where: Any
) -> Any:
    """Return `auto.from_pretrained(**where)`; raises AffectError where its weights do not cover it or are not finite.

    Weights whose names begin as one of `spare` have no part in what it is read for.
    """
    with _silent():
        model, facts = attempt(
            name, "weights", auto.from_pretrained, **where, dtype=dtype, output_loading_info=True,
            ignore_mismatched_sizes=True,
        )  # fmt: skip
    # transformers would fill with random numbers what is missing or of another shape, and go on.
    if wrong := faults_of_reading(model, facts, spare):
        raise AffectError(f"encoder {name!r}: {wrong}")
    return model


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Keep transformers' table of weights that fit nowhere from the user: of a head on top it says nothing new."""
    log = logging.getLogger("transformers")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)
