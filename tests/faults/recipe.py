"""A run of milliseconds a step, and what can go wrong in it that can't be done from outside.

FAULT is KIND@STEP:RANK or a number of seconds, several divided by commas. Kinds: memory (that runs out in a forward),
memory_alone and memory_reducing (in a backward of that sort), nan, hang (at step 0: before the first). Seconds: slow= a
step, read= the corpus, predict= a batch of predictions, timeout= of the watchdog, impatience= after which a second
SIGTERM counts.
"""

from __future__ import annotations

import os
import threading
import time
from typing import Any

from affect.cli import experiments_of, launch
from affect.recipe import Optim, Train
from affect.tasks.emotion.config import Data, Emotion, Model


def small() -> Emotion:
    """Three steps an epoch, with dropout and averaged weights."""
    return Emotion(
        data=Data(corpus="synthetic", root="data", dialogues=1, utterances=8, seconds=(0.3, 0.7), fold=1),
        model=Model(encoder="none", prosody_dim=8, hidden=8, dropout=0.3),
        optim=Optim(lr=1e-3, ema=0.9),
        train=Train(batch=8, epochs=6, workers=0, budget=1.5, mode="replay", costs=(0.002, 0.01, 0.02), trackers=()),
    )


def faulty(words: str) -> None:
    """Put faults around steps and predictions, and nowhere else; leave out the baselines, which take seconds."""
    from affect import tasks
    from affect.tasks.emotion.task import EmotionTask
    from affect.training import memory, prediction, signals, trainer, watchdog

    EmotionTask.baselines = lambda self: {}
    faults = [word.partition("=") for word in words.split(",") if word]
    numbers = {name: float(value) for name, _, value in faults if value}
    places = [name.replace("@", ":").split(":") for name, _, value in faults if not value]
    real, take, measure, make = trainer.step.accumulate, prediction.Loader.take, memory.choose, tasks.make

    def hurry() -> None:
        if "timeout" in numbers and watchdog._current is not None:
            watchdog._current.seconds = numbers["timeout"]

    def choose(engine: Any, *args: Any) -> Any:
        if ["hang", "0", str(engine.rank)] in places:
            hurry()
            while True:
                time.sleep(1)
        return measure(engine, *args)

    def accumulate(engine: Any, model: Any, *args: Any, **named: Any) -> Any:
        hurry()
        time.sleep(numbers.get("slow", 0.0))
        step = named["key"][1] + 1
        mine = [place for place in places if int(place[1]) == step and int(place[2]) == engine.rank]
        told, reducing = engine.reducing, threading.Event()

        def tell(model: Any) -> Any:
            reducing.set()
            return told(model)

        engine.reducing = tell
        handles = [model.register_forward_hook(_hook(place[0], reducing)) for place in mine]
        try:
            return real(engine, model, *args, **named)
        finally:
            engine.reducing = told
            for handle in handles:
                handle.remove()
            # Once: a step that is repeated goes well.
            places[:] = [place for place in places if place not in mine]

    def read(recipe: Any) -> Any:
        print("reading", flush=True)
        time.sleep(numbers["read"])
        return make(recipe)

    def dawdle(loader: Any, count: int) -> Any:
        time.sleep(numbers["predict"] if loader.data.part is not loader.data.task.datasets()["train"] else 0.0)
        return take(loader, count)

    trainer.step.accumulate, memory.choose = accumulate, choose
    if "read" in numbers:
        tasks.make = read
    if "predict" in numbers:
        prediction.Loader.take = dawdle
    signals._IMPATIENCE = numbers.get("impatience", signals._IMPATIENCE)


def _hook(kind: str, reducing: threading.Event) -> Any:
    import torch

    def short(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    def backward(gradient: Any) -> Any:
        if kind == "nan":
            return gradient * float("nan")
        if reducing.is_set() == (kind == "memory_reducing"):
            short()
        return gradient

    def hook(module: Any, inputs: Any, outputs: Any) -> None:
        if kind == "memory":
            short()
        if kind == "hang":
            while True:
                time.sleep(1)
        for tensor in outputs.values():
            if tensor.requires_grad:
                tensor.register_hook(backward)

    return hook


if __name__ == "__main__":
    faulty(os.environ["FAULT"])
    launch(experiments_of(globals(), __name__))
