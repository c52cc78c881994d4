"""The step on two real processes under DDP (gloo)."""

from __future__ import annotations

import pytest

from tests.distributed import step_worker
from tests.distributed.launch import launch
from tests.training import toy

pytestmark = pytest.mark.distributed


@pytest.fixture(scope="module")
def ranks():
    return launch(step_worker.main)


def test_gradients_of_two_ranks_equal_the_single_batch(ranks):
    for rank in ranks:
        assert rank["engine"] == "DDP"
        assert rank["cases"] == (len(toy.MIXES) * 4 + 40) * 3
        assert rank["worst"][1] < 1e-5, rank["worst"]


def test_both_ranks_name_the_terms_that_the_whole_batch_tells_nothing(ranks):
    for rank in ranks:
        assert rank["other"] == []
        assert rank["undefined"] > 20


def test_ranks_exchange_what_batch_terms_read_in_one_collective(ranks):
    for rank in ranks:
        for name in (*toy.ADDITIVE, "additive"):
            assert rank["widths"][name] == []
        assert rank["widths"]["ccc_valence"] == [2]
        assert rank["widths"]["gathered"] == [1 + 1 + 4 + 4 + 6 + 6 + 17 + 2 + 2]
