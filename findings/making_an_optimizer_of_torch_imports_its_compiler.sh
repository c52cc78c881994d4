#!/usr/bin/env bash
# One would guess: torch.optim.SGD over one weight is made in microseconds, and torch's compiler is read where something is compiled.
# Seen: the first optimizer of a process imports torch._dynamo and with it sympy and 800 modules, since its methods are
# wrapped to be left out of a compilation that nobody asked for. It takes about as long as `import torch` did:
# half of what a short run, a test or a worker that makes an optimizer spends before its first update.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6
cd "$folder"
OMP_NUM_THREADS=1 "$folder/env/bin/python" - <<'PY'
import sys
import time

begun = time.process_time()
import torch

read = time.process_time() - begun
weight = torch.nn.Parameter(torch.zeros(1))
before, begun = set(sys.modules), time.process_time()
torch.optim.SGD([weight], lr=0.1)
made = time.process_time() - begun
more = set(sys.modules) - before
print(f"torch {torch.__version__}: import torch {read:.1f} CPU-s, the first optimizer {made:.1f} CPU-s and {len(more)} modules")
print("among them:", ", ".join(sorted(name for name in more if name in ("torch._dynamo", "sympy", "torch.fx.experimental.symbolic_shapes"))))
begun = time.process_time()
torch.optim.SGD([weight], lr=0.1)
print(f"the second optimizer: {1e6 * (time.process_time() - begun):.0f} us")
assert {"torch._dynamo", "sympy"} <= more and len(more) > 500 and made > 0.3 * read, "this has changed"
PY
