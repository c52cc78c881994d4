"""What keyed randomness costs: CPU-seconds of a training step, beside a checkout of another commit.

    python benchmarks/keyed.py --beside ../before     # both in turn, five pairs a case
    python benchmarks/keyed.py --case wavlm           # the milliseconds of one, in this checkout

Random weights and inputs; dropout is on everywhere. CPU-seconds and not seconds: a busy machine counts less.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import beside
import torch
from torch import Tensor, nn

from affect.losses.ccc import ccc_term
from affect.losses.masked import cross_entropy, squared_error
from affect.task import Batch, Term
from affect.tasks.emotion.config import Model, Signature
from affect.tasks.emotion.model import EmotionModel
from affect.tasks.multimodal_emotion import models as fusion
from affect.tasks.multimodal_emotion.config import Model as FusionModel
from affect.tasks.multimodal_emotion.config import Signature as Streams
from affect.training import step
from affect.training.distributed import join

PAIRS = 5
SECONDS = (2.1, 2.8, 3.0, 3.4, 3.9, 4.2, 4.6, 5.5, 7.9, 2.3, 2.9, 3.3, 3.6, 4.0, 4.4, 6.3)
"""Durations of a global batch of 16, as IEMOCAP has them."""
PUBLIC = (("audio", "a", 1024), ("text", "t", 5120), ("video", "v", 768))
CLASSES = ("neutral", "angry", "happy", "sad", "worried", "surprise")
CCC = [ccc_term("valence"), ccc_term("arousal")]


def speech(encoder: str) -> tuple[nn.Module, list[Batch], list[Term], int]:
    """Return a speech model, the micro-batches of one global batch, its terms, and how many steps are measured."""
    section = Model(encoder=encoder, train_encoder="all", encoder_dropout=0.1, prosody_dim=0)
    batches = []
    for rows in ((0, 1, 2, 3, 4, 5), (6, 7, 8, 9, 10), (11, 12, 13, 14, 15)):
        samples = torch.tensor([int(16_000 * SECONDS[k]) for k in rows])
        inputs = {"waveform": torch.randn(len(rows), int(samples.max())), "samples": samples}
        batches.append(batch([f"utterance {k}" for k in rows], inputs))
    return EmotionModel(section, Signature()), batches, CCC, 3 if encoder == "small" else 8


def text() -> tuple[nn.Module, list[Batch], list[Term], int]:
    """Return a small BERT over 32 texts."""
    section = Model(encoder="none", text="tiny-text", prosody_dim=0)
    mask = torch.arange(80) < torch.randint(20, 80, (32, 1))
    inputs = {"tokens": torch.randint(2, 250, (32, 80)), "token_mask": mask}
    return EmotionModel(section, Signature()), [batch([f"text {k}" for k in range(32)], inputs)], CCC, 60


def prosody() -> tuple[nn.Module, list[Batch], list[Term], int]:
    """Return the smallest model there is: functionals of 32 utterances through the prosody branch."""
    model = EmotionModel(Model(encoder="none"), Signature())
    return model, [batch([f"row {k}" for k in range(32)], {"prosody": torch.randn(32, 88)})], CCC, 400


def robust() -> tuple[nn.Module, list[Batch], list[Term], int]:
    """Return the attention model of MER2023 at the public sizes, with modality dropout."""
    section = FusionModel(name="attention_robust", modality_dropout=0.3)
    model = fusion.build(section, Streams(streams=PUBLIC, classes=CLASSES))
    inputs = {key: torch.randn(32, width) for key, (_, _, width) in zip(model.data.keys, PUBLIC, strict=True)}
    made = batch([f"clip {k}" for k in range(32)], {"present": torch.ones(32, 3), **inputs})
    made.targets["emotion"] = torch.randint(6, (32,))
    return model, [made], [cross_entropy("emotion"), squared_error("valence")], 60


def batch(ids: list[str], inputs: dict[str, Tensor]) -> Batch:
    """Return a micro-batch with random labels."""
    targets = {name: torch.rand(len(ids)) for name in ("valence", "arousal")}
    return Batch(ids=tuple(ids), inputs=inputs, targets=targets, rows=[{} for _ in ids])


CASES: dict[str, Callable[[], tuple[nn.Module, list[Batch], list[Term], int]]] = {
    "wavlm": lambda: speech("small"), "hubert": lambda: speech("tiny-hubert"),
    "whisper": lambda: speech("tiny-whisper"), "text": text, "prosody": prosody, "robust": robust,
}  # fmt: skip


def seconds(name: str) -> float:
    """Return the CPU-seconds of a step, AdamW's update with it: the median of as many as the case says."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model, batches, terms, count = CASES[name]()
    try:
        from affect import keyed
    except ImportError:
        pass  # the checkout beside, from before there were keys
    else:
        keyed.name_places(model)
    engine, optimizer = join(), torch.optim.AdamW(model.parameters(), fused=True)
    taken = []
    for k in range(count + 2):
        begun = time.process_time()
        optimizer.zero_grad()
        step.accumulate(engine, model.train(), terms, batches, mode="hold", key=(0, k))
        optimizer.step()
        taken.append(time.process_time() - begun)
    return median(taken[2:])


def main() -> None:
    """Print the milliseconds of one case, or a table of all beside another checkout."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--beside", type=Path)
    parser.add_argument("--case", choices=tuple(CASES), action="append")
    options = parser.parse_args()
    if options.beside is not None:
        beside.table(__file__, options.beside, options.case or CASES, PAIRS)
        return
    for name in options.case or CASES:
        print(f"{1e3 * seconds(name):.3f}", flush=True)


if __name__ == "__main__":
    main()
