"""What of a model is not keyed by example: it draws from a generator, and so follows how the batch is cut."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
import torch
from torch import nn


@contextlib.contextmanager
def watched(model: nn.Module, device: torch.device) -> Iterator[list[str]]:
    """Give the names of the modules that draw from torch's, the device's or NumPy's generator inside, when it ends."""
    seen = _Watch(device)
    handles = []
    for name, module in model.named_modules():
        label = f"{name or 'the model'} ({type(module).__name__})"
        # Functions of their own for each module: a hook is told the module, which an engine may have replaced.
        handles.append(module.register_forward_pre_hook(lambda *_, label=label: seen.enter(label)))
        handles.append(module.register_forward_hook(lambda *_: seen.leave(), always_call=True))
    names: list[str] = []
    try:
        yield names
    finally:
        for handle in handles:
            handle.remove()
        names += dict.fromkeys(seen.found)


class _Watch:
    """Looks at the generators whenever a module begins or ends: what changed was drawn by the innermost one between."""

    def __init__(self, device: torch.device):
        self.device = device
        self.inside: list[str] = []
        self.found: list[str] = []
        self.last = self._states()

    def enter(self, label: str) -> None:
        self._look()
        self.inside.append(label)

    def leave(self) -> None:
        self._look()
        self.inside.pop()

    def _look(self) -> None:
        now = self._states()
        if now != self.last and self.inside:
            self.found.append(self.inside[-1])
        self.last = now

    def _states(self) -> tuple[object, ...]:
        _, key, place, *_ = np.random.get_state(legacy=True)
        states: tuple[object, ...] = (torch.get_rng_state().numpy().tobytes(), np.asarray(key).tobytes(), place)
        if self.device.type != "cpu":
            states = (*states, torch.get_device_module(self.device).get_rng_state(self.device).numpy().tobytes())
        return states
