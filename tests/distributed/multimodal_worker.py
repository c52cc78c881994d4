"""One rank: short runs of the multimodal task, at two budgets, by the workflow that a command line starts."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from affect.cli import guarded
from affect.experiments import folds
from affect.options import Options
from affect.training.distributed import join
from tests.distributed.test_multimodal import RUNS, recipe
from tests.tasks.multimodal_emotion import small


def main() -> None:
    root, top = Path(sys.argv[1]), Path(sys.argv[2])
    for name in RUNS:
        options = Options(runs=top, seeds=(0,), report=False)
        folds.run(name, small.with_(recipe(root, name), train__budget=5.0), options, "a command")
    engine = join()
    print(json.dumps({"rank": engine.rank, "world": engine.world, "engine": engine.name}), flush=True)


guarded(main)
