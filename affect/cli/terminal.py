"""The terminal of a command: its log above the progress bar, its one-line errors, and how its process ends."""

from __future__ import annotations

import atexit
import contextlib
import errno
import io
import logging
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from affect.errors import AGAIN, AffectError, StoppedError, first_line, lost_rank
from affect.extraction import IncompleteError
from affect.process import ask_again, follow_launcher, refuse_again

_LOG = logging.getLogger("affect")
_INTERRUPTED = 130
_OF_PLACES = (errno.ENAMETOOLONG, errno.ELOOP, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR)
"""What a system says of a name or a place that the user gave, and no program can help."""
_SHOWN = 200
"""Characters of such a name that are shown."""


def guarded(work: Callable[[], object]) -> None:
    """Run `work`; an AffectError ends the process with its one line and 2, an IncompleteError with 1, ^C with 130.

    A StoppedError and a LostError end it with their own codes, the loss of another rank with 75. A process that was one
    of several ends here in any case. Code 75 (to be started again) also makes the file that AFFECT_AGAIN names.
    """
    code, several = 0, False
    follow_launcher()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Names of files may hold bytes that are no UTF-8.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        work()
    except AffectError as error:
        code = _failed(str(error), error.code)
        if code != AGAIN:
            refuse_again()
    except IncompleteError as error:
        code = _failed(str(error), 1) if first() else 1
    except KeyboardInterrupt:
        # Other commands do not import what trains, and have nothing to go on from.
        runs = sys.modules.keys() & {"affect.training.run", "affect.experiments.parallel"}
        goes_on = "; the run goes on from its last checkpoint when the command is given again"
        code = _failed(f"interrupted{goes_on if runs else ''}", _INTERRUPTED)
    except StoppedError as stop:
        code = stop.code
        if first():
            print(stop, file=sys.stderr)
    except BrokenPipeError:
        # The reader of our output left (affect predict ... | head).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _OF_PLACES and error.filename is not None:
            refuse_again()
            code = _failed(f"{str(error.filename)[:_SHOWN]!r}: {error.strerror}", AffectError.code)
        elif not lost_rank(error):
            refuse_again()
            raise
        else:
            words = f"another rank of this run was lost ({first_line(error)})"
            _failed(f"{words}; give the command again: it goes on from its last checkpoint", AGAIN)
            ask_again()
            # Its group can't be left any more: to try may take as long as a collective waits.
            _leave(AGAIN)
    finally:
        if code == AGAIN:
            ask_again()
        if "affect.training.distributed" in sys.modules:
            several = sys.modules["affect.training.distributed"].Engine.close()
    if several:
        _leave(code)
    if code:
        sys.exit(code)


def _leave(code: int) -> NoReturn:
    """End the process after all that waits for its end has run, without taking the interpreter apart.

    DDP keeps gloo's threads alive when its group is destroyed; one that then drops its last tensor while Python ends
    aborts the process, its work done (pytorch/pytorch#190489): one run in ten, or more on a busy machine.
    """
    atexit._run_exitfuncs()
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def first() -> bool:
    """Tell whether this process is the first of those that the launcher started."""
    return os.environ.get("RANK", "0") == "0"


class _AboveBar(logging.Handler):
    """Writes log lines above the progress bar, not through it."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        tqdm.write(self.format(record), file=sys.stderr)


class _Line(logging.Formatter):
    """A line of the log with its time, and the word that makes a warning one."""

    def format(self, record: logging.LogRecord) -> str:
        word = "warning: " if record.levelno >= logging.WARNING else ""
        return f"{self.formatTime(record, '%Y-%m-%d %H:%M:%S')} {word}{record.getMessage()}"


def show_log() -> None:
    """Let the log of this command appear on the terminal; what several runs each say of themselves is left out."""
    # Set up anew for each command: one that ran before in this process has left its own.
    _LOG.handlers = [handler for handler in _LOG.handlers if not isinstance(handler, _AboveBar)]
    handler = _AboveBar()
    handler.setFormatter(_Line())
    # Of thirty runs that train together each has its own file; here they would bury everything else.
    handler.addFilter(lambda record: not hasattr(record, "run"))
    # Every rank has something to warn of; only the first tells how things go.
    handler.setLevel(logging.INFO if first() else logging.WARNING)
    _LOG.addHandler(handler)
    _LOG.setLevel(logging.INFO)
    _LOG.propagate = False
    # A log line that a full disk refuses must not bury the error that follows it.
    logging.raiseExceptions = False


def _failed(message: str, code: int) -> int:
    # One write: two ranks' lines would else stand on one line.
    sys.stderr.write(f"error: {message}\n")
    return code
