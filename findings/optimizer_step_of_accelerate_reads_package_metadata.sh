#!/usr/bin/env bash
# One would guess: the optimizer that Accelerate returns hands step() on to torch's, for a microsecond or two.
# Seen: each step asks twice whether the package lomo_optim is installed, and the answer is looked up on the disk every
# time (importlib finds no spec, along the whole of sys.path). For a model of a few thousand weights the look-up takes longer than
# the update itself; a small fusion model trains measurably slower, and slower still where site-packages lies on a network disk.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet accelerate==1.15.0 torch==2.13.0 numpy==2.4.6
cd "$folder"
OMP_NUM_THREADS=1 "$folder/env/bin/python" - <<'PY'
import importlib.util
import time
from statistics import median

import accelerate
import torch

accelerator = accelerate.Accelerator(cpu=True)
model = torch.nn.Linear(64, 64)
plain = torch.optim.SGD(model.parameters(), lr=1e-3)
prepared = accelerator.prepare(plain)
model(torch.ones(1, 64)).sum().backward()

asked = []
find = importlib.util.find_spec


def counted(name, *rest):
    asked.append(name)
    return find(name, *rest)


importlib.util.find_spec = counted
for _ in range(10):
    prepared.step()
importlib.util.find_spec = find


def seconds(optimizer):
    times = []
    for _ in range(500):
        begun = time.perf_counter()
        optimizer.step()
        times.append(time.perf_counter() - begun)
    return median(times)


own, wrapped = seconds(plain), seconds(prepared)
print(f"accelerate {accelerate.__version__}, torch {torch.__version__}")
print(f"find_spec calls in 10 steps: {len(asked)}, for {sorted(set(asked))}")
print(f"a step: torch's {1e6 * own:.0f} us, Accelerate's {1e6 * wrapped:.0f} us")
assert len(asked) == 20 and set(asked) == {"lomo_optim"}, "this has changed"
PY
