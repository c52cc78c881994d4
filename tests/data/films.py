"""Small videos to test with: frames of one grey level each, written by PyAV."""

from __future__ import annotations

import io
from fractions import Fraction

import av
import numpy as np


def film(
    levels,
    *,
    form="mp4",
    codec="mpeg4",
    fps=10,
    size=(16, 16),
    times=None,
    sound=None,
    sound_codec="pcm_s16le",
    sound_rate=16_000,
    image=None,
    pixels="yuv420p",
):
    """Return the bytes of a video whose frame i is grey `levels[i]`, shown at `times[i]` (ms) or i / fps.

    `sound` (int16 [C, S]) becomes its sound track; `image(i, level)` may draw the frame [H, W, 3] instead.
    """
    file = io.BytesIO()
    width, height = size
    with av.open(file, "w", format=form) as container:
        stream = container.add_stream(codec, rate=fps)
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        stream.gop_size = 1
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        track = None
        if sound is not None:
            layout = "mono" if len(sound) == 1 else "stereo"
            track = container.add_stream(sound_codec, rate=sound_rate, layout=layout)
        for place, level in enumerate(levels):
            grey = np.full((height, width, 3), level, np.uint8) if image is None else image(place, level)
            frame = av.VideoFrame.from_ndarray(grey, format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = int(times[place]), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if track is not None:
            packed = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(sound.T).reshape(1, -1), format="s16", layout=layout
            )
            packed.sample_rate = sound_rate
            container.mux(track.encode(packed))
            container.mux(track.encode(None))
    return file.getvalue()


def song(samples, rate=16_000, form="mp4", codec="aac", bit_rate=None):
    """Return the bytes of a container with sound alone (int16 [1, S])."""
    file = io.BytesIO()
    with av.open(file, "w", format=form) as container:
        track = container.add_stream(codec, rate=rate, layout="mono")
        if bit_rate is not None:
            track.bit_rate = bit_rate
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        frame.sample_rate = rate
        container.mux(track.encode(frame))
        container.mux(track.encode(None))
    return file.getvalue()
