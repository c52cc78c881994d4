"""The subcommands that run recipes: folds side by side, the processes of a machine, and a rank under Slurm."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from affect.cli.arguments import experiments_in, named, parse, recipe_of, split, without
from affect.errors import AffectError
from affect.experiments.definitions import Suite

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
    running. The results are those of running the folds one after another. A suite is given member by member.

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
    there = experiments_in(recipe)
    _refuse_suite(recipe, experiment, named(experiment, there)())
    chosen, options = parse(experiment, recipe_of(experiment, there), arguments, also=_FOLDS)
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
    if options.report:
        print(f"\n{table(read(top))}\n\nreport: {top / 'report.md'}")
    again = "give the command again" + (" without --overwrite" if options.overwrite else "")
    _fail(
        [f"{run.name}: {run.error}" for run in runs if run.state == "failed"],
        f"of {len(runs)} failed; {again} to go on with them alone",
    )


def _refuse_suite(recipe: Path, experiment: str, made: object) -> None:
    """Raise AffectError for a suite, with the loop over its members: each has folds of its own."""
    if isinstance(made, Suite):
        loop = f"for each in {' '.join(made.members)}; do affect folds {recipe} $each ...; done"
        page = f"python {recipe} {experiment} ..., which skips what is finished and compares them"
        raise AffectError(f"{experiment} is a suite, which is given member by member: {loop}; then {page}")


def _conclude(experiment: str, recipe: Recipe, options: Options, logs: str | None) -> None:
    from affect.experiments.parallel import conclude
    from affect.report import read, table

    top, left = conclude(experiment, recipe, options, logs)
    if top is not None and options.report:
        print(f"{table(read(top))}\n\nreport: {top / 'report.md'}")
    what = "and are not in the report" if top is not None else "and there is nothing to report"
    _fail(list(map(str, left)), f"runs of {experiment} did not come to their end, {what}")


def _fail(failed: list[str], what: str) -> None:
    """End the process with 1 where runs failed, each of them named, and how many `what` is said of."""
    if failed:
        lines = [*(f"failed: {run}" for run in failed), f"error: {len(failed)} {what}"]
        print("\n".join(lines), file=sys.stderr)
        sys.exit(1)


def own_words(words: list[str]) -> tuple[list[str], list[str]]:
    """Return the words of `affect folds ...` that are its own, and those that go to the experiment."""
    count = next((k for k, word in enumerate(words) if word.startswith("-")), len(words))
    own, rest = split(words[count:], _FOLDS)
    return [*words[:count], *own], rest


def launch(
    script: Annotated[Path, tyro.conf.Positional],
    /,
    config_file: Path | None = None,
    engine: str | None = None,
    num_processes: int | None = None,
    arguments: tyro.conf.Suppress[tuple[str, ...]] = (),
) -> None:
    """Run a recipe file on all GPUs of this machine (else on its CPU), or as one rank of a Slurm step.

    affect launch RECIPE.py EXPERIMENT ... starts a process a GPU, as `accelerate launch` would, with its launch files
    and without its warnings; Ctrl-C and exit codes are the run's own. What follows the recipe file goes to it.
    srun affect launch [--engine zero2] RECIPE.py EXPERIMENT ... makes a rank of each task of srun: one task a GPU.
    Processes and nodes are then those of the step, whatever the launch file says of them.

    Args:
        script: A recipe file (recipes/finetune_wavlm.py).
        config_file: A launch file of Accelerate's.
        engine: A launch file by its name: zero2 is accelerate_configs/zero2.yaml; under Slurm ddp when neither is
            given, else what `accelerate config` wrote, if anything.
        num_processes: Processes on this machine; as the launch file says, or a process a GPU, when not given.
        arguments: The experiment and its fields.
    """
    from affect import launcher

    if config_file is not None and engine is not None:
        raise AffectError(f"--config-file {config_file} and --engine {engine} are one or the other")
    path = config_file if engine is None else launcher.configuration(engine)
    if "SLURM_JOB_ID" not in os.environ:
        command = shlex.join(["affect", *sys.argv[1:]])
        if code := launcher.start_here(path, num_processes, script, arguments, command):
            sys.exit(code)
        return
    if num_processes is not None:
        raise AffectError("--num-processes is for a machine without Slurm: here the tasks of srun are the processes")
    words = [word for word in arguments if word not in ("-h", "--help")]
    for field in ("overwrite", "resume"):
        if without(words, field) != words:
            raise AffectError(
                f"--{field} is not for a job: requeued, it would begin anew each time; remove the run's folder first, "
                "or give --name"
            )
    path = path or launcher.configuration("ddp")
    launcher.start(path, script, arguments, shlex.join(["srun", "affect", *sys.argv[1:]]))


def launch_words(words: list[str]) -> tuple[list[str], list[str]]:
    """Return the words of `affect launch ...` up to the recipe file, and those that go to it."""
    at = 1
    while at < len(words) and words[at].startswith("-"):
        # An option's value is the word after it, unless it brings it along or has none.
        at += 1 if "=" in words[at] or words[at] in ("-h", "--help") else 2
    return words[: at + 1], words[at + 1 :]
