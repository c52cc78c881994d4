"""What a GPU does with affect, in at most 8 minutes and without a network: a table on stdout and in a file.

    python benchmarks/device.py [--minutes 8] [--parts exactness memory ...] [--output device.md]
    python benchmarks/device.py --device cpu --tiny     # the same parts at sizes that say nothing about speed

It needs torch (2.11 or newer), transformers and accelerate. Weights and waveforms are random, WavLM-large has its real
sizes, its CNN frozen as in report 002's recipe; a step is forward, backward, clipping and fused AdamW on a global batch
of 64 utterances of IEMOCAP-like durations that are on the device already, loss CCC, bf16 by autocast. Operations are
counted once, outside timing, without what gradient checkpointing computes again. Products and
convolutions in float32 are without TF32. A case that fails is a line, the others follow, and the exit code is 1; one
that is out of time is a line, too. Deviations are norms of differences over norms, of all outputs and all gradients.
"""

from __future__ import annotations

import argparse
import copy
import gc
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from device_steps import (
    BATCH,
    LARGE,
    TERMS,
    Found,
    Part,
    Setting,
    Steps,
    Utterances,
    backward,
    batches,
    counted,
    deviation,
    durations,
    gradient,
    prepared,
    speech,
    timed,
    wavlm,
)
from torch import Tensor

from affect import keyed
from affect.errors import AffectError, first_line
from affect.models import layer_stack, pretrained, tiny
from affect.models.mamba import Mamba, kernels_for
from affect.recipe import Train
from affect.tasks.emotion.config import Data, Emotion
from affect.training import hardware, memory, plan
from affect.training.distributed import is_out_of_memory, join

FEW = 6
"""Layers of the large model that are compiled first: a quarter of the time that all take."""
UTTERANCES, MEAN, FOLDS, EPOCHS = 5531, 4.5, 5, 50
"""Report 002: IEMOCAP's utterances and their mean seconds, and what is trained of them."""
EPOCH = 3 / 5 + 1 / 5 / 3
"""Of all utterances: three sessions train, one validates, which takes a third of the time."""
AIM = 0.45
"""Share of the measured peak that a step is to reach."""


class OutOfTime(BaseException):
    """The time is up; no Exception, or a compiler would take it for one of its own."""


Case = tuple[str, Callable[[], str]]
"""What is measured, and what measures it and says what was found."""


# The cases of each part


def product(setting: Setting) -> Iterator[Case]:
    """Measure the peak: a large product in bf16, and in float32 without TF32."""
    size = 128 if setting.tiny else 8192

    def measure(dtype: torch.dtype) -> str:
        left, right = (torch.randn(size, size, device=setting.device, dtype=dtype) for _ in range(2))
        speed = 2 * size**3 / setting.seconds(lambda: left @ right, 20) * 1e-12
        if dtype == torch.bfloat16:
            setting.peak = speed
        return f"{speed:.3g} TFLOP/s"

    yield f"{size} x {size}, bf16", lambda: measure(torch.bfloat16)
    yield f"{size} x {size}, float32", lambda: measure(torch.float32)


