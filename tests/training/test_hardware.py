"""What a run asks of the machine under it."""

from __future__ import annotations

import pytest

from affect.training import hardware
from affect.training.distributed import join


@pytest.mark.parametrize(
    ("text", "precision", "warned"),
    [
        ("model name\t: Old\nflags\t\t: fpu avx2\n", "bf16", True),
        ("model name\t: Old\nflags\t\t: fpu avx2\n", None, False),
        ("model name\t: New\nflags\t\t: fpu avx512_bf16\n", "bf16", False),
        ("Features\t: fp asimd bf16\n", "bf16", False),
        ("", "bf16", False),
    ],
)
def test_bf16_on_a_processor_that_has_none_is_warned_of_once(tmp_path, monkeypatch, caplog, text, precision, warned):
    (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(hardware, "_CPUINFO", tmp_path / "cpuinfo")
    hardware.warn_of_bf16.cache_clear()
    for _ in range(2):
        join(precision=precision)
    words = "precision bf16 on Old, which has no AVX512_BF16: it may be slower than float32 here (--train.precision"
    assert caplog.messages == [f"{words} None)"] * warned
    hardware.warn_of_bf16.cache_clear()
