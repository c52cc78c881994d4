"""What reaches a user as a single line: errors, a stop that was asked for, the loss of another rank."""

from __future__ import annotations

import difflib
import logging
import os
import signal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

_MOST = 5
"""Names that an error lists; of more their number is said."""


_LONGEST = 3000
"""Characters of an error that are shown: as many as the ids of a batch have."""


class AffectError(Exception):
    """An error of the user's input or surroundings; the command line prints its message and exits with its code.

    It is one line of letters that show, whatever names and cells of files are in it.
    """

    code = 2

    def __str__(self) -> str:
        """Return the message on one line."""
        message = super().__str__()
        if not message.isprintable():
            message = "".join(map(_shown, message))
        return message if len(message) <= _LONGEST else f"{message[: _LONGEST - 500]} ... {message[-400:]}"


def _shown(letter: str) -> str:
    if letter.isprintable():
        return letter
    return " " if letter.isspace() else letter.encode("unicode_escape").decode()


AGAIN = 75
"""The exit code (EX_TEMPFAIL) of a run that is to be started again: it was told so, or lost what it needs to go on."""


class LostError(AffectError):
    """What ended a session and not the run: it goes on when the command is given again."""

    code = AGAIN


class StoppedError(BaseException):
    """A stop that a signal asked for; the command line prints its message and exits with its code.

    No `Exception`, as KeyboardInterrupt is none: what goes on after a run that failed must not go on after this.
    """

    def __init__(self, number: int, place: str):
        """Say where the run stands: `place` is what was saved, or what the run goes on from."""
        super().__init__(f"stopped: {place}; give the command again to go on")
        self.number = number

    def at(self, place: str, folder: Path) -> StoppedError:
        """Return this stop of the run in `folder`, which stands at `place`, and write it to that run's log."""
        stopped = StoppedError(self.number, place)
        # On the terminal the command says it as its last word.
        logging.getLogger("affect").info("%s", stopped, extra={"run": folder})
        return stopped

    @property
    def code(self) -> int:
        """The exit code: 75 (to be started again) after SIGUSR1, 128 + its number after another signal."""
        return AGAIN if self.number == signal.SIGUSR1 else 128 + self.number


_LOST = (
    "connection closed by peer", "connection reset by peer", "connection refused", "connection was likely closed",
    "broken pipe", "nccl communicator was aborted", "remote process exited", "socket closed",
    "failed to recv", "recvvalue failed", "sendbytes failed", "timed out waiting", "application timeout caused",
)  # fmt: skip


def lost_rank(error: BaseException) -> bool:
    """Tell whether an exception says that another process of this run is gone, in the words of gloo, NCCL or a store.

    Told by the kind's name and by words: their classes are torch's, which is not imported here.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or isinstance(error, (AffectError, OSError)):
        return False
    if type(error).__name__ in ("DistBackendError", "DistNetworkError", "DistStoreError"):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _LOST)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message that is not blank, or the name of its kind where it has none."""
    return next(filter(None, map(str.strip, str(error).splitlines())), type(error).__name__)


def first_few(names: Sequence[str], most: int = 3) -> str:
    """Return the first few of some names, and how many more there are, to stand in a line."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def with_article(name: str) -> str:
    """Return a thing's name with a or an before it (a recipe, an environment)."""
    return f"{'an' if name[:1].lower() in tuple('aeiou') else 'a'} {name}"


def nearest(name: str, choices: Iterable[str]) -> str:
    """Return a hint naming what `name` may have meant, or what there is (the first few), to end an error message.

    The last part of a dotted name may stand for the whole of it: --lr for --optim.lr.
    """
    names = sorted(choices)
    plain = name.lstrip("-").replace("-", "_")
    ends = [choice for choice in names if choice.rpartition(".")[2] == plain and "." in choice]
    if 0 < len(ends) <= _MOST:
        *others, last = map(repr, ends)
        return f"did you mean {', '.join(others)}{' or ' if others else ''}{last}?"
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]!r}?"
    more = f", ... ({len(names)} in all)" if len(names) > _MOST else ""
    return "there are: " + ", ".join(names[:_MOST]) + more


@contextmanager
def reading(path: str | Path) -> Iterator[None]:
    """Raise AffectError where the block can't read `path`."""
    try:
        yield
    except OSError as error:
        raise AffectError(f"{path} cannot be read ({error.strerror or error})") from error


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raise AffectError where the block can't write to `path`."""
    try:
        yield
    except OSError as error:
        raise AffectError(f"{path} can't be written: {error.strerror or error}") from error


def no_file(what: str, path: Path) -> AffectError:
    """Return the error of a file of a kind that is not there, with the nearest of its kind beside it."""
    beside = [str(other) for other in path.parent.glob(f"*{path.suffix}")] if path.suffix else []
    return AffectError(f"no {what} {str(path)!r}" + (f"; {nearest(str(path), beside)}" if beside else ""))


def refuse_overwriting(outputs: Mapping[str, Path | None], inputs: Iterable[Path]) -> None:
    """Raise AffectError for an output, by its option, that is an input, too, or what another option writes."""
    read = [path for path in inputs if path.exists()]
    written: list[Path] = []
    for option, output in outputs.items():
        if output is None:
            continue
        if output.exists() and any(output.samefile(path) for path in read):
            raise AffectError(f"{option} {output} is read, too, and would be lost: name another file")
        if output.absolute() in written:
            raise AffectError(f"{option} {output} is what another option writes: name another file")
        written.append(output.absolute())
