"""Files whose bytes may be anything: what damages them, what reads them, and what a reader may answer."""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from affect.errors import AffectError

TOKENS = (
    b"", b"\0", b"nan", b"inf", b"-1", b"0", b"1e400", b"-0", b"9" * 30, b"9" * 5000, b"0_3", b"1,5", b'"', b"'",
    b",", b";", b"\t", b"\n", b"\r", b" ", b"=", b"\xe2\x80\xa8", b"\xff\xfe", b"\xef\xbb\xbf", b"[" * 3000,
    b'{"a":' * 3000, b"{}", b"[]", b"null", b"true", b"\xed\xa0\x80", b"\\ud800", b"../../../etc/passwd", b"/", b".",
    b"x" * 300, b"\xe4", b"#", b"%s", b"__class__",
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 1.5, 10**12, 10**30, float("nan"), float("inf"), 1e308, "", "x", "x" * 300, "\ud800", "a\0b",
    [], [1], {}, {"a": 1}, [[]], "nan", "../..",
)  # fmt: skip


def damaged(content: bytes, chance: random.Random) -> bytes:
    """Return bytes that are not quite what they were."""
    for _ in range(chance.choice((1, 1, 2, 4))):
        content = chance.choice(_WAYS)(content, chance)
    return content


def _flipped(content: bytes, chance: random.Random) -> bytes:
    if not content:
        return b"\xff"
    place = chance.randrange(len(content))
    return content[:place] + bytes([content[place] ^ (1 << chance.randrange(8))]) + content[place + 1 :]


def _cut(content: bytes, chance: random.Random) -> bytes:
    return content[: chance.randrange(len(content) + 1)]


def _removed(content: bytes, chance: random.Random) -> bytes:
    start = chance.randrange(len(content) + 1)
    return content[:start] + content[start + chance.randrange(1, 40) :]


def _repeated(content: bytes, chance: random.Random) -> bytes:
    start = chance.randrange(len(content) + 1)
    piece = content[start : start + chance.randrange(1, 200)]
    place = chance.randrange(len(content) + 1)
    return content[:place] + piece + content[place:]


def _inserted(content: bytes, chance: random.Random) -> bytes:
    place = chance.randrange(len(content) + 1)
    return content[:place] + chance.choice(TOKENS) + content[place:]


def _replaced(content: bytes, chance: random.Random) -> bytes:
    words = [*re.finditer(rb"[\w.+-]+", content[:200_000])]
    if not words:
        return _inserted(content, chance)
    word = chance.choice(words)
    return content[: word.start()] + chance.choice(TOKENS) + content[word.end() :]


def _blank(content: bytes, chance: random.Random) -> bytes:
    return chance.choice((b"", b"\0" * len(content), chance.randbytes(min(len(content), 500))))


def _of_json(content: bytes, chance: random.Random) -> bytes:
    """Return JSON, or a line of JSON lines, with another value, or without one."""
    lines = content.split(b"\n")
    whole = len([line for line in lines if line.startswith(b"{")]) < 2
    place = 0 if whole else chance.randrange(len(lines))
    try:
        document = json.loads(content if whole else lines[place])
    except (ValueError, RecursionError):
        return _replaced(content, chance)
    made = json.dumps(_changed(document, chance)).encode()
    return made if whole else b"\n".join([*lines[:place], made, *lines[place + 1 :]])


def _changed(document: Any, chance: random.Random) -> Any:
    keys = list(document) if isinstance(document, dict) else list(range(len(document or ()))) if isinstance(
        document, list) else []  # fmt: skip
    if not keys or chance.random() < 0.25:
        return chance.choice(VALUES)
    key = chance.choice(keys)
    copy = dict(document) if isinstance(document, dict) else list(document)
    if isinstance(copy, dict) and chance.random() < 0.2:
        del copy[key]
    else:
        copy[key] = _changed(document[key], chance)
    return copy


_WAYS = (_flipped, _cut, _removed, _repeated, _inserted, _replaced, _replaced, _of_json, _of_json, _blank)


@dataclass(frozen=True)
class Target:
    """A reader, the files of a folder that it reads and that are damaged, and what it may raise."""

    read: Callable[[], object]
    files: tuple[Path, ...]
    raises: tuple[type[Exception], ...] = (AffectError,)

    def attack(self, seeds: Iterable[int], name: str) -> int:
        """Damage a file for each seed and read; return how often the reader refused."""
        whole = {path: path.read_bytes() for path in self.files}
        refused = 0
        for seed in seeds:
            chance = random.Random(f"{name} {seed}")
            path = chance.choice(self.files)
            path.write_bytes(damaged(whole[path], chance))
            try:
                self.read()
            except self.raises as error:
                refused += 1
                if isinstance(error, AffectError):
                    assert "\n" not in str(error) and len(str(error)) <= 3000, f"{name}, seed {seed}: {error}"
            except Exception as error:
                kept = path.with_name(f"{path.name}.{seed}")
                shutil.copy(path, kept)
                raise AssertionError(f"{name}, seed {seed}, {kept}: {type(error).__name__}: {error}") from error
            finally:
                path.write_bytes(whole[path])
        return refused
