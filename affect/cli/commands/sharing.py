"""The subcommand that gives a trained model to others: what it takes, and what does the work."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro


def push(
    run: Annotated[Path, tyro.conf.Positional],
    /,
    repo: str,
    private: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    dry_run: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
) -> None:
    """Push a run's weights, best and last, with card, recipe and preprocessing to the Hub; or a metric module.

    No optimiser state goes with it, and no path, host, user or token: a push that holds one stops and names the file.
    `affect predict user/name` and affect.hub.from_pretrained("user/name") then take the model from there. Give hf auth
    login once before, or set HF_TOKEN.

    Args:
        run: A run's folder (runs/<experiment>/seed<S>/fold<F>); or a metric module of `evaluate`, its folder or name
            (ccc, der, emoval), which becomes a Space.
        repo: user/name on the Hub; made where it is not there yet. A metric module's has the module's name.
        private: Make it private.
        dry_run: Print the files and the card that would be pushed; nothing leaves this machine.
    """
    from affect.hub import push as pushes
    from affect.hub.client import check_name

    check_name(repo)
    module = pushes.module_of(run)
    if module is None and not run.is_dir():
        raise pushes.unknown(run)
    if dry_run:
        with pushes.staged(run, repo) if module is None else pushes.staged_module(module, repo) as folder:
            _show(folder, repo)
        return
    send = pushes.run if module is None else pushes.module
    pushed = send(run if module is None else module, repo, private=private)
    print(f"{pushed.url} ({f'commit {pushed.commit[:8]}' if pushed.changed else 'nothing has changed since'})")


def _show(folder: Path, repo: str) -> None:
    """Print what is in a folder, and its card."""
    for path in sorted(item for item in folder.rglob("*") if item.is_file()):
        print(f"{repo}/{path.relative_to(folder).as_posix()}: {path.stat().st_size / 1e6:.3f} MB")
    print("\n" + (folder / "README.md").read_text(encoding="utf-8"))
