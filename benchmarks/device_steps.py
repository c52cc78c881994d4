"""What benchmarks/device.py measures with: models of random weights, global batches on the device, and whole steps."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np
import torch
from scale import iemocap_like
from torch import Tensor, nn

from affect import keyed
from affect.errors import AffectError
from affect.losses.ccc import ccc_term
from affect.models import pretrained, tiny
from affect.models.encoder import EncoderConfig, SpeechEncoder
from affect.recipe import Optim
from affect.task import Batch, Key
from affect.tasks.emotion.config import Model, Signature
from affect.tasks.emotion.model import EmotionModel
from affect.training import cost_probe, optim, plan, step
from affect.training.distributed import Engine
from affect.training.flops import Counter

RATE, BATCH = 16_000, 64
LARGE: dict[str, Any] = {
    "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096,
    "feat_extract_norm": "layer", "do_stable_layer_norm": True, "num_buckets": 320, "max_bucket_distance": 800,
}  # fmt: skip
"""microsoft/wavlm-large's configuration where it differs from transformers' defaults; dropouts .1 are the defaults."""
TERMS = [ccc_term("valence"), ccc_term("arousal")]
Found = tuple[Tensor, Tensor]
"""Outputs, and gradients, flat."""


@dataclass
class Setting:
    """What all cases share: the engine, the sizes, the time that is left, and what earlier cases found."""

    engine: Engine
    tiny: bool
    ends: float
    peak: float = 0.0
    """TFLOP/s of a large product in bf16."""
    speeds: dict[str, tuple[float, str]] = field(default_factory=dict)
    """Audio seconds a second, and the share of the peak in words, of the whole large model by case."""
    compiling: float = 0.0
    """Seconds that the first steps of a compiled model of few layers took."""

    @property
    def device(self) -> torch.device:
        """The device that is measured."""
        return self.engine.device

    def wait(self) -> None:
        """Wait for what is queued."""
        cost_probe.wait(self.engine)

    def seconds(self, work: Callable[[], Any], times: int = 5) -> float:
        """Return the median seconds of `work`, once warmed up."""
        work()
        taken = []
        for _ in range(1 if self.tiny else times):
            self.wait()
            begun = time.perf_counter()
            work()
            self.wait()
            taken.append(time.perf_counter() - begun)
        return median(taken)

    def forget(self) -> None:
        """Give back what a case left."""
        gc.collect()
        if self.engine.accelerated:
            module = torch.get_device_module(self.device)
            module.empty_cache()
            module.reset_peak_memory_stats(self.device)


def speech(config: Any, *, checkpointing: bool = False, train: Any = "transformer") -> EmotionModel:
    """Return a speech model around a WavLM of random weights, with places for what it draws."""
    torch.manual_seed(0)
    options = EncoderConfig(train=train, gradient_checkpointing=checkpointing)
    encoder = SpeechEncoder(options, pretrained.build_encoder(config), pretrained.Preprocessing(do_normalize=True))
    section = Model(encoder="tiny", train_encoder=train, prosody_dim=0, checkpointing=checkpointing)
    model = EmotionModel(section, Signature(), encoder=encoder)
    keyed.name_places(model)
    return model.train()


def wavlm(setting: Setting, layers: int | None = None, **changes: Any) -> Any:
    """Return WavLM-large's configuration, or a tiny one."""
    from transformers import WavLMConfig

    sizes = {**tiny.TINY, **tiny.LARGE_STYLE} if setting.tiny else LARGE
    depth = {} if layers is None else {"num_hidden_layers": 1 if setting.tiny else layers}
    return WavLMConfig(**{**sizes, **depth, **changes})


def durations(setting: Setting) -> np.ndarray:
    """Return the seconds of two global batches."""
    return iemocap_like(128) if not setting.tiny else np.array([0.2, 0.3, 0.4, 0.5, 0.3, 0.2])


def batches(lengths: np.ndarray, cut: Sequence[Sequence[int]], device: torch.device) -> list[Batch]:
    """Return micro-batches of the utterances of a cut: their noise and labels depend on the utterance alone."""
    made = []
    for rows in cut:
        samples = torch.tensor([int(RATE * lengths[row]) for row in rows])
        waveform = torch.zeros(len(rows), int(samples.max()))
        for k, row in enumerate(rows):
            noise = np.random.default_rng(int(row)).standard_normal(int(samples[k]), dtype=np.float32)
            waveform[k, : len(noise)] = torch.from_numpy(noise)
        rated = torch.from_numpy(
            np.array([np.random.default_rng((1, int(row))).uniform(size=2) for row in rows])
        ).float()
        targets = {"valence": rated[:, 0].clone(), "arousal": rated[:, 1].clone()}
        inputs = {"waveform": waveform, "samples": samples}
        ids = tuple(f"utterance {row}" for row in rows)
        made.append(Batch(ids=ids, inputs=inputs, targets=targets, rows=[{} for _ in rows]).to(device))
    return made


