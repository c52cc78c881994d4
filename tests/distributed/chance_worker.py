"""One rank: runs of 20 steps with all that is random, each cut in several ways, as the command line asks for."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from accelerate.state import PartialState
from accelerate.utils import DistributedType

from affect import tasks
from affect.models import tiny
from affect.recipe import Optim, Recipe, Train
from affect.tasks.emotion.config import Augment
from affect.tasks.multimodal_emotion.config import Model
from affect.training import optim, run_dir, trainer
from affect.training.distributed import join
from affect.training.run import Run, Start
from tests.distributed.corner_worker import share_out_everything
from tests.distributed.engine_worker import ADAMW, plain_sgd
from tests.tasks.diarization import small as voices
from tests.tasks.emotion.test_variants import VARIANTS
from tests.tasks.multimodal_emotion import small
from tests.tasks.talking_face import small as faces
from tests.tasks.talking_face import test_end_to_end as films
from tests.training import runs

STEPS = 20
RANDOM = {"layerdrop": 0.2, "spec_augment": True}
SPEECH: dict[str, dict[str, Any]] = {
    **{name: {"encoder": name, **RANDOM} for name in tiny.NAMES if name != "small"},
    "checkpointing": {"checkpointing": True, **RANDOM},
    **{name: VARIANTS[name] for name in ("temporal", "mel", "dialogue", "lora", "everything")},
    "tiny-text": {"encoder": "none", "encoder_dropout": None, "text": "tiny-text", "text_dropout": 0.2},
    "ngrams": {"encoder": "none", "encoder_dropout": None, "text": "ngrams"},
}
"""Sections `model` by name: each encoder, text alone, layers over frames and over dialogues, adapters, all of it."""
FUSION: dict[str, dict[str, Any]] = {
    name: {"name": name, "dropout": 0.35, "modality_dropout": 0.3}
    for name in ("attention", "attention_robust", "lf_dnn", "lmf", "tfn", "misa", "mmim", "topn")
}
TEXTS = ("roberta", "deberta", "albert", "distilbert")
"""Further text encoders, each a folder of `roots["texts"]`."""
SCORES = ("missing", "every_term")
"""Models of talking faces: whole features dropped, gathered losses."""
FILMS = "films"
"""Their model of images and sound, both encoders trained."""
DIARIZERS = ("ours", "before")
"""Models of diarization: embeddings that are compared over the whole batch, and a table of speakers."""
NAMES = (*SPEECH, *TEXTS, *FUSION, *SCORES, FILMS, *DIARIZERS)
RATES = {"misa": 1e-4, "temporal": 1e-3, "distilbert": 1e-3}
"""Of SGD, where at 1e-2 rounding grows to over 1e-5 within 20 steps (at 3e-2 a dialogue's does, too)."""
ADAM = Optim(algorithm="adam", lr=5e-4, weight_decay=1e-5, schedule="constant", warmup=0.0, clip=None)
"""As recipes/mer2023.py has it."""
CUTS: dict[str, dict[str, Any]] = {
    "whole": {"budget": 100.0, "mode": "hold"}, "held": {"budget": 1.5, "mode": "hold"},
    "replayed": {"budget": 0.9, "mode": "replay"}, "mixed": {"budget": 0.9, "mode": 0.5},
}  # fmt: skip


def recipe_of(roots: dict[str, Path], name: str, cut: str) -> Recipe:
    """Return the recipe of a name in `NAMES` cut in a way of `CUTS`."""
    train = {**CUTS[cut], "epochs": STEPS, "steps": STEPS, "evaluate_every": STEPS}
    # Budgets are of seconds; others count rows or frames.
    train["budget"] *= 4 if name in FUSION else 30 if name in SCORES else 60 if name == FILMS else 1
    train["budget"] *= 10 if name in DIARIZERS else 1
    if name in FUSION:
        made = replace(small.recipe(roots["features"]), model=Model(**{"hidden": 8, **FUSION[name]}), optim=ADAM)
        train |= {"batch": 16, "workers": 0, "trackers": ()}
        return replace(made, data=replace(made.data, fold=1), train=Train(**train))
    if name in SCORES:
        return faces.recipe(roots["scores"], name, **train)
    if name == FILMS:
        made = films.recipe(roots["films"])
        return replace(made, train=replace(made.train, **train))
    if name in DIARIZERS:
        return voices.recipe(roots["voices"], name, **train)
    section = SPEECH[name] if name in SPEECH else {**SPEECH["tiny-text"], "text": str(roots["texts"] / name)}
    base = runs.recipe(roots["speech"], encoder="tiny", dropout=0.2, **train)
    mixed = Augment(mixup=0.4) if "text" not in section and "cache" not in section else Augment()
    return replace(base, model=replace(base.model, **section), augment=mixed)


def run(roots: dict[str, Path], name: str, cut: str, optimiser: str, folder: Path) -> None:
    """Train what is named; `optimised` says what the optimiser may be."""
    with optimised(recipe_of(roots, name, cut), optimiser, name) as recipe:
        engine = join(folder)
        share_out_everything(engine)
        engine.on_main(lambda: run_dir.claim(folder, recipe, experiment="test", overwrite=False))
        task = tasks.make(recipe).for_fold(recipe.seed, 1)
        trainer.train(Run(engine, task, folder, Start(experiment="test", only=("valid",))))
        engine.end()


@contextmanager
def optimised(recipe: Recipe, optimiser: str, name: str) -> Iterator[Recipe]:
    """Give the recipe with an optimiser: its own, or sgd, whose weights move by what the gradient is."""
    if optimiser == "sgd":
        recipe = replace(recipe, optim=Optim(lr=RATES.get(name, 1e-2), schedule="constant", warmup=0.0, clip=None))
    optim.make = plain_sgd if optimiser == "sgd" else ADAMW
    try:
        yield recipe
    finally:
        optim.make = ADAMW


def main() -> None:
    """Train what the command line names: roots, a list of [name, cut, optimiser] (both as JSON), the top folder."""
    if os.environ.get("ACCELERATE_USE_FSDP") == "true":
        # The one way into FSDP without a GPU: Accelerate would fall back to DDP.
        PartialState(cpu=True).distributed_type = DistributedType.MULTI_GPU
    roots, top = {name: Path(path) for name, path in json.loads(sys.argv[1]).items()}, Path(sys.argv[3])
    for name, cut, optimiser in json.loads(sys.argv[2]):
        run(roots, name, cut, optimiser, top / f"{name}-{cut}-{optimiser}")
    engine = join()
    print(json.dumps({"rank": engine.rank, "world": engine.world, "engine": engine.name}), flush=True)
