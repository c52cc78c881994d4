#!/usr/bin/env bash
# One would guess: a model of matrix products and activations gives each row of a batch what it gives that row alone, to
# the rounding of floats, quantised or not; int8 is less exact by about the same for every clip.
# Seen: quantize_dynamic takes one scale of activations per tensor, over all rows of the batch, when it runs. One clip
# with large features takes the resolution of all the others: their largest error grows from .02 to .22, and their CCC
# with the float model falls from .9999 to .975, in a batch of 64; alone each is right. So predicted scores depend on
# the size of the batch, on the order of files and on who is beside whom, and a comparison of int8 with float must fix
# the batch. Predict with one clip a batch, or use static scales.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet onnxruntime==1.31.1 onnx==1.23.2 numpy==2.4.6
cd "$folder"
"$folder/env/bin/python" - <<'PY'
import logging

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import quantize_dynamic

logging.disable(logging.WARNING)
made = np.random.default_rng(0)
first = (made.normal(size=(16, 32)) / 4).astype("float32")
second = (made.normal(size=(32, 1)) / 6).astype("float32")
layers = [("MatMul", ["x", "first"], ["h"]), ("Tanh", ["h"], ["t"]), ("MatMul", ["t", "second"], ["y"])]
graph = helper.make_graph(
    [helper.make_node(*layer) for layer in layers],
    "valence",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 16])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1])],
    [numpy_helper.from_array(first, "first"), numpy_helper.from_array(second, "second")],
)
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), "float.onnx")
quantize_dynamic("float.onnx", "int8.onnx")
cpu = ["CPUExecutionProvider"]
exact, int8 = (onnxruntime.InferenceSession(name, providers=cpu) for name in ("float.onnx", "int8.onnx"))
rows = made.normal(size=(64, 16)).astype("float32")
rows[-1] *= 50


def score(session, batch):
    return session.run(None, {"x": batch})[0][:, 0]


def ccc(a, b):
    return 2 * np.mean((a - a.mean()) * (b - b.mean())) / (a.var() + b.var() + (a.mean() - b.mean()) ** 2)


truth = score(exact, rows)[:-1]
seen = {
    "float, each alone": np.concatenate([score(exact, row[None]) for row in rows[:-1]]),
    "int8, each alone": np.concatenate([score(int8, row[None]) for row in rows[:-1]]),
    "int8, 63 together": score(int8, rows[:-1]),
    "int8, 63 together and a loud one": score(int8, rows)[:-1],
}
print("onnxruntime", onnxruntime.__version__, "onnx", onnx.__version__)
for name, values in seen.items():
    print(f"{name}: largest error {np.abs(values - truth).max():.4f}, CCC with float {ccc(values, truth):.4f}")
errors = [np.abs(values - truth).max() for values in seen.values()]
assert errors[0] < 1e-5 and max(errors[1:3]) < 0.04 and 0.15 < errors[3] < 0.3, "this has changed"
assert ccc(seen["int8, each alone"], truth) > 0.999 and ccc(seen["int8, 63 together and a loud one"], truth) < 0.985
PY
