#!/usr/bin/env bash
# One would guess: a shoebox built from inverse_sabine(1.0, size) has an RT60 of about 1 s, within the few per cent by
# which Sabine's formula errs where little is absorbed (Eyring's gives .93 s for this room).
# Seen: its impulse response decays for 1.41 s (T30, by the package's own measure_rt60), 1.66 s with measure_rt60's
# default of 60 dB; .3 s asked is .34 s, .6 s is .76 s. The image method keeps paths along the long axes, which meet few
# walls, and no diffuse field, which Sabine takes for granted, comes about; ray tracing after order 3 gives about 1.3 s.
# So a label of RT60 that is taken from what was asked for is too short, and the more so the longer it is: write down the
# one measured.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet pyroomacoustics==0.10.1 numpy==2.4.6 scipy==1.17.1
"$folder/env/bin/python" - <<'PY'
import numpy as np
import pyroomacoustics
from pyroomacoustics.experimental.rt60 import measure_rt60

RATE, SIZE = 16000, [8, 6, 3]
print("pyroomacoustics", pyroomacoustics.__version__)
noise = np.random.default_rng(0).normal(size=RATE)
known = measure_rt60(10 ** (-3 * np.arange(RATE) / RATE / 0.5) * noise, RATE, decay_db=30)
print(f"noise that decays by 60 dB in .5 s, measured: {known:.2f} s")
seen = []
for asked in (0.3, 0.6, 1.0):
    absorption, order = pyroomacoustics.inverse_sabine(asked, SIZE)
    room = pyroomacoustics.ShoeBox(SIZE, fs=RATE, max_order=order, materials=pyroomacoustics.Material(absorption))
    room.add_source([2, 3, 1.5])
    room.add_microphone([5, 4, 1.2])
    room.compute_rir()
    response = room.rir[0][0]
    seen += [measure_rt60(response, RATE, decay_db=30), measure_rt60(response, RATE)]
    print(f"{asked} s asked: T30 {seen[-2]:.2f} s, over 60 dB {seen[-1]:.2f} s (images to order {order})")
assert abs(known - 0.5) < 0.01, "the measure has changed"
assert np.allclose(seen, [0.34, 0.38, 0.76, 0.94, 1.41, 1.66], atol=0.02), "this has changed"
PY
