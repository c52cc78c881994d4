"""Speed of training on a CPU: affect against transformers.Trainer and against a bare PyTorch loop.

`python benchmarks/speed.py [--rounds 3] [--frozen-cnn false]` prints a Markdown table. All systems train the same small
WavLM (hidden 128, 4 layers, layer-norm CNN) with a CCC loss and AdamW, clipped, on the same wav files of
IEMOCAP-like durations, global batch 64; they take turns, so that a machine whose speed drifts is fair to all.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
import transformers
from datasets import Dataset
from torch import nn
from transformers import Trainer, TrainerCallback, TrainingArguments, WavLMModel

from affect import tasks
from affect.data import audio
from affect.losses.ccc import ccc
from affect.models import tiny
from affect.recipe import Optim, Train
from affect.tasks.emotion.config import Data, Emotion, Model
from affect.training import trainer
from affect.training.distributed import join
from affect.training.run import Run, Start

BATCH, STEPS, BUDGET = 64, 2, 60.0


def durations(n: int) -> np.ndarray:
    """Return n durations in seconds like IEMOCAP's: mean 4.5, longest 34."""
    drawn = np.random.default_rng(0).lognormal(np.log(4.5) - 0.5 * 0.65**2, 0.65, n)
    return np.clip(drawn, 0.6, 34.0)


def write_corpus(root: Path, n: int) -> None:
    """Write a csv_folder corpus of noise: n training files, and one file for each other part."""
    rng = np.random.default_rng(1)
    lengths = [*durations(n), 2.0, 2.0, 2.0, 2.0]
    parts = ["train"] * n + ["valid"] * 2 + ["test"] * 2
    with (root / "labels.csv").open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["path", "speaker", "valence", "arousal", "split"])
        for k, (seconds, part) in enumerate(zip(lengths, parts, strict=True)):
            soundfile.write(root / f"{k}.wav", rng.normal(0, 0.1, int(seconds * 16_000)).astype(np.float32), 16_000)
            out.writerow([f"{k}.wav", f"{part}{k}", *rng.uniform(1, 5, 2).round(3), part])


def recipe(root: Path, train_encoder: Any, mode: Any) -> Emotion:
    """Return the recipe of our side: no prosody branch, so that both train the same thing."""
    return Emotion(
        data=Data(corpus="csv_folder", root=str(root), split="column"),
        model=Model(encoder="small", train_encoder=train_encoder, prosody_dim=0, hidden=128),
        optim=Optim(lr=1e-4),
        train=Train(batch=BATCH, epochs=2, budget=BUDGET, mode=mode, workers=0, trackers=()),
    )


class Ours:
    """A run of affect, timed from the end of its first epoch to the end of its last step."""

    def __init__(self, root: Path, train_encoder: str, mode: Any):
        chosen = recipe(root, train_encoder, mode)
        self.folder = Path(tempfile.mkdtemp())
        engine = join(self.folder)
        start = Start(experiment="bench", resume="never")
        self.run = Run(engine, tasks.make(chosen).for_fold(0, 1), self.folder, start)

    def seconds(self, clock: Callable[[], float] = time.perf_counter) -> float:
        """Return the seconds of an epoch of the whole loop: decoding, steps, journal; evaluation left out."""
        marks: list[float] = []
        self.run.end_epoch = lambda: marks.append(clock())  # type: ignore[method-assign]
        self.run.finish = dict  # type: ignore[method-assign]
        trainer.train(self.run)
        return marks[-1] - marks[0]


def bare_seconds(root: Path, train_encoder: str) -> float:
    """Return the seconds of an epoch of a bare PyTorch loop over the same micro-batches, same model, same loader."""
    run = Ours(root, train_encoder, "hold").run
    model, optimizer = run.model, run.optimizer
    loader, mark = trainer.Trainer(run)._loader(), 0.0
    for now in range(run.schedule.steps):
        if now == run.schedule.per_epoch:
            mark = time.perf_counter()
        batches = loader.take(len(run.schedule.cut(now).ranks[0]))
        outputs = [model(**batch.inputs) for batch in batches]
        loss = torch.zeros(())
        for name in ("valence", "arousal"):
            predicted = torch.cat([o[name] for o in outputs])
            loss = loss + 1 - ccc(predicted, torch.cat([b.targets[name] for b in batches]))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(run.parameters, 1.0)
        optimizer.step()
    return time.perf_counter() - mark


