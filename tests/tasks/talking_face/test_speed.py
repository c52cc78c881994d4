"""Bounds on time for the task's own goals, by the functions of the benchmarks, on fewer clips than those take."""

from __future__ import annotations

import pytest
import torch

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]


def test_a_step_takes_seven_tenths_of_a_plain_loops(benchmark):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        (result,) = benchmark("score_epoch").measured(200, 1, 3, None)
    finally:
        torch.set_num_threads(threads)
    ours, theirs, padding = result
    print(f"{ours:.1f} s, plain {theirs:.1f} s, padding {padding:.2f}")
    assert ours <= 0.7 * theirs


def test_a_pickle_is_converted_at_100_mb_a_second(benchmark):
    size, seconds = benchmark("convert").measured(150, 3)
    print(size, seconds)
    assert size / min(seconds["convert"]) >= 100


@pytest.mark.parametrize(("width", "dtype"), [(17, "float32"), (768, "float16"), (2048, "float32")])
def test_rows_are_read_four_times_as_fast_as_of_a_column(benchmark, tmp_path, width, dtype):
    ours, theirs, _ = benchmark("store").compare(100, width, dtype, 3, tmp_path)
    print(ours, theirs)
    assert theirs >= 4 * ours
