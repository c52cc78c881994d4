#!/usr/bin/env bash
# One would guess: rows that name different fields become the union of the fields, with nulls, or an error.
# Seen: datasets.Dataset.from_list and pyarrow.Table.from_pylist take their columns from the first row alone. A field that
# only later rows have (the second rater, a label that a corpus gives some utterances) is gone without a word;
# a field that only the first row has stays, with nulls. The order of the rows decides what a corpus holds.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet datasets==5.2.0 pyarrow==26.0.1
"$folder/env/bin/python" - <<'PY'
import datasets
import pyarrow

rows = [{"id": "a", "valence": 0.5}, {"id": "b", "valence": 0.1, "emotion": "sad"}]
print("datasets", datasets.__version__, "pyarrow", pyarrow.__version__)
seen = {
    "datasets": datasets.Dataset.from_list(rows).column_names,
    "datasets, the other way round": datasets.Dataset.from_list(rows[::-1]).column_names,
    "pyarrow": pyarrow.Table.from_pylist(rows).column_names,
    "pyarrow, the other way round": pyarrow.Table.from_pylist(rows[::-1]).column_names,
}
for what, names in seen.items():
    print(f"{what}: {names}")
short, whole = ["id", "valence"], ["id", "valence", "emotion"]
assert list(seen.values()) == [short, whole, short, whole], "this has changed"
PY
