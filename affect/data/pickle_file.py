"""A pickle of talking faces: described, or converted to a folder that is read without one, by a process of its own.

That process admits the names of numpy's arrays alone (`safe_pickle`), and has limits of memory, time and size of what
it writes. What it makes takes its place when all of it is there.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from affect.data import inspect_scores, score_samples
from affect.data.files import open_file
from affect.data.pickled_scores import samples_of
from affect.data.safe_pickle import ARRAYS, UNREADABLE, Unpickler, refusal
from affect.data.score_samples import Sample
from affect.errors import AffectError, first_line, no_file, reading, writing

SUFFIXES = (".pkl", ".pickle")
MOST = 64 * 2**30
"""Bytes that a file may have."""
_ROOM = 2**30
"""Bytes of memory beside four times the file's size: texts are held twice, and what is written once more."""
_SECONDS = 60
_SLOWEST = 5 * 2**20
"""Bytes a second that any machine reads, after these seconds."""
_TENSORS = "what torch.save writes: save arrays of numbers (tensor.numpy()) by pickle.dump"
_OTHERS = {
    b"PK\x03\x04": f"a zip, as numpy's .npz or {_TENSORS}",
    # The number that the older form of torch.save begins with.
    b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19": _TENSORS,
    b"\x93NUMPY": "one array (.npy): save splits of samples",
    b"\x1f\x8b": "compressed (gzip): unpack it first", b"BZh": "compressed (bzip2): unpack it first",
    b"\xfd7zXZ": "compressed (xz): unpack it first",
}  # fmt: skip
"""What other files begin with, and what they are."""
_HEAD = max(map(len, _OTHERS))


def describe(path: Path) -> str:
    """Return what a pickle holds, in words; raises AffectError, in one line, where it is none of talking faces."""
    return _apart(path, None, ())


def convert(path: Path, out: Path, labels: Sequence[str] = (), *, unlabelled: bool = False) -> str:
    """Write what a pickle holds to the new folder `out`, whole or not at all, and return what it holds, in words.

    `labels` are the scores to take, all where none are named; `unlabelled` clips need none. Raises AffectError as
    `describe` does, and where `out` is there already.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise AffectError(f"{out} is there already: name a new folder")
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as partial:
            description = _apart(path, Path(partial) / "made", labels, unlabelled)
            (Path(partial) / "made").replace(out)
    return description


def is_pickle(path: Path) -> bool:
    """Tell whether a file begins as a pickle does, or is called as one is: the oldest protocols are plain text."""
    if path.is_dir():
        return False
    try:
        with open_file(path) as file:
            mark, protocol = file.read(2).ljust(2, b"\0")
    except OSError:
        mark = protocol = 0
    return (mark, 2 <= protocol <= pickle.HIGHEST_PROTOCOL) == (pickle.PROTO[0], True) or path.suffix in SUFFIXES


def refuse(path: Path, use: str = "trained on") -> AffectError:
    """Return the error of a pickle that was to be `use`, which says how to make it a folder."""
    out = path.with_suffix("")
    return AffectError(
        f"{path} is a pickle, which is not {use}: convert it once (affect convert {path} {out}) and give {out}"
    )


def read(
    path: Path, labels: Sequence[str] = (), *, unlabelled: bool = False, nameless: bool = False
) -> tuple[list[Sample], dict[str, str]]:
    """Return the samples of a pickle, read by this process, and what of it is not taken over and why.

    Raises AffectError, in one line, for what is no pickle, or one of anything else; nothing that it names is called.
    """
    where = path.name
    try:
        with reading(path), open_file(path) as file:
            _refuse_others(file.read(_HEAD), where)
            file.seek(0)
            data: Any = Unpickler(file, ARRAYS, refusal(where, "arrays of numbers")).load()
        return samples_of(data, where, labels, unlabelled=unlabelled, nameless=nameless)
    except MemoryError as error:
        raise AffectError(f"{where} needs more memory to be read than four times its size") from error
    except UNREADABLE as error:
        words = first_line(error)
        # Of other faults that is no question.
        cut = ": is it cut off?" if isinstance(error, EOFError) or "truncated" in words else ""
        raise AffectError(f"{where} is no readable pickle ({words}){cut}") from error


def _refuse_others(head: bytes, where: str) -> None:
    """Raise AffectError for what another program writes, by its first bytes."""
    for mark, what in _OTHERS.items():
        if head.startswith(mark):
            raise AffectError(f"{where} is no pickle of talking faces but {what}")


def work(path: Path, out: Path | None, labels: Sequence[str], unlabelled: bool = False) -> str:
    """Describe a pickle and, where `out` is given, write the folder; all of it in this process."""
    samples, left_out = read(path, labels, unlabelled=unlabelled or out is None, nameless=out is None)
    facts: dict[str, Any] = {"where": path.name, "left_out": left_out}
    if out is None:
        return inspect_scores.describe(path.name, *score_samples.look(samples, **facts))
    return inspect_scores.describe(path.name, *score_samples.write(out, samples, **facts, unlabelled=unlabelled))


def _apart(path: Path, out: Path | None, labels: Sequence[str], unlabelled: bool = False) -> str:
    """Let a process of its own do `work`; raises its AffectError."""
    if not path.is_file():
        raise no_file("pickle", path)
    size = path.stat().st_size
    if size > MOST:
        raise AffectError(f"{path} is larger than {MOST >> 30} GiB: save it as several files")
    seconds = _SECONDS + size // _SLOWEST
    # Without the working folder (-P): a file of a library's name beside the pickle is not imported.
    words = [sys.executable, "-P", "-m", __name__, str(path), str(out or ""), "unlabelled" * unlabelled, *labels]
    paths = [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    given = {"PYTHONPATH": os.pathsep.join(paths), "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            words, capture_output=True, check=False, stdin=subprocess.DEVNULL, timeout=2 * seconds,
            env={**os.environ, **given},
        )  # fmt: skip
        answer = json.loads(done.stdout) if done.returncode == 0 else {}
    except subprocess.TimeoutExpired:
        raise AffectError(f"{path.name} took more than {2 * seconds} s to be read, and was given up") from None
    except ValueError:
        answer = {}
    if "said" not in answer:
        last = (done.stderr.decode(errors="replace").strip().splitlines() or [f"it ended with {done.returncode}"])[-1]
        raise AffectError(answer.get("error") or f"{path.name} could not be read within its limits ({last[:100]})")
    return str(answer["said"])


def _limit(size: int) -> None:
    """Bound what this process may take for a file of this size: memory, seconds of computing, and files written."""
    import resource

    seconds = _SECONDS + size // _SLOWEST
    limits = {resource.RLIMIT_CPU: seconds, resource.RLIMIT_FSIZE: 5 * size + 2**26, resource.RLIMIT_CORE: 0}
    if sys.platform == "linux":
        mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        limits[resource.RLIMIT_AS] = mapped + 4 * size + _ROOM
    for kind, most in limits.items():
        resource.setrlimit(kind, (most, most))


def _main() -> None:
    path, out, unlabelled, *labels = sys.argv[1:]
    _limit(Path(path).stat().st_size)
    try:
        answer = {"said": work(Path(path), Path(out) if out else None, labels, bool(unlabelled))}
    except AffectError as error:
        answer = {"error": str(error)}
    except MemoryError:
        answer = {"error": f"{path} needs more memory to be converted than four times its size"}
    print(json.dumps(answer))


if __name__ == "__main__":
    _main()
