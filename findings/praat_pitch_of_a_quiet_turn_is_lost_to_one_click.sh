#!/usr/bin/env bash
# One would guess: whether a frame is voiced depends on that frame (a tone has a pitch at any level, and scaling a sound
# changes nothing, which is so), so a turn has one pitch track, in its recording or cut out of it.
# Seen: Praat (parselmouth, to_pitch and to_pitch_ac) calls a frame silent whose peak is under .03 of the largest sample
# of the whole sound. A loud speaker, or one click in an hour, takes away all pitch of who speaks 40 dB lower: voiced
# frames fall from 100 % to 0, and a mean F0 over voiced frames is that of the loud speaker. Features taken from a
# recording and from its turns are not the same features. Give silence_threshold=0, or cut first.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet praat-parselmouth==0.4.7 numpy==2.4.6
"$folder/env/bin/python" - <<'PY'
import numpy as np
import parselmouth

RATE = 16000
time = np.arange(RATE) / RATE


def turn(pitch, gain):
    return gain * sum(np.sin(2 * np.pi * k * pitch * time) / k for k in range(1, 10))


def voiced(sound, first, last, **options):
    pitch = parselmouth.Sound(sound, RATE).to_pitch_ac(**options)
    inside = (pitch.xs() > first + 0.05) & (pitch.xs() < last - 0.05)
    return float(np.mean(pitch.selected_array["frequency"][inside] > 0))


quiet, loud = turn(200, 0.002), turn(120, 0.2)
click = np.zeros(RATE)
click[RATE // 2] = 0.5
both = np.concatenate([loud, quiet])
seen = {
    "alone": voiced(quiet, 0, 1),
    "alone, a thousandth as loud": voiced(quiet / 1000, 0, 1),
    "after a loud speaker": voiced(both, 1, 2),
    "after one click in silence": voiced(np.concatenate([click, quiet]), 1, 2),
    "after a loud speaker, silence_threshold=0": voiced(both, 1, 2, silence_threshold=0),
}
print("praat-parselmouth", parselmouth.__version__, "Praat", parselmouth.PRAAT_VERSION)
for name, share in seen.items():
    print(f"voiced frames of the quiet turn, {name}: {100 * share:.0f} %")
assert list(seen.values()) == [1, 1, 0, 0, 1], "this has changed"
PY
