"""Random rows of ragged features [T, D]: affect's store beside a `datasets` Array2D column of the same data.

    python benchmarks/store.py [--rows 300] [--rounds 5]

Every row is read once a round in a random order and copied into one array, as padding a batch does; of the rounds the
median is told. Both files lie in the page cache.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from datasets import Array2D, Dataset, Features, Value
from datasets.utils.logging import disable_progress_bar, set_verbosity_error
from numpy.typing import NDArray

from affect.data import store

CASES = ((17, "float32"), (768, "float32"), (768, "float16"), (1404, "float32"), (2048, "float32"), (2048, "float16"))
SHORTEST, LONGEST = 50, 300


def samples(count: int, width: int, dtype: str) -> Iterator[tuple[str, NDArray[np.floating]]]:
    random = np.random.default_rng(0)
    for k in range(count):
        size = int(random.integers(SHORTEST, LONGEST + 1))
        yield f"row-{k}", random.standard_normal((size, width), np.float32).astype(dtype)


def timed(read: Callable[[int], NDArray[np.floating]], order: NDArray[np.int64], out: NDArray[np.floating]) -> float:
    start = time.perf_counter()
    for row in order:
        values = read(int(row))
        out[: len(values)] = values
    return time.perf_counter() - start


def compare(count: int, width: int, dtype: str, rounds: int, folder: Path) -> tuple[float, float, float]:
    """Return seconds a row of the store and of the column, and the megabytes of all rows."""
    store.write(
        folder / "store.arrow",
        {"x": store.Feature(dtype, 2)},
        ((id, {"x": values}) for id, values in samples(count, width, dtype)),
    )
    features = Features({"id": Value("string"), "x": Array2D((None, width), dtype)})
    rows = ({"id": id, "x": values} for id, values in samples(count, width, dtype))
    Dataset.from_list(list(rows), features=features).save_to_disk(folder / "column")
    ours = store.Store(folder / "store.arrow")
    # The numpy format hands halves out as singles unless it is told.
    theirs = Dataset.load_from_disk(folder / "column").with_format("numpy", dtype=getattr(np, dtype))
    for row, (_, values) in enumerate(samples(count, width, dtype)):
        assert np.array_equal(ours.read("x", row), values) and np.array_equal(theirs[row]["x"], values)
    out = np.empty((LONGEST, width), dtype)
    random = np.random.default_rng(1)
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        order = random.permutation(count)
        seconds[0].append(timed(lambda row: ours.read("x", row), order, out))
        seconds[1].append(timed(lambda row: theirs[row]["x"], order, out))
    size = sum(len(values) for _, values in samples(count, width, dtype)) * width * np.dtype(dtype).itemsize
    return statistics.median(seconds[0]) / count, statistics.median(seconds[1]) / count, size / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    disable_progress_bar()
    set_verbosity_error()
    print("| D | type | MB | store, rows/s | MB/s | Array2D, rows/s | MB/s | times as fast |")
    print("|---|---|---|---|---|---|---|---|")
    for width, dtype in CASES:
        with tempfile.TemporaryDirectory() as folder:
            ours, theirs, size = compare(options.rows, width, dtype, options.rounds, Path(folder))
        each = size / options.rows
        print(
            f"| {width} | {dtype} | {size:.0f} | {1 / ours:.0f} | {each / ours:.0f} | {1 / theirs:.0f} | "
            f"{each / theirs:.0f} | {theirs / ours:.1f} |"
        )


if __name__ == "__main__":
    main()
