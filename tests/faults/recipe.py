"""A run of milliseconds a step, and what can go wrong in it that can't be done from outside.

FAULT is KIND@STEP:RANK or a number of seconds, several divided by commas. Kinds: memory (that runs out in a forward),
memory_alone and memory_reducing (in a backward of that sort), nan, hang. Seconds: slow= a step, predict= a batch of
predictions, timeout= of the watchdog, impatience= after which a second SIGTERM counts.
"""

from __future__ import annotations

import os
import time
from typing import Any

from affect.cli import experiments_of, launch
from affect.recipe import Optim, Train
from affect.tasks.valence_arousal.recipe import Data, Model, ValenceArousal


def small() -> ValenceArousal:
    """Three steps an epoch, with dropout and averaged weights."""
    return ValenceArousal(
        data=Data(corpus="synthetic", root="data", dialogues=1, utterances=8, seconds=(0.3, 0.7), fold=1),
        model=Model(encoder="none", prosody_dim=8, hidden=8, dropout=0.3),
        optim=Optim(lr=1e-3, ema=0.9),
        train=Train(batch=8, epochs=6, workers=0, budget=1.5, mode="replay", trackers=()),
    )


def faulty(words: str) -> None:
    """Put faults around steps and predictions, and nowhere else; leave out the baselines, which take seconds."""
    from affect.tasks.valence_arousal import task
    from affect.train import evaluate, interrupt, loop

    task.references = lambda *_: {}
    faults = [word.partition("=") for word in words.split(",") if word]
    numbers = {name: float(value) for name, _, value in faults if value}
    places = [name.replace("@", ":").split(":") for name, _, value in faults if not value]
    real, take, watch = loop.step.accumulate, evaluate.Loader.take, loop.watchdog.Watchdog

    def accumulate(engine: Any, model: Any, *args: Any, **named: Any) -> Any:
        time.sleep(numbers.get("slow", 0.0))
        step = named["key"][1] + 1
        mine = [place for place in places if int(place[1]) == step and int(place[2]) == engine.rank]
        handles = [model.register_forward_hook(_hook(place[0])) for place in mine]
        try:
            return real(engine, model, *args, **named)
        finally:
            for handle in handles:
                handle.remove()
            # Once: a step that is repeated goes well.
            places[:] = [place for place in places if place not in mine]

    def dawdle(loader: Any, count: int) -> Any:
        time.sleep(numbers["predict"] if loader.data.part is not loader.data.task.datasets()["train"] else 0.0)
        return take(loader, count)

    loop.step.accumulate = accumulate
    if "predict" in numbers:
        evaluate.Loader.take = dawdle
    if "timeout" in numbers:
        loop.watchdog.Watchdog = lambda engine, log, minutes: watch(engine, log, numbers["timeout"] / 60)
    interrupt._IMPATIENCE = numbers.get("impatience", interrupt._IMPATIENCE)


def _hook(kind: str) -> Any:
    import torch

    def short(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    def poisoned(gradient: Any) -> Any:
        return gradient * float("nan")

    def hook(module: Any, inputs: Any, outputs: Any) -> None:
        if kind == "memory":
            short()
        if kind == "hang":
            while True:
                time.sleep(1)
        # Of a step's backwards the last alone reduces; engines that do not say so may reduce in each.
        reducing = getattr(module, "require_backward_grad_sync", True)
        for tensor in outputs.values():
            if tensor.requires_grad and kind != ("memory_alone" if reducing else "memory_reducing"):
                tensor.register_hook(poisoned if kind == "nan" else short)

    return hook


if __name__ == "__main__":
    faulty(os.environ["FAULT"])
    launch(experiments_of(globals(), __name__))
