"""What frozen parts of a model make of the recordings: computed once, kept on disk, read in every epoch after.

Legend: L layers, T frames, D channels, E channels of a speaker embedding.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from datasets import Dataset
from numpy.typing import NDArray
from torch import Tensor, nn

from affect.cache import cache_folder, lock
from affect.data import audio
from affect.data.features import FeatureStore
from affect.models.encoder import by_length
from affect.models.extractors.loading import fingerprint
from affect.progress import progress
from affect.tasks.emotion.config import Emotion
from affect.tasks.emotion.model import SpeechBranch

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
    def fill(
        cls, recipe: Emotion, speech: SpeechBranch, device: torch.device, rows: Dataset, rank: int, world: int
    ) -> Prepared:
        """Compute what is missing of this rank's share of `rows` and return the stores, which then hold all of it.

        Shares are fixed by a row's place: what another process has just written changes no share.
        """
        stores: dict[str, FeatureStore] = {}
        training = speech.training
        speech.eval()
        for name, key, compute in _wanted(recipe, speech):
            stores[name] = store = FeatureStore(cache_folder() / "features" / name, key)
            share = rows.select(range(rank, len(rows), world))
            # Runs side by side want the same states: one computes, the others wait. Ranks share the work.
            with lock(store.folder, name) if world == 1 else nullcontext(), torch.no_grad():
                _fill(store, share, compute, device, name, show=rank == 0)
            if rank == 0:
                megabytes = store.size(rows["digest"]) / 2**20
                _LOG.info("%s of %d recordings in %s: %.1f MB", name, len(rows), store.folder, megabytes)
        speech.train(training)
        return cls(stores)

    def inputs(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """Return `states` [U, L, T, D] padded in time with `frames` [U], and `speaker` [U, E], of those prepared."""
        inputs: dict[str, Tensor] = {}
        if "states" in self.stores:
            read = self.stores["states"].read
            # Padded in their first dimension: [T, L, D] each.
            each = [torch.from_numpy(read(row["digest"])).float().transpose(0, 1) for row in rows]
            inputs["frames"] = torch.tensor([len(states) for states in each])
            inputs["states"] = nn.utils.rnn.pad_sequence(each, batch_first=True).transpose(1, 2)
        if "speaker" in self.stores:
            read = self.stores["speaker"].read
            inputs["speaker"] = torch.stack([torch.from_numpy(read(row["digest"])) for row in rows])
        return inputs


def _wanted(recipe: Emotion, speech: SpeechBranch) -> Iterator[tuple[str, dict[str, Any], Compute]]:
    """Yield name, key and computation of each store that the recipe needs."""
    cache = recipe.model.cache
    if cache != "none":
        encoder = speech.encoder
        # Nothing but the mean over frames is needed then.
        pooled = speech.temporal is None and speech.attention is None and speech.pooling.is_mean
        key = {
            "version": _VERSION, "encoder": encoder.config.name, "revision": encoder.config.revision,
            "weights": fingerprint(encoder.backbone), "architecture": encoder.architecture,
            "layers": recipe.model.layers, "normalised": encoder.preprocessing.do_normalize,
            "rate": encoder.sampling_rate, "dtype": cache, "pooled": "mean" if pooled else "none",
        }  # fmt: skip

        def states(waveform: Tensor, samples: Tensor) -> list[Array]:
            layers, mask = encoder.states(waveform, samples)
            stack = torch.stack(list(layers), 1).float().cpu()
            counts = mask.sum(1).tolist()
            kept = [row[:, :count] for row, count in zip(stack, counts, strict=True)]
            return [(row.mean(1, keepdim=True) if pooled else row).numpy().astype(cache) for row in kept]

        yield "states", key, states
    xvector = speech.xvector
    if xvector is not None:
        key = {
            "version": _VERSION, "model": recipe.model.speaker, "weights": fingerprint(xvector),
            "architecture": xvector.architecture, "normalised": xvector.preprocessing.do_normalize, "dtype": "float32",
        }  # fmt: skip

        def speaker(waveform: Tensor, samples: Tensor) -> list[Array]:
            return list(xvector(waveform, samples).float().cpu().numpy())

        yield "speaker", key, speaker


def _fill(store: FeatureStore, rows: Dataset, compute: Compute, device: torch.device, name: str, *, show: bool) -> None:
    """Compute what the store lacks, each recording once, longest first, `_MOST` seconds at a time."""
    absent = set(store.missing(rows["digest"]))
    places = {digest: k for k, digest in enumerate(rows["digest"]) if digest in absent}
    chosen = rows.select(places.values())
    with progress(len(places), name, show=show) as done:
        for group in by_length(torch.tensor(chosen["length"], dtype=torch.float64), _MOST) if places else ():
            batch = [chosen[k] for k in group.tolist()]
            waves = [torch.from_numpy(audio.of_row(row)) for row in batch]
            samples = torch.tensor([len(wave) for wave in waves])
            padded = nn.utils.rnn.pad_sequence(waves, batch_first=True)
            for row, values in zip(batch, compute(padded.to(device), samples.to(device)), strict=True):
                store.write(row["digest"], values)
            done(len(batch))
