"""Seconds of audio that steps of the diarization models take in a second, where time goes, and affect's step beside it.

`python benchmarks/diarization_step.py [--rounds 5] [--batch 32] [--small 1]` prints Markdown tables. Examples are a
block of 8 s of noise and another of its conversation; a step is forward, loss, backward, clipping and AdamW in bf16, on
one thread. The default model in a bare loop and the same with attention fused in training take turns; then a bare loop
in one piece and in four (each piece backpropagates by itself a quarter of its own loss), and affect's exact step of the
same pieces. --small adds so many rounds, the first one counted, of ours and before at S2SND-Small's widths, and of ours
there in four pieces, bare and affect's: some minutes a round. Seconds are the process's own, so that what else the
machine does counts little.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional as F

from affect import keyed
from affect.models import multi_head
from affect.recipe import Optim
from affect.task import Batch
from affect.tasks.diarization.config import SAMPLING_RATE, SMALL, Loss, Model, signature
from affect.tasks.diarization.examples import Block, Example, collated
from affect.tasks.diarization.losses import param_groups, terms_of
from affect.tasks.diarization.models import Diarizer, build
from affect.training import optim
from affect.training.distributed import join
from affect.training.step import accumulate
from affect.training.terms import whole

SECONDS, VOICES = 8, 100
WRITTEN_OUT = multi_head.written_out
FUSED = {"ours": False, "ours, attention fused": True}


def examples(model: Model, count: int) -> list[Example]:
    random = np.random.default_rng(0)

    def block() -> Block:
        samples = SECONDS * SAMPLING_RATE
        spoken = random.random((3, samples // model.frame)) > 0.5
        return Block(0.05 * random.standard_normal(samples).astype(np.float32), spoken.astype(np.float32))

    return [Example(str(k), block(), block(), random.permutation(VOICES)[:3]) for k in range(count)]


def step_of(model: Model, loss: Loss, count: int, *, fused: bool) -> tuple[Diarizer, Callable[[], dict[str, float]]]:
    """Return a model and what takes a step of it and tells the seconds of its parts."""
    torch.manual_seed(0)
    randoms = [np.random.default_rng(k) for k in range(count)]
    inputs, targets = collated(examples(model, count), model, loss, randoms, table=VOICES)
    built = build(model, signature(model, loss, frames=inputs["spoken"].shape[2], speakers=VOICES))
    keyed.name_places(built)
    terms, optimizer = terms_of(model, loss), optim.make(param_groups(built, Optim(), loss), Optim())
    ids = [str(k) for k in range(count)]

    def step() -> dict[str, float]:
        multi_head.written_out = F.scaled_dot_product_attention if fused else WRITTEN_OUT
        times = [time.process_time()]
        with torch.autocast("cpu", torch.bfloat16), torch.no_grad(), keyed.examples(0, 0, ids):
            built.features(inputs["waveform"], inputs["samples"])
        times.append(time.process_time())
        with torch.autocast("cpu", torch.bfloat16), keyed.examples(0, 0, ids):
            outputs = built(**inputs)
        total = whole(terms, {name: value.float() for name, value in outputs.items()}, targets).total
        times.append(time.process_time())
        total.backward()
        times.append(time.process_time())
        torch.nn.utils.clip_grad_norm_(built.parameters(), 1.0)
        optim.take_step(optimizer)
        optimizer.zero_grad()
        times.append(time.process_time())
        names = ("front end of a block", "forward", "backward", "update")
        return dict(zip(names, np.diff(times).tolist(), strict=True))

    return built, step


def of_ours(model: Model, loss: Loss, count: int, pieces: int) -> tuple[Diarizer, list[Batch]]:
    """Return a model, and `count` examples for it, cut into so many micro-batches."""
    torch.manual_seed(0)
    made = build(model, signature(model, loss, frames=0, speakers=VOICES))
    keyed.name_places(made)
    drawn, size, batches = examples(model, count), count // pieces, list[Batch]()
    for first in range(0, count, size):
        some = drawn[first : first + size]
        randoms = [np.random.default_rng(int(one.id)) for one in some]
        inputs, targets = collated(some, model, loss, randoms, table=VOICES)
        batches.append(
            Batch(ids=tuple(one.id for one in some), inputs=inputs, targets=targets, rows=[{} for _ in some])
        )
    return made, batches


def bare_step(model: Model, loss: Loss, count: int, pieces: int) -> Callable[[], float]:
    """Return what takes a step as any loop with gradient accumulation does, and tells its seconds.

    Each piece has a loss of its own, so that this optimises no global batch: it is what such a cut costs at least.
    """
    built, batches = of_ours(model, loss, count, pieces)
    terms, optimizer = terms_of(model, loss), optim.make(param_groups(built, Optim(), loss), Optim())

    def step() -> float:
        multi_head.written_out = WRITTEN_OUT
        begun = time.process_time()
        optimizer.zero_grad(set_to_none=True)
        for batch in batches:
            with torch.autocast("cpu", torch.bfloat16), keyed.examples(0, 0, batch.ids):
                outputs = built.train()(**batch.inputs)
            outputs = {name: value.float() for name, value in outputs.items()}
            (whole(terms, outputs, batch.targets).total / len(batches)).backward()
        torch.nn.utils.clip_grad_norm_(built.parameters(), 1.0)
        optim.take_step(optimizer)
        return time.process_time() - begun

    return step


def affect_step(model: Model, loss: Loss, count: int, pieces: int) -> Callable[[], float]:
    """Return what takes affect's step of the same examples, cut into so many pieces, and tells its seconds."""
    made, batches = of_ours(model, loss, count, pieces)
    engine, terms = join(precision="bf16"), terms_of(model, loss)
    built, optimizer = engine.prepare(made, optim.make(param_groups(made, Optim(), loss), Optim()), Optim())
    trained = list(built.parameters())

    def step() -> float:
        multi_head.written_out = WRITTEN_OUT
        begun = time.process_time()
        optimizer.zero_grad(set_to_none=True)
        accumulate(engine, built.train(), terms, batches, mode="hold", key=(0, 0))
        engine.update(built, optimizer, trained, clip=1.0, clip_value=None, check=lambda norm: None)
        return time.process_time() - begun

    return step


