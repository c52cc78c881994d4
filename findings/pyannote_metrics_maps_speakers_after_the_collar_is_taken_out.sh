#!/usr/bin/env bash
# One would guess: which speaker of the hypothesis is which of the reference does not depend on the collar, so that a DER
# with a collar is that of the same answer, looked at in fewer places (md-eval and dscore map on all time of the UEM).
# Seen: pyannote.metrics takes collars, and overlap where it is skipped, out of both sides first and maps what is left.
# Of ten turns of .4 s a collar of .25 s leaves nothing; the speaker whose ten turns were right is mapped by one other
# turn alone, and a DER that md-eval and dscore put at 100 % is 0 %. The same with overlap skipped: 42.9 % is 0 %.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet pyannote.metrics==4.2.0 pyannote.core==6.1.0
"$folder/env/bin/python" - <<'PY'
import warnings
from importlib.metadata import version

from pyannote.core import Annotation, Segment
from pyannote.metrics.diarization import DiarizationErrorRate

warnings.simplefilter("ignore")


def annotation(*turns):
    made = Annotation()
    for number, (start, end, name) in enumerate(turns):
        made[Segment(start, end), number] = name
    return made


short = [(k, k + 0.4) for k in range(10)]
many = annotation(*[(*turn, "A") for turn in short], (20, 23.5, "A"))
said = annotation(*[(*turn, "X") for turn in short], (20, 23.5, "Y"))
both = annotation((0, 6, "A"), (0, 6, "B"), (10, 14, "A"), (20, 23, "C"))
told = annotation((0, 6, "X"), (10, 14, "Y"), (20, 23, "X"))
print("pyannote.metrics", version("pyannote.metrics"), "pyannote.core", version("pyannote.core"))
seen = [
    DiarizationErrorRate()(many, said),
    DiarizationErrorRate(collar=0.5)(many, said),
    DiarizationErrorRate(skip_overlap=True)(both, told),
]
print("all time, a collar of .25 s each side, overlap skipped:", *(f"{100 * rate:.1f} %" for rate in seen))
assert [round(rate, 3) for rate in seen] == [0.467, 0.0, 0.0], "this has changed"
PY
