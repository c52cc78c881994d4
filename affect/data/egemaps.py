"""The 88 functionals of eGeMAPSv02 (Eyben et al. 2016) by openSMILE, an extra that is licensed for research only."""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affect.data.descriptors import prepare
from affect.data.pitch import RATE
from affect.errors import AffectError

Array = NDArray[np.float32]

_LOG = logging.getLogger("affect")
SHORTEST = RATE // 2
"""Samples below which openSMILE has no frame for some of its functionals; shorter clips are padded with zeros."""
HIGHEST = 32767 / 32768
"""The highest sample of 16 bits."""


def names() -> tuple[str, ...]:
    """Return the 88 names; raises AffectError where openSMILE is not installed."""
    return tuple(_extractor().feature_names)


def functionals(waveform: Array, rate: int = RATE) -> Array:
    """Return eGeMAPSv02's functionals [88] of `waveform` [S], clipped to full scale; 0 where openSMILE has no number.

    Raises AffectError where openSMILE is not installed or the waveform is not one channel of finite numbers.
    """
    waveform = prepare(waveform, rate)
    waveform = np.pad(waveform, (0, max(0, SHORTEST - len(waveform))))
    # openSMILE makes 16 bits of it by a cast: full scale and more would come out with the other sign.
    waveform = np.clip(waveform, -1.0, HIGHEST)
    values = np.asarray(_extractor().process_signal(waveform, RATE).to_numpy()[0], dtype=np.float32)
    if not np.isfinite(values).all():
        _warn_once()
    return np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)


@lru_cache(maxsize=1)
def _extractor() -> Any:
    try:
        import opensmile
    except ImportError as error:
        raise AffectError(
            "eGeMAPS needs openSMILE, whose licence allows research only: pip install 'affect[egemaps]'"
        ) from error
    return opensmile.Smile(
        feature_set=opensmile.FeatureSet.eGeMAPSv02, feature_level=opensmile.FeatureLevel.Functionals
    )


@lru_cache(maxsize=1)
def _warn_once() -> None:
    _LOG.warning("eGeMAPS gives no number for some functionals (silence, or nothing voiced): 0 in their place")
