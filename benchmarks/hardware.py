"""A row of docs/hardware.md: how fast a run was, of which the folder tells all.

    python benchmarks/hardware.py runs/mer2023/seed0/fold1                     # prints it
    python benchmarks/hardware.py runs/wavlm/seed0/fold1 --model "WavLM-large" --add docs/hardware.md

A run of a few dozen steps is enough: speeds are medians over its steps (of stacked runs: epochs), memory is the most
that was used.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from affect import tasks
from affect.errors import AffectError
from affect.report import runs, speed
from affect.tables import counted, escaped, inside

HEAD = (
    "model", "device", "ranks", "precision", "global batch", "speed", "TFLOP/s", "of the peak", "peak memory",
    "versions", "date",
)  # fmt: skip


def row(folder: Path, model: str | None = None) -> list[str]:
    """Return the cells of a run's row; `model` names it in place of its experiment. Raises AffectError."""
    run = runs.read(folder)[0]
    medians = speed.medians(run.timing)
    if "tflops_per_second" not in medians:
        raise AffectError(f"{folder} has no step whose operations are known (timing.jsonl)")
    environment, packages = run.environment, inside(run.environment, "packages")
    unit = tasks.make(tasks.read_recipe(run.recipe)).unit
    most = max(line["memory_bytes"] for line in run.timing if "memory_bytes" in line)
    precision = {"no": "float32"}.get(str(environment["precision"]), str(environment["precision"]))
    device = str(environment["device"])
    if device.startswith("CPU"):
        device += f", {counted(environment['threads'], 'thread')}"
    return [
        model or str(run.recipe["experiment"]), device, str(environment["world"]), precision,
        str(inside(run.recipe, "train")["batch"]), f"{medians['units_per_second']:,.4g} {unit} a second",
        f"{medians['tflops_per_second']:.3g}", f"{100 * medians['peak_share']:.2g} %", f"{most / 2**30:.2f} GB",
        ", ".join(f"{name} {packages[name]}" for name in ("torch", "transformers")), str(environment["started"])[:10],
    ]  # fmt: skip


def line(cells: list[str]) -> str:
    """Return cells as a line of a Markdown table."""
    return "| " + " | ".join(map(escaped, cells)) + " |"


def add(path: Path, text: str) -> None:
    """Put a line at the end of the page, whose last block is the table. Raises AffectError where it is not."""
    lines = path.read_text(encoding="utf-8").rstrip().split("\n")
    if lines[-1].count("|") != len(HEAD) + 1:
        raise AffectError(f"{path} does not end with the table of {len(HEAD)} columns")
    path.write_text("\n".join([*lines, text]) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the folder of a run (seed<S>/fold<F>)")
    parser.add_argument("--model", help="what the row calls it; its experiment's name if not given")
    parser.add_argument("--add", type=Path, metavar="PAGE", help="a page that ends with the table, to add the row to")
    arguments = parser.parse_args()
    try:
        text = line(row(arguments.run, arguments.model))
        if arguments.add is not None:
            add(arguments.add, text)
    except AffectError as error:
        parser.exit(2, f"error: {error}\n")
    print(text)


if __name__ == "__main__":
    main()
