#!/usr/bin/env bash
# One would guess: unweighted average recall is the mean of the recalls there are; a class without one example in the
# truth has none, and is left out (as scikit-learn's balanced_accuracy_score does).
# Seen: audmetric.unweighted_average_recall gives it a recall of 0 and a full share of the mean, without a warning.
# Where `labels` name the corpus's classes, predictions that are all right get .667 for a speaker who was never sad;
# where they don't, one wrong prediction out of ten that names the absent class takes .9 to .6. UAR by speaker, fold or
# corpus, and their mean, are then lower for who showed fewer emotions. zero_division=1 counts the class as perfectly
# recalled, which is no better.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet audmetric==1.4.2 scikit-learn==1.9.1 scipy==1.17.1 numpy==2.4.6
"$folder/env/bin/python" -W error - <<'PY'
import warnings
from importlib.metadata import version

import audmetric
from sklearn.metrics import balanced_accuracy_score

CLASSES = ["happy", "neutral", "sad"]
truth = ["neutral"] * 5 + ["happy"] * 5
close = ["neutral"] * 5 + ["happy"] * 4 + ["neutral"]
absent = ["neutral"] * 5 + ["happy"] * 4 + ["sad"]
uar = audmetric.unweighted_average_recall
seen = {
    "all right": uar(truth, truth),
    "all right, labels given": uar(truth, truth, labels=CLASSES),
    "one wrong, of a class that is there": uar(truth, close),
    "one wrong, of the absent class": uar(truth, absent),
    "the same, zero_division=1": uar(truth, absent, zero_division=1),
}
print("audmetric", version("audmetric"), "scikit-learn", version("scikit-learn"))
for name, value in seen.items():
    print(f"{name}: UAR {value:.3f}")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    balanced = balanced_accuracy_score(truth, absent)
print(f"one wrong, of the absent class: balanced accuracy {balanced:.3f}")
assert [round(value, 3) for value in seen.values()] == [1.0, 0.667, 0.9, 0.6, 0.933], "this has changed"
assert round(balanced, 3) == 0.9, "scikit-learn has changed"
PY
