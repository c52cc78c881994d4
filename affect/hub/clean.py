"""What must not leave the machine: paths are taken out of what is pushed, and a push that holds one is refused."""

from __future__ import annotations

import getpass
import re
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from affect import tasks
from affect.data import corpora
from affect.errors import AffectError

_LOCAL = ("root", "embeddings", "labels", "audio", "noise_files")
"""Fields of a recipe that name a file or a folder."""
_INSIDE = re.compile(r"(?<![^\s='\"(,])(?:~[\w.-]*|\.{1,2}|[A-Za-z]:)?[/\\][^\s'\"=,()]+")
"""A path in the middle of a text: from a root, the home or the working folder."""
_ORDINARY = {
    "root", "user", "users", "admin", "administrator", "ubuntu", "debian", "runner", "jovyan", "docker", "nobody",
    "home", "host", "local", "localhost", "node", "default", "server", "train", "training", "model", "data", "test",
    "python", "affect", "speech", "audio", "text", "video",
}  # fmt: skip
"""Names of users and machines that are words: they are looked for inside paths and addresses alone."""
_VOCABULARY = ("tokenizer.json", "vocab.json", "vocab.txt", "merges.txt", "spiece.model", "sentencepiece.bpe.model")
"""Files that hold all words there are."""
_FEWEST = 4
"""Letters of a name that is looked for as a word."""


def scrub(value: Any, field: str = "") -> Any:
    """Return JSON types without paths: of each its last component is left."""
    if isinstance(value, dict):
        # There the root is a name on the Hub, or a path.
        layout = corpora.known(value.get("corpus"))
        public = "root" if layout is not None and layout.on_hub else ""
        return {key: scrub(item, "" if key == public else key) for key, item in value.items()}
    if isinstance(value, list):
        return [scrub(item) for item in value]
    if not isinstance(value, str):
        return value
    if field in _LOCAL or _is_path(value):
        return last(value)
    return _INSIDE.sub(lambda match: last(match[0]), value)


def last(path: str) -> str:
    """Return the last component of a path of any system, "local" where there is none."""
    parts = [part for part in re.split(r"[/\\]+", path.strip()) if part not in ("", ".", "..", "~")]
    return parts[-1] if parts and not parts[-1].endswith(":") else "local"


def _is_path(text: str) -> bool:
    if PurePosixPath(text).is_absolute() or PureWindowsPath(text).is_absolute() or text.startswith("file:"):
        return True
    if re.match(r"(~|\.{1,2})[\w.-]*[/\\]", text):
        return True
    # A local folder may be given by a name that looks like the Hub's.
    return "/" in text and len(text) < 256 and "\n" not in text and Path(text).exists()


def refuse(folder: Path, *, run: Path, repo: str, token: str | None) -> None:
    """Raise AffectError naming the first file of `folder` that tells something of this machine or its user.

    Looked for are the token, the home, working and temporary folder and the run's, host and user. Of weights only the
    header is read, as tensors are no text; a vocabulary may hold any name.
    """
    for path in sorted(item for item in folder.rglob("*") if item.is_file()):
        name = path.relative_to(folder).as_posix()
        origin = "recipe.json and environment.json" if name in ("README.md", "recipe.json") else path.name
        for what, private in _held(_text(path), path.name in _VOCABULARY, run, repo, token):
            shown = "" if what == "the token" else f" ({private})"
            raise AffectError(
                f"{name} would be pushed with {what}{shown} in it: take it out of the run's {origin}, then push"
            )


def _held(content: str, vocabulary: bool, run: Path, repo: str, token: str | None) -> Iterator[tuple[str, str]]:
    """Yield what of this machine a text holds, and how."""
    if token and token in content:
        yield "the token", token
    folders = {"the home folder": Path.home(), "the working folder": Path.cwd(), "the run's folder": run.absolute(),
               "the temporary folder": Path(tempfile.gettempdir())}  # fmt: skip
    for what, place in folders.items():
        # One component, as /tmp, is a word; with what is below it a path.
        for form in {str(place), str(place.resolve())}:
            if len(form) > 1 and (form + "/" in content or (form in content and form.count("/") > 1)):
                yield what, form
    if vocabulary:
        return
    ordinary = {*_ORDINARY, *(word for task in tasks.names() for word in task.split("_"))}
    # On the Hub the owner is often called as the user is here; inside a path it is the user.
    content = re.sub(rf"(?<![/\\\w.-]){re.escape(repo.split('/')[0])}/", "", content)
    for what, name in (("the host's name", socket.gethostname()), ("the user's name", getpass.getuser())):
        quoted = re.escape(name)
        places = [rf"[/\\]{quoted}[/\\]", rf"\b{quoted}@", rf"@{quoted}\b", rf"~{quoted}\b"]
        if len(name) >= _FEWEST and name.lower() not in ordinary:
            places.append(rf"(?<![\w-]){quoted}(?![\w-])")
        if name and re.search("|".join(places), content):
            yield what, name


def _text(path: Path) -> str:
    """Return a file as text; of weights the header, which names tensors."""
    with path.open("rb") as file:
        if path.suffix != ".safetensors":
            return file.read().decode("utf-8", errors="replace")
        size = int.from_bytes(file.read(8), "little")
        # A damaged one may name any size.
        return file.read(min(size, path.stat().st_size)).decode("utf-8", errors="replace")
