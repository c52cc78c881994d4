"""Which code runs: the commit of the repository that holds the recipe, or affect itself."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path

_SECONDS = 10.0
"""Git looks at every file; on a slow disk it is not waited for longer."""


def commit() -> dict[str, str | bool]:
    """Return `commit` and whether it is `dirty`, of the recipe file's repository, else of affect's; {}: none is known.

    Only a repository that tracks the file counts: an environment may lie inside of another project's.
    """
    return next(filter(None, map(_commit_of, (Path(sys.argv[0]).resolve(), Path(__file__).resolve()))), {})


@cache
def _commit_of(file: Path) -> dict[str, str | bool]:
    try:
        _git(file.parent, "ls-files", "--error-unmatch", file.name)
        changed = _git(file.parent, "status", "--porcelain", "--untracked-files=no")
        return {"commit": _git(file.parent, "rev-parse", "HEAD").strip(), "dirty": bool(changed)}
    except (OSError, subprocess.SubprocessError):
        return {}


def _git(folder: Path, *words: str) -> str:
    # Looking must not lock the index of a repository in which somebody works.
    command = ["git", "--no-optional-locks", "-C", str(folder), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=True).stdout
