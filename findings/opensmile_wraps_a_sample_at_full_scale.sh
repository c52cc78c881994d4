#!/usr/bin/env bash
# One would guess: opensmile's process_signal takes floats as they are, or cuts them off at full scale, as soundfile
# does when it writes 16 bits; so a recording divided by its peak has the features of one divided by a bit more.
# Seen: samples are multiplied by 32768 and cast to int16, and what reaches 1.0 becomes -1.0 (on x86). Of speech-like
# sound divided by its peak that is one sample, a click in 2 s: two loudness peaks a second become none, and loudness
# spreads half as much again. Ten per cent over full scale, as after a resampler, a gain or a mix: HNR falls from 10.4
# to 3.4 dB and F1 moves from 535 to 1047 Hz, where clipping leaves 10.5 dB and 553 Hz. Nothing is said. Samples read
# from files of 16 bits are safe, since they end below 1. Divide by a little more than the peak, and clip before
# features are taken.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet opensmile==2.6.0 audinterface==1.4.0 audformat==1.4.3 pandas==3.1.1 numpy==2.4.6
"$folder/env/bin/python" - <<'PY'
from importlib.metadata import version

import numpy as np
import opensmile

RATE = 16000
time = np.arange(2 * RATE) / RATE
phase = 2 * np.pi * np.cumsum(150 * (1 + 0.05 * np.sin(2 * np.pi * 1.5 * time))) / RATE
sound = sum(np.cos(k * phase) / k for k in range(1, 50))
sound += 0.02 * np.random.default_rng(0).normal(size=time.size)
sound /= np.abs(sound).max()
extractor = opensmile.Smile(feature_set=opensmile.FeatureSet.eGeMAPSv02)
columns = ["loudnessPeaksPerSec", "loudness_sma3_stddevNorm", "HNRdBACF_sma3nz_amean", "F1frequency_sma3nz_amean"]
heard = {
    "just below full scale": 0.999 * sound,
    "divided by its peak": sound,
    "clipped by 10 %": np.clip(1.1 * sound, -0.999, 0.999),
    "10 % over full scale": 1.1 * sound,
}
print("opensmile", version("opensmile"), *columns)
seen = {}
for name, signal in heard.items():
    seen[name] = extractor.process_signal(signal.astype("float32"), RATE)[columns].to_numpy()[0]
    print(f"{name}:", *(f"{value:.3f}" for value in seen[name]))
expected = [(2.01, 0.012, 10.43, 534.6), (0, 0.019, 10.43, 535.4), (9.55, 0.017, 10.48, 553.4), (9.05, 0.017, 3.37, 1046.7)]
assert np.allclose(list(seen.values()), expected, rtol=0.05), "this has changed"
PY
