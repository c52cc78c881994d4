"""The subcommands that run recipes: what they take, and what does the work."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from affect.errors import AffectError

if TYPE_CHECKING:
    from affect.options import Options
    from affect.recipe import Recipe

_FOLDS = ("devices", "jobs", "precision", "only_report", "logs")


def folds(
    recipe: Annotated[Path, tyro.conf.Positional],
    experiment: Annotated[str, tyro.conf.Positional],
    /,
    devices: str | None = None,
    jobs: int | None = None,
    precision: Literal["no", "bf16", "fp16"] | None = None,
    only_report: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    logs: str | None = None,
    arguments: tyro.conf.Suppress[tuple[str, ...]] = (),
) -> None:
    """Run all folds and seeds of an experiment side by side: one a GPU, or --jobs at a time on a CPU.

    Every other --field goes to the experiment (`python RECIPE EXPERIMENT --help` lists them): --seeds 0 1 2, --runs,
    --name, --overwrite, --dry-run, --train.epochs 20 ... Finished folds are skipped; one that fails leaves the others
    running. The results are those of running the folds one after another.

    Args:
        recipe: A recipe file (recipes/finetune_wavlm.py).
        experiment: One of its experiments.
        devices: GPUs to use, as 0,1,2; all of them when not given.
        jobs: Runs at a time on the CPU, which share its cores out.
        precision: Mixed precision of each run; what ACCELERATE_MIXED_PRECISION says when not given.
        only_report: Run nothing: write the report over what is finished, and name what is not and why (slurm/).
        logs: With --only-report, where the log of a fold's job is, as slurm-17_{fold}.out.
        arguments: The fields of the experiment.
    """
    from affect.cli.arguments import experiments_in, parse, recipe_of, without

    chosen, options = parse(experiment, recipe_of(experiment, experiments_in(recipe)), arguments, also=_FOLDS)
    if logs is not None and not only_report:
        raise AffectError("--logs is for --only-report: runs started here have their output.log")
    if only_report:
        _conclude(experiment, chosen, options, logs)
        return
    from affect.experiments import parallel
    from affect.experiments.folds import dry_run
    from affect.report import read, table

    places = parallel.slots(devices, jobs)
    if precision == "fp16" and places[0].name == "cpu":
        raise AffectError("--precision fp16 needs a GPU: give no or bf16")
    if options.dry_run:
        print(f"{dry_run(chosen, options)}\nat a time: {', '.join(place.name for place in places)}")
        return
    command = shlex.join(["affect", *sys.argv[1:]])
    kept = without(arguments, "seeds", "folds", "overwrite", "report", "dry_run")
    top, runs = parallel.run(
        recipe, experiment, chosen, options, kept, places=places, precision=precision, command=command
    )
    failed = [run for run in runs if run.state == "failed"]
    if options.report:
        print(f"\n{table(read(top))}\n\nreport: {top / 'report.md'}")
    for run in failed:
        print(f"failed: {run.name}: {run.error}", file=sys.stderr)
    if failed:
        again = "give the command again" + (" without --overwrite" if options.overwrite else "")
        print(f"error: {len(failed)} of {len(runs)} failed; {again} to go on with them alone", file=sys.stderr)
        sys.exit(1)


def _conclude(experiment: str, recipe: Recipe, options: Options, logs: str | None) -> None:
    from affect.experiments.parallel import conclude
    from affect.report import read, table

    top, left = conclude(experiment, recipe, options, logs)
    if top is not None and options.report:
        print(f"{table(read(top))}\n\nreport: {top / 'report.md'}")
    for run in left:
        print(f"failed: {run}", file=sys.stderr)
    if left:
        what = "and are not in the report" if top is not None else "and there is nothing to report"
        print(f"error: {len(left)} runs of {experiment} did not come to their end, {what}", file=sys.stderr)
        sys.exit(1)


def own_words(words: list[str]) -> tuple[list[str], list[str]]:
    """Return the words of `affect folds ...` that are its own, and those that go to the experiment."""
    from affect.cli.arguments import split

    count = next((k for k, word in enumerate(words) if word.startswith("-")), len(words))
    mine, rest = split(words[count:], _FOLDS)
    return [*words[:count], *mine], rest
