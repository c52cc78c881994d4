"""What frozen parts of a model make of the recordings: computed once, kept on disk, read in every epoch after.

Legend: L layers, T frames, D channels, E channels of a speaker embedding.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from datasets import Dataset
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from affect.data import audio
from affect.data.cache import cache_folder, lock
from affect.data.features import FeatureStore
from affect.models.encoder import by_length
from affect.tasks.emotion.config import Emotion
from affect.tasks.emotion.model import EmotionModel
from affect.tasks.emotion.speech import SpeechBranch

_LOG = logging.getLogger("affect")
_VERSION = 1
"""To be raised whenever the states of the same weights change."""
_MOST = 60.0
"""Seconds of padded audio that go through the encoder at once."""

Array = NDArray[Any]
Compute = Callable[[Tensor, Tensor], list[Array]]


class Prepared:
    """The stores that a recipe's batches are read from: `states` [L, T, D] and `speaker` [E] of each recording."""

    def __init__(self, stores: Mapping[str, FeatureStore]):
        self.stores = dict(stores)

    @classmethod
    def fill(cls, recipe: Emotion, model: EmotionModel, rows: Dataset, rank: int, world: int) -> Prepared:
        """Compute what is missing of this rank's share of `rows` and return the stores, which then hold all of it.

        Shares are fixed by a row's place: what another process has just written changes no share.
        """
        stores: dict[str, FeatureStore] = {}
        speech = model.speech
        if speech is None:
            return cls(stores)
        for name, key, compute in _wanted(recipe, speech):
            stores[name] = store = FeatureStore(cache_folder() / "features" / name, key)
            mine = rows.select(range(rank, len(rows), world))
            # Runs side by side want the same states: one computes, the others wait. Ranks share the work.
            with lock(store.folder, name) if world == 1 else nullcontext():
                absent = set(store.missing(mine["digest"]))
                with _evaluating(speech):
                    _fill(store, mine, absent, compute, next(model.parameters()).device, name, show=rank == 0)
            if rank == 0:
                megabytes = store.size(rows["digest"]) / 2**20
                _LOG.info("%s of %d recordings in %s: %.1f MB", name, len(rows), store.folder, megabytes)
        return cls(stores)

    def inputs(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """Return `states` [U, L, T, D] padded in time with `frames` [U], and `speaker` [U, E], of those prepared."""
        found: dict[str, Tensor] = {}
        if "states" in self.stores:
            store = self.stores["states"]
            each = [torch.from_numpy(store.read(row["digest"])) for row in rows]
            found["frames"] = torch.tensor([states.shape[1] for states in each])
            layers, _, channels = each[0].shape
            found["states"] = torch.zeros(len(each), layers, int(found["frames"].max()), channels)
            for k, states in enumerate(each):
                found["states"][k, :, : states.shape[1]] = states
        if "speaker" in self.stores:
            read = self.stores["speaker"].read
            found["speaker"] = torch.stack([torch.from_numpy(read(row["digest"])) for row in rows])
        return found


def _wanted(recipe: Emotion, speech: SpeechBranch) -> Iterator[tuple[str, dict[str, Any], Compute]]:
    """Yield name, key and computation of each store that the recipe needs."""
    cache = recipe.model.cache
    if cache != "none":
        encoder = speech.encoder
        pooled = speech.pooled
        key = {
            "version": _VERSION, "encoder": encoder.config.name, "revision": encoder.config.revision,
            "weights": weights_hash(encoder.backbone), "architecture": encoder.architecture,
            "layers": recipe.model.layers, "normalised": encoder.preprocessing.do_normalize,
            "rate": encoder.sampling_rate, "dtype": cache, "pooled": "mean" if pooled else "none",
        }  # fmt: skip

        def states(waveform: Tensor, samples: Tensor) -> list[Array]:
            found, mask = encoder.states(waveform, samples)
            stack = torch.stack(list(found), 1).float().cpu()
            counts = mask.sum(1).tolist()
            kept = [row[:, :count] for row, count in zip(stack, counts, strict=True)]
            return [(row.mean(1, keepdim=True) if pooled else row).numpy().astype(cache) for row in kept]

        yield "states", key, states
    xvector = speech.xvector
    if xvector is not None:
        key = {
            "version": _VERSION, "model": recipe.model.speaker, "weights": weights_hash(xvector),
            "architecture": xvector.architecture, "normalised": xvector.preprocessing.do_normalize, "dtype": "float32",
        }  # fmt: skip

        def speaker(waveform: Tensor, samples: Tensor) -> list[Array]:
            return list(xvector(waveform, samples).float().cpu().numpy())

        yield "speaker", key, speaker


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    training = module.training
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        module.train(training)


def _fill(
    store: FeatureStore,
    rows: Dataset,
    absent: set[str],
    compute: Compute,
    device: torch.device,
    name: str,
    *,
    show: bool,
) -> None:
    with tqdm(total=len(absent), desc=name, delay=2, leave=False, disable=None if show else True) as bar:
        for batch in _batches(rows, absent):
            waves = [torch.from_numpy(audio.of_row(row)) for row in batch]
            samples = torch.tensor([len(wave) for wave in waves])
            padded = nn.utils.rnn.pad_sequence(waves, batch_first=True)
            for row, values in zip(batch, compute(padded.to(device), samples.to(device)), strict=True):
                store.write(row["digest"], values)
            bar.update(len(batch))


def _batches(rows: Dataset, absent: set[str]) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows whose recordings are absent, each recording once, longest first, `_MOST` seconds at a time."""
    place = {digest: k for k, digest in enumerate(rows["digest"]) if digest in absent}
    chosen = rows.select(place.values())
    for group in by_length(torch.tensor(chosen["length"], dtype=torch.float64), _MOST) if place else ():
        yield [chosen[k] for k in group.tolist()]


def weights_hash(module: nn.Module) -> str:
    """Return a hash of a module's weights, by which its outputs are known."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
