"""What tests of recipe files share: runs in this process have the mean alone for a baseline."""

from __future__ import annotations

import pytest

from affect.baselines import features


@pytest.fixture(autouse=True)
def quick_baselines(monkeypatch):
    """Leave out the regressions, which take longer than three steps; those have tests of their own."""
    monkeypatch.setattr(features, "NAMES", ("constant",))
