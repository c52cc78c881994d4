#!/usr/bin/env bash
# One would guess: the concordance correlation coefficient is Lin's (1989), with means over n, as audmetric, the
# challenges' own scripts and papers on emotion have it; two libraries tell the same CCC of the same labels.
# Seen: torchmetrics takes the covariance and both variances over n - 1 and leaves the squared difference of the means
# as it is, which so counts (n - 1) / n of what it should. Where means differ its CCC is larger: on the four rows below
# .710 in place of .662, on a hundred hardly. CCC by dialogue, speaker or batch, and a loss of it over small batches,
# forgive a model that is shifted; scores by torchmetrics and by audmetric can't stand in one table.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet torchmetrics==1.9.0 torch==2.13.0 audmetric==1.4.2 numpy==2.4.6
"$folder/env/bin/python" - <<'PY'
from importlib.metadata import version

import audmetric
import numpy as np
import torch
from torchmetrics.functional.regression import concordance_corrcoef


def lin(truth, told, over):
    """Return Lin's coefficient with moments over `over`."""
    shift = truth.mean() - told.mean()
    moments = [((a - a.mean()) * (b - b.mean())).sum() / over for a, b in ((truth, told), (truth, truth), (told, told))]
    return 2 * moments[0] / (moments[1] + moments[2] + shift**2)


random = np.random.default_rng(0)
print("torchmetrics", version("torchmetrics"), "audmetric", version("audmetric"))
few = np.array([1.0, 2, 3, 4]), np.array([2.6, 2.6, 3.4, 5.0])
truth = random.standard_normal(100)
many = truth, 0.5 * truth + 0.5 * random.standard_normal(100) + 0.5
seen = []
for truth, told in (few, many):
    n = len(truth)
    torchs = float(concordance_corrcoef(torch.tensor(told), torch.tensor(truth)))
    audmetrics = audmetric.concordance_cc(truth, told)
    print(f"{n} rows: torchmetrics {torchs:.3f}, audmetric {audmetrics:.3f}, Lin's over n {lin(truth, told, n):.3f}")
    assert abs(torchs - lin(truth, told, n - 1)) < 1e-5, "torchmetrics has changed"
    assert abs(audmetrics - lin(truth, told, n)) < 1e-5, "audmetric has changed"
    seen.append((round(torchs, 3), round(audmetrics, 3)))
assert seen[0] == (0.710, 0.662), "this has changed"
PY
