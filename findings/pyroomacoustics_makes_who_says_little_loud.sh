#!/usr/bin/env bash
# One would guess: Room.simulate(snr=10) adds noise 10 dB below the speech and leaves the speech as it is: two people
# who speak equally loud at the same distance from the microphone stay equally loud in the mixture.
# Seen: each source is divided by its standard deviation over the whole length of the mixture, its silence too (the
# manual tells of the variance, not over what). Of two alike, who speaks for 1 s of 16 comes out 11.7 dB above who
# speaks for 15, and so he does four times as far away. Noise is 10 dB below their sum, so the turns have an SNR of 19.0
# and 7.3 dB where 10 was asked for. A simulated conversation for diarization has its shortest talker as the loudest,
# and the SNR of a turn follows how much its speaker says elsewhere. Simulate without snr, and add noise by a scale of
# one's own.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet pyroomacoustics==0.10.1 numpy==2.4.6 scipy==1.17.1
"$folder/env/bin/python" - <<'PY'
import numpy as np
import pyroomacoustics

RATE = 16000
made = np.random.default_rng(0)
turns = {"says little": (0, 1), "says much": (1, 16)}


def levels(places, snr):
    room = pyroomacoustics.ShoeBox([8, 6, 3], fs=RATE, max_order=0)
    for place, (start, end) in zip(places, turns.values()):
        room.add_source(place, signal=made.normal(size=(end - start) * RATE), delay=start)
    room.add_microphone([4, 3, 1.5])
    speech = room.simulate(snr=snr, return_premix=True)[:, 0]
    heard = [part[start * RATE + 400 : end * RATE] for part, (start, end) in zip(speech, turns.values())]
    noise = room.mic_array.signals[0] - speech.sum(axis=0)
    return [10 * np.log10(np.mean(part**2)) for part in heard], 10 * np.log10(np.mean(noise**2) + 1e-12)


print("pyroomacoustics", pyroomacoustics.__version__)
near, beside, away = [4.5, 3, 1.5], [4, 3.5, 1.5], [6, 3, 1.5]
plain, _ = levels([near, beside], None)
(little, much), noise = levels([near, beside], 10)
plain_far, _ = levels([away, near], None)
(little_far, much_far), _ = levels([away, near], 10)
seen = [plain[0] - plain[1], little - much, little - noise, much - noise]
seen += [plain_far[0] - plain_far[1], little_far - much_far]
print(f"both at .5 m: who says little is {seen[0]:.1f} dB above the other without snr, {seen[1]:.1f} dB with snr=10")
print(f"SNR of their turns: {seen[2]:.1f} and {seen[3]:.1f} dB")
print(f"who says little at 2 m: {seen[4]:.1f} dB without snr, {seen[5]:.1f} dB with it")
assert np.allclose(seen, [0, 11.7, 19.0, 7.3, -12, 11.7], atol=0.15), "this has changed"
PY
