"""Where recordings are silent or constant, however they come in blocks."""

import numpy as np
import pytest

from affect.data.stillness import Stillness

RATE = 16_000


def spans(wave, sizes, rate=RATE):
    heard = Stillness(rate)
    for block in np.split(np.asarray(wave, np.float32), np.cumsum(sizes)):
        heard.hear(block)
    assert heard.samples == len(wave)
    return heard.spans()


NOISE = np.random.default_rng(0).normal(0, 0.1, RATE)
DITHER = np.random.default_rng(0).choice([-1, 0, 1], RATE) / 2**15


@pytest.mark.parametrize("sizes", [(), (1, 7000), (4096, 4096, 100)])
@pytest.mark.parametrize(
    ("wave", "wanted"),
    [
        (NOISE, []), (np.zeros(RATE), [(0, 1)]), (np.full(RATE, 0.5), [(0, 1)]), (DITHER, [(0, 1)]),
        (np.concatenate([NOISE, np.zeros(RATE), NOISE]), [(1, 2)]),
        (np.concatenate([np.zeros(RATE), np.full(RATE, 0.5)]), [(0, 1), (1, 2)]),
        (np.concatenate([NOISE, np.zeros(800), NOISE]), []),
    ],
)  # fmt: skip
def test_still_stretches(wave, wanted, sizes):
    np.testing.assert_allclose(np.reshape(spans(wave, sizes), (-1, 2)), np.reshape(wanted, (-1, 2)), atol=0.011)


def test_a_slow_drift_is_no_stillness():
    assert spans(np.linspace(-0.9, 0.9, RATE), ()) == ()


def test_a_short_recording_counts_as_a_whole():
    ((start, end),) = spans(np.zeros(300), ())
    assert (start, end) == (0.0, 300 / RATE)
    assert spans(np.zeros(0), ()) == ()
