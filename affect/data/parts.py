"""The parts of a corpus by the words that people have for them."""

from __future__ import annotations

import re

PARTS = {
    "train": "train", "training": "train", "trn": "train", "valid": "valid", "validation": "valid",
    "val": "valid", "dev": "valid", "devel": "valid", "development": "valid", "test": "test",
    "testing": "test", "tst": "test", "eval": "test", "evaluation": "test",
}  # fmt: skip
"""The part that a word says, in lower case."""
_WORD = re.compile(r"[^\W\d_]+\d*")


def words_of(name: str) -> list[str]:
    """Return the words in the name of a file or folder, in lower case, with a number behind: `a.test1-x` has three."""
    return _WORD.findall(name.lower())


def part_of_names(*names: str) -> str:
    """Return the part that names (of a file, or of its folders) say last, "" where none does.

    A word with a number says none: it may be a recording's own name.
    """
    words = [word for name in names for word in words_of(name) if word in PARTS]
    return PARTS[words[-1]] if words else ""


def part_of(value: str) -> str:
    """Return the part that a cell names, "" for none: a word of `PARTS`, of tests with a number or more behind it."""
    plain = value.strip().lower()
    if plain in PARTS:
        return PARTS[plain]
    tests = sorted((word for word, part in PARTS.items() if part == "test"), key=len, reverse=True)
    # test1, Test-2, eval_clean: any word would do behind the whole of one.
    rest = next((plain.removeprefix(word) for word in tests if plain.startswith(word)), "")
    return "test" if rest and (not rest[0].isalpha() or plain.startswith("test")) else ""


def named_part(value: str) -> str:
    """Return the part that a cell names, a test by its own name in lower case (test2), "" for none."""
    part = part_of(value)
    return value.strip().lower() if part == "test" else part
