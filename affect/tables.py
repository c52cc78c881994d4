"""Tables in Markdown whose columns also line up as plain text, and the numbers in them."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

NONE = "–"


def grid(head: list[str], rows: list[list[str]], left: bool | Collection[int] = False) -> str:
    """Return a Markdown table with padded cells of plain text: the first column to the left, the others to the right.

    `left` puts all of them to the left, or those that it numbers.
    """
    head, rows = [escaped(cell) for cell in head], [[escaped(cell) for cell in row] for row in rows]
    # Two at least: a colon alone is no rule of a table.
    widths = [max(2, *(len(row[i]) for row in [head, *rows])) for i in range(len(head))]
    sides = [i == 0 or (left if isinstance(left, bool) else i in left) for i in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        padded = (c.ljust(w) if s else c.rjust(w) for c, w, s in zip(cells, widths, sides, strict=True))
        return "| " + " | ".join(padded) + " |"

    rule = [("-" * w if s else "-" * (w - 1) + ":") for w, s in zip(widths, sides, strict=True)]
    return "\n".join(line(cells) for cells in (head, rule, *rows))


def filled(head: list[str], rows: list[list[str]]) -> tuple[list[str], list[list[str]]]:
    """Return a table without columns that hold nothing: of reported numbers little else is known."""
    kept = [i for i in range(len(head)) if any(row[i] not in ("", NONE) for row in rows)]
    return [head[i] for i in kept], [[row[i] for i in kept] for row in rows]


def number(value: float) -> str:
    """Return a score with three decimals, a dash where it is unknown."""
    # Adding 0 turns a rounded -0.0 into 0.0.
    return NONE if math.isnan(value) else f"{round(value, 3) + 0.0:.3f}"


def signed(value: float) -> str:
    """Return a difference with three decimals and its sign, a dash where it is unknown."""
    return NONE if math.isnan(value) else f"{round(value, 3) + 0.0:+.3f}"


def with_deviation(mean: float, deviation: float) -> str:
    """Return mean ± deviation, the mean alone where there is no deviation."""
    return number(mean) if math.isnan(deviation) or math.isnan(mean) else f"{number(mean)} ± {number(deviation)}"


def goal(value: float) -> str:
    """Return a number as short as it is named: .68, 1.2."""
    return re.sub(r"^(-?)0\.", r"\1.", f"{value:g}")


def probability(p: float) -> str:
    """Return a p in two digits (p .031, p < .001)."""
    return "p < .001" if p < 1e-3 else f"p {p:.2g}".replace(" 0.", " .")


def hours(seconds: float) -> str:
    """Return a length of time as a clock shows it: 1:02:03."""
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def counted(count: int, unit: str) -> str:
    """Return a number of things in words (1 speaker, 6 speakers)."""
    return f"{count:,} {unit if count == 1 else plural(unit)}"


def plural(unit: str) -> str:
    """Return the word for several things (speakers, identities, classes)."""
    if unit.endswith("y") and unit[-2:-1] not in "aeiou":
        return f"{unit[:-1]}ies"
    if re.search(r"(ss|us|x|z|sh|(?<!epo)ch)$", unit):
        return f"{unit}es"
    # A column may be called by the word for several already.
    return unit if unit.endswith("s") else f"{unit}s"


def escaped(name: str) -> str:
    """Return a name or an id as Markdown shows it letter by letter, on one line."""
    # An underscore inside a word, and a bracket that opens no link, are letters as they are.
    special = r"[\\`*<|&]|(?<=\])\(|#$|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])"
    return re.sub(special, r"\\\g<0>", " ".join(name.split()))


def code(name: str) -> str:
    """Return a name as inline code of Markdown, on one line, whatever backticks it holds."""
    shown = " ".join(name.split())
    fence = "`" * (1 + _longest_run(shown))
    pad = " " if shown[:1] == "`" or shown[-1:] == "`" else ""
    return f"{fence}{pad}{shown}{pad}{fence}"


def fenced(lines: str, language: str = "") -> str:
    """Return lines as a block of code of Markdown, which none of them ends."""
    fence = "`" * max(3, 1 + _longest_run(lines))
    return f"{fence}{language}\n{lines}\n{fence}"


def _longest_run(shown: str) -> int:
    return max((len(run) for run in re.findall("`+", shown)), default=0)


def slug(name: str) -> str:
    """Return a name as a file's name may have it."""
    return re.sub(r"[^A-Za-z0-9.=@-]", "_", name)


def text(value: object) -> str:
    """Return a setting's value in a few words, on one line."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: NONE}[value]
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        shown = " ".join(text(item) for item in value[:8])
        return f"{shown} … ({len(value)} in all)" if len(value) > 8 else shown
    shown = " ".join(str(value).split())
    return shown if len(shown) <= 120 else shown[:119] + "…"


def flat(record: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Return the leaves of nested objects by dotted name, sorted."""
    leaves: dict[str, object] = {}
    for key in sorted(record):
        value = record[key]
        leaves |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {f"{prefix}{key}": value}
    return leaves


def inside(record: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return a nested object of a record, empty where there is none."""
    value = record.get(name)
    return value if isinstance(value, dict) else {}
