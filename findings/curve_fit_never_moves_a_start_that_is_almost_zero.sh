#!/usr/bin/env bash
# One would guess: the logistic curve of video quality (ITU, VQEG: PLCC and RMSE are taken after it) may be started at the
# mean of the predictions, as is usual, and a mean of 8e-17 of centred predictions is as good a start as 0.
# Seen: scipy.optimize.curve_fit leaves that parameter where it was, to the last bit, and warns of nothing but a covariance
# that "could not be estimated", which few who fit such a curve ask for: MINPACK's difference step is the value times
# 1.5e-8, which changes no residual, and only a start of exactly 0 has a step of its own. The fit that comes back is worse
# (PLCC .980 in place of .990, RMSE .292 in place of .206); standardised predictions, which are what one would give a
# solver, have such a mean. Start at exactly 0, or give `diff_step` (method trf) or the derivative.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet scipy==1.17.1 numpy==2.4.6
"$folder/env/bin/python" - <<'PY'
import numpy as np
import scipy
from scipy.optimize import curve_fit

predicted = np.linspace(-2, 2, 21)
k = np.arange(21)
rated = np.round(1 + 4 / (1 + np.exp(-(predicted - 0.3) / 0.5)) + 0.3 * np.sin(1.7 * k), 3)


def curve(x, top, bottom, middle, width):
    return (top - bottom) / (1 + np.exp(-(x - middle) / width)) + bottom


print("scipy", scipy.__version__, "numpy", np.__version__)
seen = {}
for name, middle in {"8e-17": 8e-17, "0": 0.0, "1e-3": 1e-3}.items():
    start = (rated.max(), rated.min(), middle, predicted.std() / 4)
    found, _ = curve_fit(curve, predicted, rated, start, maxfev=20000)
    fitted = curve(predicted, *found)
    plcc, rmse = np.corrcoef(fitted, rated)[0, 1], np.sqrt(np.mean((fitted - rated) ** 2))
    seen[name] = found[2], rmse
    print(f"middle started at {name}: ends at {found[2]:.6g}, PLCC {plcc:.4f}, RMSE {rmse:.4f}")
assert seen["8e-17"][0] == 8e-17, "it moves now"
assert seen["8e-17"][1] > 1.3 * seen["0"][1], "the fit is as good now"
assert abs(seen["0"][0] - seen["1e-3"][0]) < 1e-3
PY