def gradient(engine: Engine, model: nn.Module, cut: Sequence[Batch], mode: Any) -> Found:
    """Return the outputs of a step's utterances in the order of their names, and all gradients, flat and on the CPU."""
    model.zero_grad(set_to_none=True)
    outputs: dict[str, Tensor] = {}

    def see(predictions: dict[str, Tensor], batch: Batch) -> None:
        outputs.update(zip(batch.ids, torch.stack(list(predictions.values()), dim=1).float().cpu(), strict=True))

    step.accumulate(engine, model, TERMS, cut, mode=mode, key=(0, 0), see=see)
    flat = [p.grad.flatten().float().cpu() for p in model.parameters() if p.grad is not None]
    return torch.cat([outputs[name] for name in sorted(outputs)]), torch.cat(flat)


def deviation(outputs: Found, wanted: Found, limit: float) -> str:
    """Return how far outputs and gradients are from others; raises AffectError where one is over the limit."""
    apart = [float((a - b).norm() / b.norm()) for a, b in zip(outputs, wanted, strict=True)]
    words = f"outputs {apart[0]:.1e}, gradient {apart[1]:.1e}"
    if not max(apart) <= limit:
        raise AffectError(f"{words}: over {limit:.0e}")
    return words


def backward(module: nn.Module, x: Tensor, y: Tensor) -> Found:
    """Take the gradient of the mean square of the output `y` of `x`; return both."""
    module.zero_grad(set_to_none=True)
    x.grad = None
    y.float().square().mean().backward()
    return y.detach().float().flatten(), torch.cat([t.grad.flatten() for t in (x, *module.parameters())])


class Part:
    """Rows of a corpus that exists as numbers alone, for the memory probe."""

    def __init__(self, lengths: np.ndarray):
        self.columns = {"id": [str(k) for k in range(len(lengths))], "length": lengths.tolist()}

    def __getitem__(self, key: Any) -> Any:
        """Return a column, one row, or columns of several rows."""
        if isinstance(key, str):
            return self.columns[key]
        if isinstance(key, list):
            return {name: [column[k] for k in key] for name, column in self.columns.items()}
        return {name: column[key] for name, column in self.columns.items()}


class Utterances:
    """The little of a task that the memory probe asks."""

    unit = "s"

    def rows_of_epoch(self, part: Part, epoch: int) -> Part:
        """Return the rows of an epoch: always the same."""
        return part

    def collate(self, rows: list[dict[str, Any]], key: Key | None) -> Batch:
        """Return a micro-batch of noise."""
        lengths = np.array([row["length"] for row in rows])
        return batches(lengths, [list(range(len(rows)))], torch.device("cpu"))[0]


class Steps:
    """Whole training steps over global batches that are on the device."""

    def __init__(
        self, setting: Setting, model: nn.Module, lengths: np.ndarray, cuts: Sequence[Any], mode: Any = "hold"
    ):
        self.engine, self.model, self.mode = setting.engine, model, mode
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.bytes = sum(p.numel() * p.element_size() for p in self.parameters)
        self.optimizer = optim.make([{"params": self.parameters, "lr": 1e-5}], Optim())
        self.cuts = [batches(lengths, cut, setting.device) for cut in cuts]
        self.audio = float(np.mean([sum(lengths[row] for micro in cut for row in micro) for cut in cuts]))

    def take(self) -> None:
        """Take a step of each global batch."""
        for k, cut in enumerate(self.cuts):
            self.model.zero_grad(set_to_none=True)
            step.accumulate(self.engine, self.model, TERMS, cut, mode=self.mode, key=(0, k))
            self.engine.update(
                self.model, self.optimizer, self.parameters, clip=1.0, clip_value=None, check=lambda norm: None
            )


def prepared(setting: Setting, model: nn.Module) -> Steps:
    """Return the steps of two global batches, cut by 100 padded seconds."""
    lengths = durations(setting)
    drawn = plan.draw(len(lengths), BATCH if not setting.tiny else 3, 0, 0)
    cuts = [[m.indices for m in plan.cut(lengths, members, 1, 100.0).ranks[0]] for members in drawn]
    return Steps(setting, model, lengths, cuts)


def counted(steps: Steps) -> int:
    """Return the operations of a step's forward and backward, mean of the global batches; of an uncompiled model."""
    with Counter() as counter:
        for micro in (micro for cut in steps.cuts for micro in cut):
            # One at a time: a replay's first forward is no work of the model's.
            step.accumulate(steps.engine, steps.model, TERMS, [micro], mode="hold", key=(0, 0))
    return counter.total // len(steps.cuts)


def timed(setting: Setting, steps: Steps, operations: int, name: str | None = None) -> str:
    """Return the speed of steps in words; with a `name` it counts for the report's aim."""
    setting.forget()
    taken = setting.seconds(steps.take, 2) / len(steps.cuts)
    speed, achieved = steps.audio / taken, operations / taken * 1e-12
    share = f"{achieved / setting.peak:.0%} of the product's" if setting.peak else "no peak measured"
    if name is not None:
        setting.speeds[name] = speed, share
    return (
        f"{speed:.4g} audio s/s, {achieved:.3g} TFLOP/s, {share}, peak memory "
        f"{setting.engine.memory() / 2**30:.1f} GiB, {len(steps.cuts[0])} micro-batches, {steps.mode}"
    )
