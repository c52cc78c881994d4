"""The command line: what recipe files and the `affect` command call. Loads no tensor library."""

from affect.cli.arguments import Experiment, experiments_in, experiments_of, parse
from affect.cli.main import launch, main, overview
from affect.cli.terminal import guarded

__all__ = ["Experiment", "experiments_in", "experiments_of", "guarded", "launch", "main", "overview", "parse"]
