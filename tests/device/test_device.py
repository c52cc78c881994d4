"""Runs the checks on the device in a process of its own: PyTorch registers one for good, others' tests with it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.device import device

CHECKS = Path(__file__).with_name("on_device.py")
ROOT = CHECKS.parents[2]


def test_an_accelerator_computes_what_the_cpu_does():
    if (reason := device.reason_against()) is not None:
        pytest.skip(f"no accelerator can be stood in for: {reason}")
    command = (sys.executable, "-m", "pytest", str(CHECKS), "-p", "no:cacheprovider", "--tb=short", "--color=no")
    # As a process of the command line: not as a worker of the session that asks.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
