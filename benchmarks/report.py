"""The report of a talking-face experiment of 25 runs (5 seeds, 5 folds), whose predictions are drawn: its seconds.

    OMP_NUM_THREADS=1 python benchmarks/report.py [--scores 1] [--clips 640] [--rounds 3] [--profile]

Clips are of 16 people, whom the folds hold out, and of 8 generators; beside the network are four trivial models.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import pstats
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from affect.report.page import write
from affect.tasks.talking_face.config import Data, TalkingFace

SEEDS = FOLDS = 5
MODELS = {"network": 0.7, "mean": 0.0, "generator_mean": 0.5, "ridge": 0.7, "forest": 0.6}
"""By how much each model's predictions follow the labels."""


def main() -> None:
    """Draw the runs, write their report a few times and print the median."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scores", type=int, default=1)
    parser.add_argument("--clips", type=int, default=640)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder) / "drawn"
        draw(top, [f"quality_{k}" for k in range(options.scores)], options.clips)
        seconds = []
        for _ in range(options.rounds):
            start = time.process_time()
            write(top)
            seconds.append(time.process_time() - start)
        each = ", ".join(f"{taken:.1f}" for taken in seconds)
        print(f"{SEEDS * FOLDS} runs, {options.clips} clips, {options.scores} scores")
        print(f"{statistics.median(seconds):.1f} CPU-s a report ({each})")
        if options.profile:
            with cProfile.Profile() as profile:
                write(top)
            pstats.Stats(profile).sort_stats("cumulative").print_stats(40)


def draw(top: Path, scores: list[str], clips: int) -> None:
    """Write the folders of runs, all of whose test parts together are all clips."""
    random = np.random.default_rng(0)
    labels = np.clip(3 + random.standard_normal((clips, len(scores))), 1, 5).round(2)
    recipe = TalkingFace(data=Data(scores=tuple(scores), split="identity")).to_dict() | {"experiment": "drawn"}
    scales = {"corpus": "drawn", "scale": [1.0, 5.0], "scales": {name: [1.0, 5.0] for name in scores}}
    for seed in range(SEEDS):
        noise = {model: random.standard_normal(labels.shape) for model in MODELS}
        for fold in range(1, FOLDS + 1):
            path = top / f"seed{seed}" / f"fold{fold}"
            path.mkdir(parents=True)
            for part, held in (("test", fold), ("valid", fold % FOLDS + 1)):
                for model, r in MODELS.items():
                    made = 3 + 0.6 * (r * (labels - 3) + (1 - r * r) ** 0.5 * noise[model])
                    rows = [row(k, scores, made[k], labels[k]) for k in range(clips) if k % 16 % FOLDS == held - 1]
                    if model == "network":
                        lines(path / f"predictions-{part}.jsonl", rows)
                    elif part == "test":
                        lines(path / f"baseline-{model}-test.jsonl", rows)
            end = {"event": "end", "step": 20, "best_step": 20, "best_epoch": 3, "scores": {}}
            lines(path / "metrics.jsonl", [end])
            (path / "recipe.json").write_text(json.dumps(recipe | {"seed": seed}))
            (path / "environment.json").write_text(json.dumps(scales))


def row(k: int, scores: list[str], made: np.ndarray, labels: np.ndarray) -> dict[str, object]:
    """Return a line of predictions of clip `k`."""
    sides = (dict(zip(scores, map(float, values), strict=True)) for values in (made, labels))
    return {"id": f"clip{k}", **dict(zip(("prediction", "target"), sides, strict=True)),
            "identity": f"p{k % 16}", "generator": f"g{k // 16 % 8}"}  # fmt: skip


def lines(path: Path, rows: list[dict[str, object]]) -> None:
    """Write JSON objects, a line each."""
    path.write_text("".join(json.dumps(each) + "\n" for each in rows))


if __name__ == "__main__":
    main()
