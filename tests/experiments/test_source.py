"""The commit that an environment.json names."""

from __future__ import annotations

import subprocess
import sys

import pytest

from affect.experiments import source


@pytest.fixture
def git(tmp_path):
    """A repository with a recipe in it, and git itself there."""

    def run(*words: str) -> str:
        own = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "init.defaultBranch=main"]
        return subprocess.run(
            ["git", *own, "-C", str(tmp_path), *words], capture_output=True, text=True, check=True
        ).stdout.strip()

    run("init", "--quiet")
    (tmp_path / "recipe.py").write_text("a = 1\n")
    return run


def test_the_commit_is_that_of_the_recipe_and_says_what_was_changed(git, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "recipe.py"), "mine"])
    assert source._commit_of.__wrapped__(tmp_path / "recipe.py") == {}, "nothing tracks it yet"
    git("add", "recipe.py")
    git("commit", "--quiet", "-m", "one")
    head = git("rev-parse", "HEAD")
    assert source.commit() == {"commit": head, "dirty": False}
    source._commit_of.cache_clear()
    (tmp_path / "recipe.py").write_text("a = 2\n")
    assert source.commit() == {"commit": head, "dirty": True}
    assert source._commit_of(tmp_path / "untracked.py") == {}


def test_without_git_nothing_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert source._commit_of.__wrapped__(tmp_path / "recipe.py") == {}