class TheirModel(nn.Module):
    """transformers' WavLM with mean pooling and the same heads; returns the CCC loss of its micro-batch."""

    def __init__(self, train_encoder: str):
        super().__init__()
        self.encoder = WavLMModel(tiny.architecture("small")[0])
        if train_encoder == "transformer":
            self.encoder.freeze_feature_encoder()
        self.heads = nn.ModuleList(
            nn.Sequential(
                nn.Linear(128, 128), nn.LayerNorm(128), nn.ReLU(), nn.Dropout(0.3),
                nn.Linear(128, 64), nn.LayerNorm(64), nn.ReLU(), nn.Dropout(0.3), nn.Linear(64, 1), nn.Sigmoid(),
            )
            for _ in range(2)
        )  # fmt: skip

    def forward(self, input_values, attention_mask, labels):  # noqa: D102
        frames = self.encoder(input_values, attention_mask=attention_mask).last_hidden_state
        mask = self.encoder._get_feature_vector_attention_mask(frames.shape[1], attention_mask)[..., None]
        pooled = (frames * mask).sum(1) / mask.sum(1)
        loss = sum(1 - ccc(head(pooled).squeeze(-1), labels[:, k]) for k, head in enumerate(self.heads))
        return {"loss": loss}


def files(root: Path) -> Dataset:
    """Return the training files with the column that Trainer groups by."""
    with (root / "labels.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "train"]
    paths = [str(root / row["path"]) for row in rows]
    labels = [[float(row["valence"]), float(row["arousal"])] for row in rows]
    return Dataset.from_dict(
        {"path": paths, "labels": labels, "length": [soundfile.info(path).frames for path in paths]}
    )


def collate(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """Pad to the longest of the micro-batch."""
    waves = [torch.from_numpy(audio.load(row["path"])) for row in rows]
    waves = [(w - w.mean()) / (w.var(correction=0) + 1e-7).sqrt() for w in waves]
    mask = nn.utils.rnn.pad_sequence([torch.ones(len(w), dtype=torch.long) for w in waves], batch_first=True)
    return {
        "input_values": nn.utils.rnn.pad_sequence(waves, batch_first=True),
        "attention_mask": mask,
        "labels": (torch.tensor([row["labels"] for row in rows]) - 1) / 4,
    }


class Marks(TrainerCallback):
    """Notes when each optimiser step ended."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_step_end(self, args, state, control, **kwargs):  # noqa: D102
        self.times.append(time.perf_counter())


def trainer_seconds(root: Path, train_encoder: str, micro: int, sampling: str) -> float:
    """Return the seconds of an epoch of transformers.Trainer with this micro-batch, accumulated to the global batch."""
    marks = Marks()
    arguments = TrainingArguments(
        output_dir=tempfile.mkdtemp(), per_device_train_batch_size=micro, gradient_accumulation_steps=BATCH // micro,
        num_train_epochs=2, train_sampling_strategy=sampling, length_column_name="length", use_cpu=True, report_to=[],
        logging_strategy="no", save_strategy="no", disable_tqdm=True, remove_unused_columns=False, learning_rate=1e-4,
        dataloader_num_workers=0,
    )  # fmt: skip
    trainer = Trainer(
        model=TheirModel(train_encoder),
        args=arguments,
        train_dataset=files(root),
        data_collator=collate,
        callbacks=[marks],
    )
    trainer.train()
    return marks.times[-1] - marks.times[STEPS - 1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--train-encoder", choices=["transformer", "all"], default="transformer")
    parser.add_argument("--systems", nargs="*", help="only these, by name")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    os.environ["AFFECT_CACHE"] = tempfile.mkdtemp()
    root = Path(tempfile.mkdtemp())
    write_corpus(root, BATCH * STEPS)
    total = float(durations(BATCH * STEPS).sum())
    kind = options.train_encoder
    systems: dict[str, Callable[[], float]] = {
        "affect, hold": lambda: Ours(root, kind, "hold").seconds(),
        "affect, replay": lambda: Ours(root, kind, "replay").seconds(),
        "bare loop, same micro-batches": lambda: bare_seconds(root, kind),
    }
    for micro in (4, 8, 16):
        for sampling in ("random", "group_by_length"):
            name = f"Trainer {micro} x {BATCH // micro}, {sampling}"
            systems[name] = lambda m=micro, s=sampling: trainer_seconds(root, kind, m, s)
    systems = {name: work for name, work in systems.items() if not options.systems or name in options.systems}
    times: dict[str, list[float]] = {name: [] for name in systems}
    next(iter(systems.values()))()  # not counted: the first to run meets cold caches and unmapped memory
    for round_ in range(options.rounds):
        for name, work in systems.items():
            times[name].append(work())
            print(f"round {round_ + 1}: {name}: {total / times[name][-1]:.1f} audio s/s", flush=True)
    print(f"\ntorch {torch.__version__}, transformers {transformers.__version__}, {torch.get_num_threads()} threads, "
          f"{kind} trained, {total:.0f} s of audio an epoch, {options.rounds} rounds\n")  # fmt: skip
    print("| system | audio s/s (median) | min | max | affect hold is faster by (median of rounds) |")
    print("|---|---|---|---|---|")
    for name, seconds in times.items():
        speeds = [total / s for s in seconds]
        ratio = statistics.median(s / o for s, o in zip(seconds, times.get("affect, hold", seconds), strict=True))
        print(f"| {name} | {statistics.median(speeds):.1f} | {min(speeds):.1f} | {max(speeds):.1f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