def exactness(setting: Setting) -> Iterator[Case]:
    """Compare cuts and modes with the batch in one piece, and with the CPU, dropout on."""
    rows = 4 if setting.tiny else 12
    lengths = np.linspace(0.3, 0.6, rows) if setting.tiny else np.linspace(0.8, 4.0, rows)
    order = list(range(rows))
    cuts: dict[str, tuple[list[list[int]], Any]] = {
        "two held": ([order[: rows // 2], order[rows // 2 :]], "hold"),
        "two replayed": ([order[: rows // 2], order[rows // 2 :]], "replay"),
        "uneven, one held": ([order[:1], order[1:3], order[3:]], 1),
        "each alone, reversed, replayed": ([[row] for row in order[::-1]], "replay"),
    }
    config, _ = tiny.architecture("tiny" if setting.tiny else "small")
    model = speech(pretrained.with_dropout(config, 0.1), train="all").to(setting.device)
    whole: dict[str, Found] = {}

    def measure(precision: str, cut: list[list[int]], mode: Any) -> str:
        setting.engine.precision = precision
        if precision not in whole:
            whole[precision] = gradient(setting.engine, model, batches(lengths, [order], setting.device), "hold")
        result = gradient(setting.engine, model, batches(lengths, cut, setting.device), mode)
        # A sum in another order is rounded anew in bf16: 8 bits.
        return deviation(result, whole[precision], 1e-4 if precision == "no" else 5e-2)

    def beside_cpu() -> str:
        other, engine = copy.deepcopy(model).cpu(), copy.copy(setting.engine)
        engine.device, engine.accelerated, engine.precision = torch.device("cpu"), False, "no"
        wanted = gradient(engine, other, batches(lengths, [order], engine.device), "hold")
        return deviation(whole["no"], wanted, 1e-3)

    for precision, name in (("no", "float32"), ("bf16", "bf16")):
        for words, (cut, mode) in cuts.items():
            yield f"{name}, {words}, against one piece", lambda p=precision, c=cut, m=mode: measure(p, c, m)
    yield "float32, one piece, against the CPU", beside_cpu


def probe(setting: Setting) -> Iterator[Case]:
    """Compare the memory that the probe foresees with what a step takes."""

    def measure() -> str:
        engine, lengths = setting.engine, durations(setting)
        engine.precision = "bf16"
        recipe = Emotion(data=Data(root="."), train=Train(batch=min(BATCH, len(lengths)), costs="linear"))
        model = speech(wavlm(setting)).to(setting.device)
        task: Any = Utterances()
        part: Any = Part(lengths)
        longest = int(lengths.argmax())
        each = memory._bytes_per_unit(engine, task, model, part, lengths, longest)
        state, words = memory.choose(engine, task, model, TERMS, part, recipe)
        members = plan.draw(len(lengths), recipe.train.batch, 0, 0)[0]
        cut = plan.cut(lengths, members, 1, state.budget)
        held = len(cut.ranks[0]) if state.mode == "hold" else plan.holdable(lengths, cut, state.capacity)
        seconds = plan.cost(lengths, cut.ranks[0][: max(1, held)])
        steps = Steps(setting, model, lengths, [[m.indices for m in cut.ranks[0]]], held)
        # The first step makes the optimiser's moments.
        steps.take()
        model.zero_grad(set_to_none=True)
        setting.forget()
        before = engine.memory()
        steps.take()
        used, foreseen = engine.memory() - before, each * seconds + steps.bytes
        return (
            f"{each / 2**20:.1f} MiB a padded second foreseen, {foreseen / 2**30:.2f} GiB for {seconds:.0f} s "
            f"of graphs and the gradients; {used / 2**30:.2f} GiB used ({words.partition(': ')[2]})"
        )

    yield "WavLM-large, the probe's own budget and mode, bf16", measure


def large(setting: Setting) -> Iterator[Case]:
    """Measure steps of WavLM-large: gradient checkpointing, attention dropout, and replay where holding is too much."""

    def measure(name: str, checkpointing: bool, changes: dict[str, Any]) -> str:
        setting.engine.precision = "bf16"
        steps = prepared(setting, speech(wavlm(setting, **changes), checkpointing=checkpointing).to(setting.device))
        operations = counted(steps)
        try:
            return timed(setting, steps, operations, name)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        steps.mode = "replay"
        return timed(setting, steps, operations, name)

    for checkpointing in (False, True):
        for words, changes in (("", {}), (", attention dropout 0", {"attention_dropout": 0.0})):
            name = f"checkpointing {'on' if checkpointing else 'off'}{words}"
            yield name, lambda n=name, c=checkpointing, x=changes: measure(n, c, x)


def compiled(setting: Setting) -> Iterator[Case]:
    """Measure steps of a compiled WavLM-large, of few layers first: what they take says whether all fit in the time."""
    from torch._dynamo.utils import counters

    if hasattr(torch._dynamo.config, "skip_fwd_side_effects_in_bwd_under_checkpoint"):
        # Else what is recomputed stays uncompiled: a forward counts the draws of a module, a recomputation need not.
        torch._dynamo.config.skip_fwd_side_effects_in_bwd_under_checkpoint = True

    def build(layers: int | None, checkpointing: bool) -> Steps:
        setting.engine.precision = "bf16"
        return prepared(setting, speech(wavlm(setting, layers), checkpointing=checkpointing).to(setting.device))

    def plain() -> str:
        steps = build(FEW, False)
        return timed(setting, steps, counted(steps))

    def measure(name: str, layers: int | None, checkpointing: bool) -> str:
        if layers is None:
            # What does not grow with the layers (the CNN, starting compilers) is about a quarter of it.
            expected = setting.compiling * (0.25 + 0.75 * LARGE["num_hidden_layers"] / FEW)
            if time.perf_counter() + expected > setting.ends:
                raise OutOfTime(f"compiling would take about {expected:.0f} s")
        # What holds on to the case before.
        torch._dynamo.reset()
        setting.forget()
        steps = build(layers, checkpointing)
        operations = counted(steps)
        wanted = gradient(setting.engine, steps.model, steps.cuts[0], steps.mode)
        counters.clear()
        # Dynamic: nearly every micro-batch has a length of its own.
        steps.model.compile(backend="eager" if setting.tiny else "inductor", dynamic=True)
        begun = time.perf_counter()
        result = gradient(setting.engine, steps.model, steps.cuts[0], steps.mode)
        steps.take()
        setting.wait()
        first = time.perf_counter() - begun
        setting.compiling = max(setting.compiling, first)
        # A compiled step rounds elsewhere in bf16; other masks would be as far off as another batch.
        exact = deviation(result, wanted, 0.3)
        graphs, breaks = counters["stats"]["unique_graphs"], sum(counters["graph_break"].values())
        words = timed(setting, steps, operations, None if layers else name)
        return f"{words}; first steps {first:.0f} s, {graphs} graphs, {breaks} breaks; to not compiled: {exact}"

    yield f"{FEW} of the layers, not compiled", plain
    for checkpointing in (False, True):
        for layers in (FEW, None):
            depth = f"{FEW} of the layers" if layers else "all layers"
            name = f"{depth}, compiled, checkpointing {'on' if checkpointing else 'off'}"
            yield name, lambda n=name, d=layers, c=checkpointing: measure(n, d, c)


def attention(setting: Setting) -> Iterator[Case]:
    """Compare WavLM's attention written out with the fused one, which takes its position bias as a mask."""
    rows, width = (2, 32) if setting.tiny else (16, 1024)
    encoder: Any = speech(wavlm(setting, 1), train="all").encoder
    layer = encoder.backbone.layers[0].attention.to(setting.device)

    def composed(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Any:
        return layer.composed(query, key, value, bias, layer.dropout)

    def fused(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=bias.to(query.dtype))

    def run(x: Tensor, mask: Tensor, attend: Any, dropout: float) -> Found:
        layer.attend, layer.dropout = attend, dropout
        with keyed.examples(0, 0, [str(k) for k in range(rows)], setting.device), setting.engine.autocast():
            y = layer(x, mask)[0]
        return backward(layer, x, y)

    def measure(length: int, precision: str) -> str:
        setting.engine.precision = precision
        x = torch.randn(rows, length, width, device=setting.device, requires_grad=True)
        frames = length - 3 * torch.arange(rows, device=setting.device).clamp(max=length // 4)
        mask = layer_stack.additive_mask(layer_stack.mask_frames(frames, length), torch.float32)
        written, taken = run(x, mask, composed, 0.0), []
        exact = deviation(run(x, mask, fused, 0.0), written, 1e-3 if precision == "no" else 5e-2)
        ways = {"keyed dropout .1, written out": (composed, 0.1), "dropout 0, written out": (composed, 0.0)}
        for words, (attend, dropout) in {**ways, "dropout 0, fused": (fused, 0.0)}.items():
            seconds = setting.seconds(lambda a=attend, d=dropout: run(x, mask, a, d))
            taken.append(f"{words} {1e3 * seconds:.2f} ms")
        return f"{'; '.join(taken)}; fused to written out: {exact}"

    for length in (20, 33) if setting.tiny else (225, 500, 1700):
        for precision, name in (("no", "float32"), ("bf16", "bf16")):
            yield f"{rows} x {length} frames, {name}", lambda t=length, p=precision: measure(t, p)


def mamba(setting: Setting) -> Iterator[Case]:
    """Compare the Mamba block with one whose scan is a plain loop over frames."""
    shape = (2, 20, 16) if setting.tiny else (16, 225, 256)

    def plain(u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, gate: Tensor, _: Any) -> Tensor:
        with torch.autocast(setting.device.type, enabled=False):
            u, delta, b, c, gate = (t.float() for t in (u, delta, b, c, gate))
            delta, state, frames = F.softplus(delta + block.dt_proj.bias), 0.0, []
            for t in range(len(u)):
                state = (delta[t][..., None] * a).exp() * state + (delta[t] * u[t])[..., None] * b[t][:, None]
                frames.append((state * c[t][:, None]).sum(-1))
            return (torch.stack(frames) + block.D * u) * F.silu(gate)

    torch.manual_seed(0)
    block: Any = Mamba(shape[-1]).to(setting.device)
    own = block._scan
    x = torch.randn(shape, device=setting.device, requires_grad=True)

    def run(scan: Any) -> Found:
        block._scan = scan
        return backward(block, x, block(x))

    def measure() -> str:
        exact = deviation(run(own), run(plain), 1e-3)
        fast, slow = (1e3 * setting.seconds(lambda s=scan: run(s), 3) for scan in (own, plain))
        kind = "PyTorch" if kernels_for(x).scan is None else "mamba_ssm"
        return f"scan in {kind} {fast:.1f} ms, plain loop {slow:.1f} ms, forward and backward; {exact}"

    yield f"block, {' x '.join(map(str, shape))}, float32", measure


def aim(setting: Setting) -> Iterator[Case]:
    """Say how far the report's aim is, by the fastest case of the whole large model."""

    def measure() -> str:
        if not setting.speeds:
            raise AffectError("no step of the large model was measured")
        name, (speed, share) = max(setting.speeds.items(), key=lambda item: item[1])
        hours = FOLDS * EPOCHS * UTTERANCES * MEAN * EPOCH / speed / 3600
        return (
            f"{share} (aim {AIM:.0%}); {hours:.2f} h for {FOLDS} folds x {EPOCHS} epochs "
            f"of report 002 one after another (aim 1 h), at {speed:.4g} audio s/s: {name}"
        )

    yield "fastest", measure


PARTS: dict[str, Callable[[Setting], Iterator[Case]]] = {
    "product": product, "exactness": exactness, "attention": attention, "mamba": mamba, "memory": probe,
    "large": large, "compiled": compiled, "aim": aim,
}  # fmt: skip


# Running them


def out_of_time(*_: object) -> None:
    """End the case that runs."""
    raise OutOfTime("stopped: the time is up")


def attempt(setting: Setting, measure: Callable[[], str]) -> tuple[bool, str]:
    """Return whether a case went well, and what it says; one that is out of time did, too."""
    left = setting.ends - time.perf_counter()
    if left <= 1:
        return True, "skipped: the time is up"
    before = signal.signal(signal.SIGALRM, out_of_time)
    signal.setitimer(signal.ITIMER_REAL, left)
    try:
        return True, measure()
    except OutOfTime as error:
        return True, f"skipped: {error}"
    # Whatever it is, the other cases are to be measured.
    except Exception as error:
        return False, f"**failed**: {type(error).__name__}: {first_line(error)}".replace("|", "/")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def run(setting: Setting, parts: Sequence[str]) -> tuple[list[tuple[str, str, str]], bool]:
    """Return the rows of the table, and whether all went well; says each on standard error."""
    rows, well, begun = [], True, time.perf_counter()
    for part in parts:
        # Cases that are not named yet have nothing to measure with: what makes them is a case, too.
        cases: dict[str, Callable[[], str]] = {}
        went, text = attempt(setting, lambda p=part, c=cases: str(c.update(PARTS[p](setting))))
        for words, measure in cases.items() if went and cases else [("all", None)]:
            if measure is not None:
                went, text = attempt(setting, measure)
            rows.append((part, words, text))
            well = well and went
            print(f"{time.perf_counter() - begun:4.0f} s  {part}: {words}: {text}", file=sys.stderr, flush=True)
            setting.forget()
    return rows, well


def table(setting: Setting, rows: Sequence[tuple[str, str, str]], seconds: float) -> str:
    """Return the Markdown table, with what ran it above."""
    import accelerate
    import transformers

    name = hardware.processor()
    if setting.engine.accelerated:
        name = torch.get_device_module(setting.device).get_device_name(setting.device)
    sizes = ", tiny sizes that say nothing about speed" if setting.tiny else ""
    lines = [
        f"{name}, torch {torch.__version__}, transformers {transformers.__version__}, "
        f"accelerate {accelerate.__version__}, {seconds:.0f} s{sizes}",
        "", "| part | case | found |", "|---|---|---|", *(f"| {' | '.join(row)} |" for row in rows),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="sizes for a CPU, which say nothing about speed")
    parser.add_argument("--minutes", type=float, default=8.0, help="cases that would end later are left out")
    parser.add_argument("--parts", nargs="+", choices=tuple(PARTS), default=list(PARTS))
    parser.add_argument("--output", type=Path, help="a file for the table")
    options = parser.parse_args(arguments)
    begun = time.perf_counter()
    if options.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    if options.device == "cpu" and not options.tiny:
        parser.error("a CPU is too slow for the real sizes: give --device cpu --tiny")
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("no CUDA device is here: --device cpu --tiny runs the parts at tiny sizes")
    # float32 of 10 bits would hide what is not exact.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    setting = Setting(join(), options.tiny, begun + 60 * options.minutes)
    # Garbage is collected after each case, among which no import is.
    gc.freeze()
    rows, well = run(setting, options.parts)
    made = table(setting, rows, time.perf_counter() - begun)
    print(made)
    if options.output is not None:
        options.output.write_text(made, encoding="utf-8")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
