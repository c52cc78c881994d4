"""Pushing while a run trains: in one thread, the newest weights first, and never at the training's cost."""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub.utils.tqdm import disable_progress_bars

from affect.errors import AffectError
from affect.hub import client, push

_LOG = logging.getLogger("affect")
PATIENCE = 240.0
"""Seconds that the end of a run waits for its push: other ranks may wait for this one."""


class Pusher:
    """Pushes what a run's folder holds, whenever it is offered; one upload at a time, the newest offer next."""

    def __init__(self, repo: str, folder: Path, *, private: bool = False) -> None:
        """Push `folder` to `repo`; raises AffectError where there is no token or the name can't be one."""
        client.check(repo)
        self.repo, self.folder, self.private = repo, folder, private
        self._changed = threading.Condition()
        self._waiting: Path | None = None
        self._sending: Path | None = None
        self._failed: Path | None = None
        self._error: str | None = None
        self._ending = self._left = False
        self._thread: threading.Thread | None = None

    def offer(self) -> None:
        """Take what the run's folder holds now, to be pushed as soon as the push before it is done; never raises.

        An offer that still waits is dropped for this one. The weights are linked, so the run may replace them.
        """
        try:
            ready = push.stage(self.folder, self.repo)
        # Whatever it is: the training goes on.
        except Exception as error:
            with self._changed:
                self._tell(error)
            return
        with self._changed:
            _discard(self._waiting)
            self._waiting = ready
            self._start()
            self._changed.notify_all()

    def finish(self, patience: float = PATIENCE) -> str | None:
        """Wait for what is under way, repeat a push that failed once more, and return what went wrong, if anything.

        Waits `patience` seconds at most; what is not there by then is given up.
        """
        with self._changed:
            self._ending = True
            self._changed.notify_all()
        if self._thread is not None:
            _LOG.info("waiting for the push to %s, %.0f s at most", self.repo, patience)
            self._thread.join(patience)
            if self._thread.is_alive():
                self._error = f"{self.repo}: the push was not done after {patience:.0f} s"
        self.leave()
        return None if self._error is None else f"{self._error}; affect push {self.folder} --repo {self.repo}"

    def leave(self) -> None:
        """Give up at once what is not done: what was taken for it is removed, and nothing more is said of it."""
        with self._changed:
            self._left = self._ending = True
            for ready in (self._waiting, self._sending, self._failed):
                _discard(ready)
            self._waiting = self._failed = None
            self._changed.notify_all()

    def _start(self) -> None:
        if self._thread is None:
            # They would be drawn over the run's own.
            disable_progress_bars()
            # A daemon: a connection that hangs may not keep a process that is done.
            self._thread = threading.Thread(target=self._work, name=f"push to {self.repo}", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        repeated = False
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting is not None or self._ending)
                if self._waiting is None and not repeated:
                    # At the end: what failed last, once more.
                    self._waiting, self._failed, repeated = self._failed, None, True
                if self._left or self._waiting is None:
                    return
                ready = self._sending = self._waiting
                self._waiting = None
            error = self._send(ready)
            with self._changed:
                self._sending = None
                if self._left:
                    return
                _discard(self._failed)
                self._failed = ready if error is not None else None
                if error is None:
                    _discard(ready)
                    self._error = None
                else:
                    self._tell(error)

    def _send(self, ready: Path) -> Exception | None:
        try:
            pushed = push.send(ready, self.repo, self.folder, private=self.private)
        # Whatever it is: the training goes on.
        except Exception as error:
            return error
        _LOG.info("pushed to %s", pushed.url)
        return None

    def _tell(self, error: Exception) -> None:
        words = str(error) if isinstance(error, AffectError) else f"{self.repo}: {type(error).__name__}: {error}"
        self._error = words
        _LOG.warning("not pushed: %s; the run goes on, and it is tried again", words)


def _discard(ready: Path | None) -> None:
    if ready is not None:
        shutil.rmtree(ready.parent, ignore_errors=True)


@contextmanager
def pushing(
    repo: str, folder: Path, *, private: bool, several: bool, patience: float = PATIENCE
) -> Iterator[Callable[[], None]]:
    """Give what a run calls after its best weights were saved and at its end; each call pushes its folder to `repo`.

    With `several` runs the repo is user/name-seed<S>-fold<F>. To be entered by the rank that writes the run's folder.
    What could not be pushed at the end is a warning. Raises AffectError at once where there is no token.
    """
    place = folder.absolute()
    pusher = Pusher(f"{repo}-{place.parent.name}-{place.name}" if several else repo, folder, private=private)
    try:
        yield pusher.offer
    except BaseException:
        pusher.leave()
        raise
    error = pusher.finish(patience)
    if error is not None:
        _LOG.warning("not pushed: %s pushes it by hand", error)
