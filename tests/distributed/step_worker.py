"""One rank: the step's gradient for every loss, mode and cut, against the whole batch on one machine."""

from __future__ import annotations

import copy
import json

import torch

from affect.cli import guarded
from affect.recipe import Optim
from affect.task import total_of
from affect.train import step
from affect.train.engine import Engine
from tests.train import toy

# Micro-batches of ranks 0 and 1; 0 is a filler.
CUTS = [((3, 8, 1), (2, 1, 9)), ((12,), (12,)), ((24, 0), (0, 0)), ((5, 4, 3, 2), (1, 9, 0, 0))]


def main() -> None:
    engine = Engine()
    x, targets = toy.data(24)
    errors: dict[str, float] = {}
    torch.manual_seed(0)
    plain = toy.Toy()
    for name, loss in toy.losses().items():
        alone = copy.deepcopy(plain)
        value = total_of(loss, alone(x), targets)
        value.backward()
        wanted = toy.gradient(alone)
        for mode in ("hold", "replay"):
            model = copy.deepcopy(plain)
            prepared, _ = engine.prepare(model, torch.optim.SGD(model.parameters(), lr=0.1), Optim())
            # One wrapped model for all cuts: a reducer left in a wrong state by one would spoil the next.
            for cut in CUTS:
                model.zero_grad()
                start = 0 if engine.rank == 0 else sum(cut[0])
                mine = toy.batches(x, targets, cut[engine.rank], start=min(start, 23))
                result = step.accumulate(engine, prepared, loss, mine, mode=mode, key=(0, 0))
                gradient = toy.relative(toy.gradient(model), wanted)
                relative = abs(float(result.loss) / float(value.detach()) - 1)
                errors[f"{name} {mode} {cut}"] = max(gradient, relative)
    print(json.dumps({"rank": engine.rank, "world": engine.world, "engine": engine.name, "errors": errors}), flush=True)


guarded(main)
