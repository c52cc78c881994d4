"""The features of a stream's newest window, where each frame is computed once what it depends on has been heard.

Legend: S samples at 16 kHz, T frames of a window, D channels, M mel bins.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from affect.tasks.diarization.config import Model
from affect.tasks.diarization.models import Diarizer
from affect.tasks.diarization.models.extractor import MelExtractor

Samples = NDArray[np.float32]

_STEP, _HALF_WINDOW = 160, 200
"""Samples of a log-mel step, and on each side of its middle those that it is made of."""
_RESNET_FRAME = 1280
"""Samples between two frames of the ResNet: a piece has to begin at one of them."""


def reach(config: Model) -> int | None:
    """Return how many frames on each side a frame of features depends on; None where on all of the window.

    That is so of speech encoders, which attend, and where channels are normalised over the block.
    """
    if config.extractor not in ("convolution", "resnet") or config.norm == "block":
        return None
    if config.extractor == "convolution":
        steps = config.frame // _STEP - 1
    else:
        # Two convolutions of 3 a block, of which a stage's first one has the steps of the stage before, and a segment.
        steps = 1 + 2 * config.blocks[0] + 8
        steps += sum(2 ** (k - 1) + 2**k + 2 * (count - 1) * 2**k for k, count in enumerate(config.blocks) if k)
    return -(-(steps * _STEP + _HALF_WINDOW) // config.frame)


class StreamFeatures:
    """Takes samples and gives the features of the window that ends at a frame; holds no more than a window.

    The mean of levels is that of all heard so far, or a given one, `mean` [M].
    """

    def __init__(self, model: Diarizer, size: int, mean: Tensor | None = None):
        self.model, self.size, self.mean = model, size, mean
        self.reach = reach(model.config)
        self.align = max(1, _RESNET_FRAME // model.config.frame) if model.config.extractor == "resnet" else 1
        self.sound: Samples = np.zeros(0, np.float32)
        self.first = 0
        """The frame of the stream at which `sound` begins."""
        self.kept = torch.zeros(0, model.config.width, device=next(model.parameters()).device)
        """Features of frames before `done`, which nothing changes any more."""
        self.done = 0
        self.levels = torch.zeros((), device=self.kept.device)
        """The sum over steps of levels [M] of the frames before `counted`; [] before the first."""
        self.steps = self.counted = 0

    def push(self, samples: Samples) -> None:
        """Take in samples [S]."""
        self.sound = np.concatenate([self.sound, samples.astype(np.float32, copy=False)])

    @property
    def heard(self) -> int:
        """Samples taken in so far."""
        return self.first * self.model.config.frame + len(self.sound)

    def window(self, end: int, *, last: bool = False) -> Tensor:
        """Return the features [T, D] of as many frames before frame `end` as a window has; ends must not go back."""
        begin = max(0, end - self.size) if self.reach is None else self.done - self.reach
        begin = max(self.first, begin - begin % self.align)
        frame = self.model.config.frame
        piece = torch.from_numpy(self.sound[(begin - self.first) * frame : (end - self.first) * frame])
        piece = piece[None].to(self.kept.device)
        samples = torch.tensor([piece.shape[1]], device=piece.device)
        mean = self._mean(piece, samples, begin, end)
        made: Tensor = self.model.extractor(piece, samples, mean)[0][0]
        made = made[max(0, self.done - begin) :]
        window = torch.cat([self.kept, made])[-self.size :]
        if self.reach is None:
            # The next window begins a hop after this one, but a hop may be of any length.
            return self._leave(begin, window)
        sure = end if last else max(self.done, end - self.reach)
        self.kept = window[: len(window) - (end - sure)]
        self.done = sure
        return self._leave(sure - self.reach, window)

    def _leave(self, begin: int, window: Tensor) -> Tensor:
        """Forget the sound before frame `begin`, which no frame depends on any more."""
        begin = max(self.first, begin - begin % self.align)
        self.sound, self.first = self.sound[(begin - self.first) * self.model.config.frame :], begin
        return window

    def _mean(self, piece: Tensor, samples: Tensor, begin: int, end: int) -> Tensor | None:
        """Return the mean of levels [1, M] with the frames that are new in a piece, where the extractor takes one."""
        extractor = self.model.extractor
        if not isinstance(extractor, MelExtractor):
            return None
        if self.mean is not None:
            return self.mean[None]
        # A frame before the new ones, so that their first step is not at an edge.
        skipped = max(0, self.counted - 1 - begin)
        levels, steps = extractor.mel.levels(
            piece[:, skipped * self.model.config.frame :], samples - skipped * self.model.config.frame
        )
        before = (self.counted - begin - skipped) * (self.model.config.frame // _STEP)
        self.levels = self.levels + levels[0, before:].sum(0)
        self.steps += int(steps[0]) - before
        self.counted = end
        return (self.levels / self.steps)[None]

    def mean_level(self) -> Tensor | None:
        """Return the mean of the levels heard so far [M], None where the extractor takes none."""
        if self.mean is not None or not self.steps:
            return self.mean
        return self.levels / self.steps
