"""The Hub's client: a folder there in one commit, a folder from there, and its errors in one line each."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants, get_token, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)  # fmt: skip

from affect.errors import AffectError, first_line

Kind = Literal["model", "space"]

_FAILURES: tuple[type[Exception], ...] = (HfHubHTTPError.__bases__[0], OSError, RuntimeError, HFValidationError)
"""What a request ends with: the Hub's answers and lost connections (of httpx or httpx2, as the client's version has
it), a transfer that broke off, names that can't be."""

_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*")
_STALE = 412


@dataclass(frozen=True)
class Pushed:
    """What is on the Hub after a push: where, in which commit, and whether the push has changed anything."""

    url: str
    commit: str
    changed: bool


def is_name(text: str) -> bool:
    """Tell whether `text` may be a repo's name: user/name."""
    return _NAME.fullmatch(text) is not None


def check_name(repo: str) -> None:
    """Raise AffectError where a repo's name is not user/name."""
    if not is_name(repo):
        raise AffectError(f"--repo {repo!r} is not user/name (letters, digits, '.', '_' and '-')")


def check(repo: str) -> str:
    """Return the token to push to `repo` with; raises AffectError where it is no user/name, or there is none."""
    check_name(repo)
    token = get_token()
    if not token:
        raise AffectError(f"{repo}: no token for the Hub: give hf auth login once, or set HF_TOKEN")
    return token


def upload(folder: Path, repo: str, *, private: bool, message: str, kind: Kind = "model", owned: str = "") -> Pushed:
    """Make `repo` where it is not there yet and put all files of `folder` into it, in one commit or none.

    Files of the repo that begin with `owned` and are not in `folder` any more are removed, all others stay. Somebody
    else's commit in between is built upon, once. Raises AffectError naming the repo.
    """
    api = HfApi(token=check(repo))
    with in_one_line(repo):
        api.create_repo(repo, private=private or None, repo_type=kind, exist_ok=True,
                        space_sdk="static" if kind == "space" else None)  # fmt: skip
        before = api.repo_info(repo, repo_type=kind)
        if private and before.private is False:
            raise AffectError(f"{repo} is public: make it private on its page first, or leave --private out")
        try:
            commit = _commit(api, folder, repo, kind, before.sha, message, owned)
        except HfHubHTTPError as error:
            if _status(error) != _STALE:
                raise
            # The parent is no longer the newest: what is there now is read anew.
            before = api.repo_info(repo, repo_type=kind)
            commit = _commit(api, folder, repo, kind, before.sha, message, owned)
    return Pushed(f"{api.endpoint}/{'spaces/' * (kind == 'space')}{repo}", commit, commit != before.sha)


def _commit(api: HfApi, folder: Path, repo: str, kind: Kind, parent: str | None, message: str, owned: str) -> str:
    """Commit a folder on top of `parent` and return the newest commit, which is `parent` where nothing has changed."""
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    gone = []
    if owned and parent is not None:
        there = api.list_repo_files(repo, repo_type=kind, revision=parent)
        gone = [name for name in there if name.startswith(owned) and name not in files]
    # One commit, not `upload_folder`: that may split a large folder, and weights and their card belong together.
    operations: list[Any] = [
        *(CommitOperationDelete(path_in_repo=name) for name in gone),
        *(CommitOperationAdd(path_in_repo=name, path_or_fileobj=path) for name, path in files.items()),
    ]
    made = api.create_commit(repo, operations, commit_message=message, repo_type=kind, parent_commit=parent)
    return str(made.oid)


def download(repo: str, revision: str | None, patterns: Sequence[str]) -> Path:
    """Return the cached folder of a model's files that match `patterns`, fetched where they are not there yet.

    Offline it is what an earlier call left. Raises AffectError naming the repo.
    """
    with in_one_line(repo, revision):
        return Path(snapshot_download(repo, revision=revision, allow_patterns=list(patterns)))


@contextlib.contextmanager
def in_one_line(repo: str, revision: str | None = None) -> Iterator[None]:
    """Turn the client's errors into an AffectError of one line that names `repo` and what to do."""
    try:
        yield
    except _FAILURES as error:
        raise AffectError(f"{repo}: {_reason(error, revision)}") from error


def _status(error: BaseException) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)


def _reason(error: BaseException, revision: str | None) -> str:
    # A transfer that fails is wrapped by the client.
    while type(error) is RuntimeError and error.__cause__ is not None:
        error = error.__cause__
    status = _status(error)
    if isinstance(error, OfflineModeIsEnabled) or constants.HF_HUB_OFFLINE:
        return "is not in the cache, and the Hub is not asked offline: unset HF_HUB_OFFLINE"
    if isinstance(error, GatedRepoError):
        return "is gated: ask for access on its page, and give hf auth login"
    if isinstance(error, RevisionNotFoundError):
        return f"has no revision {revision!r}: name a branch, tag or commit"
    if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
        return "lacks a file of a model: push it again"
    if isinstance(error, RepositoryNotFoundError):
        return "no such repo on the Hub, or the token may not see it: check the name, or give hf auth login"
    answers = {
        401: "the Hub does not take the token: give hf auth login again, or set another HF_TOKEN",
        403: "the token may not write there: make one with write access to it, then hf auth login",
        404: "no such repo on the Hub: check the name",
        _STALE: "somebody else pushes to it at the same time: give the command again",
    }
    if status in answers:
        return answers[status]
    if status is not None:
        return f"the Hub answers {status}: try again later"
    if isinstance(error, HFValidationError):
        return f"is no name of a repo: {first_line(error)}"
    # Addresses of transfers are signed: they stay out of logs.
    words = re.sub(r"https?://\S+", "", first_line(error)).strip(" :")
    return f"no connection to {constants.ENDPOINT} ({type(error).__name__}: {words}): try again later"