def compare(systems: dict[str, tuple[str, Callable[[], float]]], rounds: int) -> None:
    """Print what each costs beside the one it names: medians of rounds in which they take turns, and of ratios."""
    print("| step | CPU-seconds | of its bare loop's | least and most |")
    print("|---|---|---|---|")
    taken = [{name: step() for name, (_, step) in systems.items()} for _ in range(rounds)]
    for name, (bare, _) in systems.items():
        ratios = sorted(each[name] / each[bare] for each in taken)
        seconds = statistics.median(each[name] for each in taken)
        print(f"| {name} | {seconds:.2f} | {statistics.median(ratios):.3f} | {ratios[0]:.3f} to {ratios[-1]:.3f} |")


def in_pieces(
    model: Model, loss: Loss, count: int, pieces: int, words: str
) -> dict[str, tuple[str, Callable[[], float]]]:
    """Return the bare step and affect's, with the name of the bare one beside each."""
    bare = f"a bare loop, {words}"
    ours = (bare, affect_step(model, loss, count, pieces))
    return {bare: (bare, bare_step(model, loss, count, pieces)), f"affect's, {words}": ours}


def where_time_goes(
    systems: dict[str, tuple[Diarizer, Callable[[], dict[str, float]]]], rounds: int, batch: int
) -> None:
    """Print the parts of each step: medians of the rounds in which they take turns."""
    taken = [{name: step() for name, (_, step) in systems.items()} for _ in range(rounds)]
    print("| model | parameters | blocks' s a second | front end of a block | forward | backward | update |")
    print("|---|---|---|---|---|---|---|")
    for name, (model, _) in systems.items():
        parts = [each[name] for each in taken]
        front, *rest = [statistics.median(each[part] for each in parts) for part in parts[0]]
        blocks = 2 if model.config.name == "ours" else 1
        rate = blocks * SECONDS * batch / sum(rest)
        count = sum(entry.numel() for entry in model.parameters()) / 1e6
        cells = (name, f"{count:.1f} M", f"{rate:.0f}", f"{front:.3f}", *(f"{value:.3f}" for value in rest))
        print(f"| {' | '.join(cells)} |")
    print()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--small", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    plain = Model()
    systems = {name: step_of(plain, Loss(), given.batch, fused=fused) for name, fused in FUSED.items()}
    pieces = in_pieces(plain, Loss(), given.batch, 1, "in one piece")
    pieces |= in_pieces(plain, Loss(), given.batch, 4, "in four pieces")
    # The first ones make moments and warm caches.
    for step in (*(step for _, step in systems.values()), *(step for _, step in pieces.values())):
        step()
    where_time_goes(systems, given.rounds, given.batch)
    compare(pieces, given.rounds)
    if given.small:
        small = Model(**SMALL, extractor="resnet")
        before = Model(**SMALL, name="before", extractor="resnet", norm="block", frame=640, slots=30)
        learned = Loss(arcface=True, contrastive=0.0, learned=True)
        systems = {
            "ours, small": step_of(small, Loss(), given.batch, fused=False),
            "before, small": step_of(before, learned, given.batch, fused=False),
        }
        print()
        where_time_goes(systems, given.small, given.batch)
        compare(in_pieces(small, Loss(), given.batch, 4, "small, in four pieces"), given.small)


if __name__ == "__main__":
    main()
