"""One rank on an engine: short runs of both tasks, as a JSON list on the command line names them, or only the engine.

A run: its `kind` and `folder`; `from` is a checkpoint of another run to go on from. The word `engine` in place of a
list makes an engine and ends.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate.state import PartialState
from accelerate.utils import DistributedType

from affect.cli import guarded
from affect.experiments import folds
from affect.options import Options
from affect.recipe import Recipe
from affect.training import trainer
from affect.training.distributed import Engine, join
from tests.distributed.engine_worker import begun
from tests.tasks.emotion.test_variants import variant
from tests.tasks.multimodal_emotion import small
from tests.training import runs

FOLDS = (1, 2)
STEPS = 4
FUSED = {
    "attention": {"name": "attention_robust", "dropout": 0.35, "modality_dropout": 0.3},
    "balanced": {"dropout": 0.2, "modality_dropout": 0.5, "dropout_kind": "balanced"},
}
"""Models of the multimodal task; the second calls parts of its encoders by themselves."""


def recipe_of(roots: dict[str, Path], asked: dict[str, Any]) -> Recipe:
    """Return the recipe of a run, whose dropout is on."""
    kind, name = asked["kind"], asked.get("name", "")
    if kind == "multimodal":
        base = small.with_(small.recipe(roots["features"], epochs=1, **FUSED[name]), data__fold=1, train__budget=5.0)
        return base
    if kind == "variant":
        made = variant(roots["speech"], name, epochs=2, steps=2, budget=2.0, mode="replay")
        return replace(made, optim=replace(made.optim, clip_value=asked.get("clip_value")))
    train = {"epochs": 2, "steps": asked.get("steps", STEPS), "budget": 0.9, "keep": 9}
    made = runs.recipe(roots["speech"], encoder="tiny", dropout=0.2, **train)
    # A rate so small that bf16's rounding is seen, and not what AdamW makes of the sign of a gradient near 0.
    made = runs.with_optim(replace(made, train=replace(made.train, mode=asked.get("mode", "replay"))), lr=1e-5)
    if kind == "folds":
        return replace(made, data=replace(made.data, fold=None))
    return made


def run(roots: dict[str, Path], asked: dict[str, Any]) -> dict[str, Any]:
    """Run what is asked for; return what its weights and the outputs of a linear layer are made of."""
    recipe, folder = recipe_of(roots, asked), Path(asked["folder"])
    if asked["kind"] in ("folds", "multimodal"):
        chosen = FOLDS if asked["kind"] == "folds" else None
        folds.run("test", recipe, Options(runs=folder, folds=chosen, seeds=(0,), report=False), "a command")
        return {}
    engine, made = begun(recipe, asked)
    computed: set[str] = set()
    for module in engine.unwrap(made.model).modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_hook(lambda _, __, found: computed.add(str(found.dtype)))
            break
    trainer.train(made)
    kept = sorted({str(p.dtype) for p in made.parameters})
    engine.end()
    return {"precision": engine.precision, "computed": sorted(computed), "kept": kept}


def share_out_everything(engine: Engine) -> None:
    """Let stage 3 share out small parameters, too: it would leave every one of these models whole."""
    plugin = engine.accelerator.state.deepspeed_plugin
    if plugin is not None and plugin.zero_stage == 3:
        plugin.deepspeed_config["zero_optimization"]["stage3_param_persistence_threshold"] = 0


def main() -> None:
    if sys.argv[1] == "engine":
        join()
        print("an engine was made", flush=True)
        return
    if os.environ.get("ACCELERATE_USE_FSDP") == "true":
        # The one way into FSDP without a GPU: Accelerate would fall back to DDP.
        PartialState(cpu=True).distributed_type = DistributedType.MULTI_GPU
    engine = join()
    share_out_everything(engine)
    roots = {"speech": Path(sys.argv[1]), "features": Path(sys.argv[2])}
    found = {Path(asked["folder"]).name: run(roots, asked) for asked in json.loads(sys.argv[3])}
    print(json.dumps({"rank": engine.rank, "world": engine.world, "engine": engine.name, "runs": found}), flush=True)


if __name__ == "__main__":
    guarded(main)
