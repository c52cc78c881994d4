"""A small model in training, with an optimiser and an average, and what it saves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from affect.recipe import Optim
from affect.training import checkpoint, optim
from affect.training.checkpoint import State
from affect.training.distributed import join

STATE: dict[str, Any] = {"best": 0.5, "best_step": 3, "worse": 2, "reduction": 0.25, "budget": 7.5, "mode": "replay"}


class Part:
    """A model in training: some steps done, its optimiser and average with state."""

    def __init__(self, steps: int = 3, width: int = 4, seed: int = 0):
        torch.manual_seed(seed)
        self.engine = join()
        self.net = nn.Sequential(nn.Linear(width, 8), nn.LayerNorm(8), nn.Linear(8, 1))
        self.average = optim.Average(self.net, 0.9)
        groups = [
            {"name": "weights", "params": [p for p in self.net.parameters() if p.dim() > 1], "lr": 0.1},
            {"name": "others", "params": [p for p in self.net.parameters() if p.dim() < 2], "lr": 0.01},
        ]
        made = optim.make(groups, Optim())
        self.model, self.optimizer = self.engine.prepare(self.net, made, Optim())
        self.width = width
        for _ in range(steps):
            self.step()

    def step(self) -> None:
        self.optimizer.zero_grad()
        self.model(torch.randn(5, self.width)).square().sum().backward()
        self.optimizer.step()
        self.average.update(self.net.state_dict().items())

    def save(self, where: Path, step: int, keep: int = 1, **changes: Any) -> State:
        settings = {**STATE, **changes}
        # Without a score no weights were kept.
        settings["best_step"] = 0 if settings["best"] is None else settings["best_step"]
        state = State(step=step, **settings)
        checkpoint.save(self.engine, where, self.model, self.optimizer, self.average, state, keep=keep)
        return state

    def save_best(self, where: Path, step: int) -> None:
        def write(folder: Path) -> None:
            save_file(self.net.state_dict(), str(folder / "model.safetensors"))
            (folder / "config.json").write_text("{}\n")

        checkpoint.save_best(where, step, {"valid": {"ccc": step / 10}}, write)

    def load(self, path: Path) -> State:
        return checkpoint.load(path, self.engine, self.model, self.optimizer, self.average)

    def everything(self) -> dict[str, torch.Tensor]:
        found = {f"model.{k}": v.clone() for k, v in self.net.state_dict().items()}
        found |= {f"average.{k}": v.clone() for k, v in self.average.model.state_dict().items()}
        for k, state in self.optimizer.state_dict()["state"].items():
            found |= {f"optimizer.{k}.{name}": torch.as_tensor(v).clone() for name, v in state.items()}
        return found


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
