"""What the cache of a frozen encoder's states saves: an epoch of a WavLM-base with and without it.

    python benchmarks/cache.py [--utterances 60] [--threads 1]

The weights are random (nothing is downloaded); the sizes, and so the times, are those of wavlm-base. Prints a Markdown
table: seconds of the epoch that fills the cache, of an epoch without a cache, and of cached epochs (median of 5), for
states whose mean is all that is needed (mean pooling) and for all frames (attention pooling).
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch
from transformers import Wav2Vec2FeatureExtractor, WavLMConfig, WavLMModel

from affect import tasks
from affect.data.corpora import synthetic
from affect.recipe import Optim, Train
from affect.task import Key
from affect.tasks.emotion.config import Data, Emotion, Model
from affect.training import step
from affect.training.distributed import join
from affect.training.loader import Collated, Order
from affect.training.schedule import Schedule


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--utterances", type=int, default=60, help="utterances of the training part, about")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["AFFECT_CACHE"] = folder + "/cache"
        encoder = Path(folder) / "wavlm-base"
        WavLMModel(WavLMConfig()).save_pretrained(encoder)
        Wav2Vec2FeatureExtractor(do_normalize=False).save_pretrained(encoder)
        each = max(1, given.utterances // 12)
        synthetic.read(folder + "/corpus", dialogues=1, utterances=each * 4, seconds=(3.0, 6.0))
        print("| pooling | without cache s | filling s | cached epoch s | without / cached | filling / cached | MB |")
        print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
        for pooling in ("mean", "attention"):
            print(_row(folder, str(encoder), pooling, each * 4), flush=True)


def _recipe(root: str, encoder: str, pooling: str, cache: str, utterances: int) -> Emotion:
    return Emotion(
        data=Data(corpus="synthetic", root=root, dialogues=1, utterances=utterances, seconds=(3.0, 6.0), fold=1),
        model=Model(encoder=encoder, train_encoder="none", pooling=pooling, cache=cache),  # type: ignore[arg-type]
        optim=Optim(lr=1e-4),
        train=Train(batch=1_000_000, epochs=6, budget=60.0, mode="hold", workers=0, trackers=()),
    )


def _row(folder: str, encoder: str, pooling: str, utterances: int) -> str:
    plain, _, _ = _epochs(_recipe(folder + "/corpus", encoder, pooling, "none", utterances), 1)
    cached, filling, size = _epochs(_recipe(folder + "/corpus", encoder, pooling, "float16", utterances), 6)
    # The filling covers all parts; an epoch the training part, so it is scaled to that.
    quick = median(cached[1:])
    return (
        f"| {pooling} | {plain[0]:.2f} | {filling:.2f} | {quick:.4f} | {plain[0] / quick:.0f} | "
        f"{filling / quick:.0f} | {size / 2**20:.1f} |"
    )


def _epochs(recipe: Emotion, count: int) -> tuple[list[float], float, int]:
    """Return the seconds of each epoch, those of filling the cache (scaled to the training part), and its bytes."""
    engine = join()
    task = tasks.make(recipe).for_fold(0, 1)
    torch.manual_seed(0)
    model = task.new_model()
    part = task.datasets()["train"]
    begun = time.perf_counter()
    task.on_train_start(model, 0, 1)
    filled = (time.perf_counter() - begun) * len(part) / len(task.corpus.utterances)
    stores = task.inputs.prepared.stores
    size = stores["states"].size(part["digest"]) if stores else 0
    lengths = torch.tensor(part["length"], dtype=torch.float64).numpy()
    schedule = Schedule(lengths, replace(recipe.train, epochs=count), 0, 1, 60.0)
    data = Collated(task, part)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], fused=True)
    model, optimizer = engine.prepare(model, optimizer, recipe.optim)
    model.train()
    taken = []
    for now in range(count):
        begun = time.perf_counter()
        batches = [data[Order(micro, Key(seed=0, epoch=now))] for micro in schedule.cut(now).ranks[0]]
        step.accumulate(engine, model, task.terms(), batches, mode="hold", key=(0, now))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        taken.append(time.perf_counter() - begun)
    engine.end()
    return taken, filled, size


if __name__ == "__main__":
    main()
