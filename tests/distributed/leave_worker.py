"""One rank: what waits for a process's end, with gloo's threads alive; `wrong` ends it by a mistake of the user's."""

from __future__ import annotations

import atexit
import json
import sys

import torch

from affect.cli import guarded
from affect.errors import AffectError
from affect.recipe import Optim
from affect.training.distributed import join
from tests.training import toy


def main() -> None:
    engine = join()
    said = {"rank": engine.rank, "world": engine.world}
    atexit.register(lambda: print(json.dumps({**said, "left": True})))
    print(json.dumps({**said, "left": False}))
    model = toy.Toy()
    engine.prepare(model, torch.optim.SGD(model.parameters(), lr=0.1), Optim())
    if "wrong" in sys.argv:
        raise AffectError("a mistake")


guarded(main)
# The interpreter is not taken apart: nothing after the end runs.
print(json.dumps({"rank": 0, "world": 0}))
