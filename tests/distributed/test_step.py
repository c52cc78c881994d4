"""The step on two real processes under DDP (gloo)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.distributed.launch import launch

HERE = Path(__file__).parent


@pytest.mark.distributed
def test_gradients_of_two_ranks_equal_the_single_batch():
    ranks = launch(str(HERE / "step_worker.py"))
    for rank in ranks:
        assert rank["engine"] == "DDP"
        assert len(rank["errors"]) == 9 * 2 * 4
        worst = max(rank["errors"].items(), key=lambda item: item[1])
        assert worst[1] < 1e-5, worst
