from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from affect.data.conditions import MODALITIES, NAMES, Condition, keep, noise, parse, power, shuffle
from affect.errors import AffectError

QUICK = settings(max_examples=60, deadline=None)
letters = st.sampled_from(list(MODALITIES))
rates = st.floats(0, 1)
seeds = st.integers(0, 5)


@st.composite
def corpora(draw, least: int = 0) -> tuple[list[str], np.ndarray]:
    """Return ids and what each has: any presence, none at all too."""
    ids = draw(st.lists(st.text(min_size=1, max_size=6), unique=True, min_size=least, max_size=12))
    return ids, draw(arrays(np.bool_, (len(ids), 3)))


def full(size: int) -> tuple[list[str], np.ndarray]:
    return [f"sample_{i:05d}" for i in range(size)], np.ones((size, 3), np.bool_)


def test_the_names_are_those_of_the_evaluation() -> None:
    assert NAMES == (
        "subset=A", "subset=T", "subset=V", "subset=AT", "subset=AV", "subset=TV", "subset=ATV",
        "missing=0.0", "missing=0.1", "missing=0.2", "missing=0.3", "missing=0.4", "missing=0.5", "missing=0.6",
        "missing=0.7", "snr=20", "snr=10", "snr=5", "snr=0", "shuffle=A", "shuffle=T", "shuffle=V",
    )  # fmt: skip
    assert list(MODALITIES.values()) == ["audio", "text", "video"]
    assert len({parse(name) for name in NAMES}) == len(NAMES)
    assert parse("subset=AT") == Condition("subset", "AT")
    assert parse("subset=TA") == Condition("subset", "AT")
    assert parse("missing=0.3") == Condition("missing", 0.3)
    assert parse("snr=-2.5") == Condition("snr", -2.5)
    assert parse("shuffle=V") == Condition("shuffle", "V")


@pytest.mark.parametrize(
    "name",
    ["", "subset", "subset=", "subset=AA", "subset=AX", "missing=1.1", "missing=-0.1", "missing=nan", "missing=",
     "snr=loud", "snr=inf", "snr=9999", "shuffle=AT", "shuffle=", "blur=3", "Subset=A", "missing=0.3 "],
)  # fmt: skip
def test_another_name_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(AffectError, match="unknown test condition") as error:
        parse(name)
    assert repr(name) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_misspelt_name_is_guessed() -> None:
    with pytest.raises(AffectError, match="did you mean 'snr=10'"):
        parse("snr=10dB")


@QUICK
@given(corpora(), st.sampled_from(["A", "T", "V", "AT", "AV", "TV", "ATV"]))
def test_a_subset_keeps_what_it_names_and_is_there(corpus, subset: str) -> None:
    ids, present = corpus
    before = present.copy()
    expected = [[there and letter in subset for letter, there in zip("ATV", row, strict=True)] for row in present]
    assert keep(Condition("subset", subset), ids, present).tolist() == expected
    assert (present == before).all()


@QUICK
@given(corpora(), st.sampled_from(["snr=10", "shuffle=T"]))
def test_other_conditions_take_nothing_away(corpus, name: str) -> None:
    ids, present = corpus
    kept = keep(parse(name), ids, present)
    assert (kept == present).all()
    assert not np.shares_memory(kept, present)


@QUICK
@given(corpora(), rates, rates, seeds)
def test_what_is_missing_stays_missing_at_higher_rates(corpus, one: float, other: float, seed: int) -> None:
    ids, present = corpus
    low, high = (keep(Condition("missing", rate), ids, present, seed=seed) for rate in sorted((one, other)))
    assert (high <= low).all()
    assert (low <= present).all()
    assert (high.any(1) == present.any(1)).all(), "something is always left of what is there"


@QUICK
@given(corpora(), rates, seeds)
def test_one_present_modality_is_never_dropped_and_rate_0_drops_none(corpus, rate: float, seed: int) -> None:
    ids, present = corpus
    assert (keep(Condition("missing", 0.0), ids, present, seed=seed) == present).all()
    alone = present.sum(1) == 1
    assert (keep(Condition("missing", rate), ids, present, seed=seed)[alone] == present[alone]).all()
    assert (keep(Condition("missing", 1.0), ids, present, seed=seed).sum(1) == present.any(1)).all()


@QUICK
@given(corpora(least=1), st.randoms(), rates, seeds)
def test_rows_are_treated_by_id_alone(corpus, random, rate: float, seed: int) -> None:
    ids, present = corpus
    chosen = random.sample(range(len(ids)), random.randint(1, len(ids)))
    some = [ids[i] for i in chosen]
    condition = Condition("missing", rate)
    assert (keep(condition, some, present[chosen], seed=seed) == keep(condition, ids, present, seed=seed)[chosen]).all()
    values = np.where(present[:, :1], np.arange(1.0, 5.0), 0.0).astype(np.float32)
    loud = Condition("snr", 0.0)
    assert (
        noise(loud, some, "audio", values[chosen], 2.0, seed=seed)
        == noise(loud, ids, "audio", values, 2.0, seed=seed)[chosen]
    ).all()


@pytest.mark.parametrize("rate", [0.1, 0.4, 0.7])
def test_the_rate_is_the_one_that_is_said(rate: float) -> None:
    ids, present = full(4000)
    for have in (3, 2):
        present[:, have:] = False
        missing = 1 - keep(Condition("missing", rate), ids, present)[:, :have].mean()
        assert missing == pytest.approx(rate - rate**have / have, abs=0.02)


def test_what_is_kept_of_nothing_is_any_of_them() -> None:
    ids, present = full(3000)
    left = keep(Condition("missing", 1.0), ids, present)
    assert left.mean(0) == pytest.approx([1 / 3] * 3, abs=0.03)
    # Modalities fall out independently: at .3 two at once as often as by chance.
    gone = ~keep(Condition("missing", 0.3), ids, present)
    assert (gone[:, 0] & gone[:, 1]).mean() == pytest.approx(0.09 - 0.3**3 / 3, abs=0.02)
    assert not (keep(Condition("missing", 0.3), ids, present, seed=1) == ~gone).all()


def test_masks_are_those_of_every_machine_and_process() -> None:
    """Python's own hash() would differ from process to process."""
    code = (
        "import numpy as np; from affect.data.conditions import *;"
        "ids = ['a', 'b', 'é', '例']; p = np.ones((4, 3), bool);"
        "print((keep(parse('missing=0.7'), ids, p) * 1).tolist(), shuffle(parse('shuffle=A'), ids, p).tolist())"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found.strip() == "[[0, 1, 0], [0, 0, 1], [0, 1, 0], [1, 0, 1]] [3, 2, 0, 1]"


@pytest.mark.parametrize("decibels", [20, 10, 5, 0])
def test_the_ratio_is_the_one_that_is_asked(decibels: int) -> None:
    ids, _ = full(300)
    random = np.random.default_rng(0)
    train = (50 + 3 * random.normal(0, 1, (500, 64))).astype(np.float32)
    values = (50 + 3 * random.normal(0, 1, (300, 64))).astype(np.float32)
    added = noise(parse(f"snr={decibels}"), ids, "video", values, power(train)) - values
    assert 10 * np.log10(9 / np.mean(np.square(added))) == pytest.approx(decibels, abs=0.15)
    assert abs(added.mean()) < 0.05 * added.std()
    # Gaussian: a third beyond one deviation, one in twenty beyond two.
    size = np.abs(added / added.std())
    assert (size > 1).mean() == pytest.approx(0.317, abs=0.015)
    assert (size > 2).mean() == pytest.approx(0.0455, abs=0.006)


@QUICK
@given(corpora(least=1), seeds, st.integers(1, 9))
def test_missing_rows_stay_zero_and_present_ones_do_not_stay(corpus, seed: int, width: int) -> None:
    ids, present = corpus
    values = np.where(present[:, 1:2], np.arange(1.0, width + 1), 0.0).astype(np.float32)
    before = values.copy()
    noisy = noise(Condition("snr", 0.0), ids, "text", values, 1.0, seed=seed)
    assert not noisy[~present[:, 1]].any()
    assert (noisy[present[:, 1]] != values[present[:, 1]]).any(1).all()
    assert noisy.dtype == np.float32
    assert (values == before).all()


def test_streams_seeds_and_rows_have_their_own_noise_and_ratios_share_it() -> None:
    ids, _ = full(50)
    values = np.ones((50, 40), np.float32)

    def added(stream: str, decibels: float = 0.0, seed: int = 0) -> np.ndarray:
        return noise(Condition("snr", decibels), ids, stream, values, 1.0, seed=seed) - 1

    audio = added("audio")
    for other in (added("text"), added("audio_2"), added("audio", seed=1), np.roll(audio, 1, axis=0)):
        assert abs(np.corrcoef(audio.ravel(), other.ravel())[0, 1]) < 0.1
    assert added("audio", 20.0) == pytest.approx(audio / 10, abs=1e-6)
    assert (noise(parse("snr=5"), ids, "audio", values, 0.0) == values).all(), "a constant stream has no power"


@QUICK
@given(st.integers(1, 600), st.integers(1, 4), st.integers(0, 99))
def test_power_is_that_of_the_rows_that_are_there(rows: int, width: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    values = random.normal(random.normal(0, 30, width), 2, (rows, width)).astype(np.float32)
    values[random.random(rows) < 0.4] = 0
    there = values[values.any(1)].astype(np.float64)
    assume(len(there) > 0)
    assert power(values) == pytest.approx(there.var(0).mean(), rel=1e-6, abs=1e-9)


@QUICK
@given(corpora(), letters, seeds)
def test_a_shuffle_gives_each_row_another_ones(corpus, letter: str, seed: int) -> None:
    ids, present = corpus
    column = "ATV".index(letter)
    there = present[:, column]
    source = shuffle(Condition("shuffle", letter), ids, present, seed=seed)
    assert sorted(source.tolist()) == list(range(len(ids)))
    own = source == np.arange(len(ids))
    assert own[~there].all()
    assert own[there].all() if there.sum() < 2 else not own[there].any()
    assert there[source[there]].all()


@QUICK
@given(corpora(), letters, seeds, st.randoms())
def test_a_shuffle_does_not_see_the_order_of_rows(corpus, letter: str, seed: int, random) -> None:
    ids, present = corpus
    order = random.sample(range(len(ids)), len(ids))
    mixed = [ids[i] for i in order]
    condition = Condition("shuffle", letter)
    here = shuffle(condition, ids, present, seed=seed)
    there = shuffle(condition, mixed, present[order], seed=seed)
    assert {ids[i]: ids[here[i]] for i in range(len(ids))} == {mixed[i]: mixed[there[i]] for i in range(len(ids))}


def test_shuffles_differ_by_seed_and_modality() -> None:
    ids, present = full(100)
    one = shuffle(parse("shuffle=A"), ids, present)
    for other in (shuffle(parse("shuffle=T"), ids, present), shuffle(parse("shuffle=A"), ids, present, seed=1)):
        assert (one == other).mean() < 0.1
    assert not (np.diff(one) == 1).mean() > 0.1, "not the neighbour in the corpus's order"


def test_the_conditions_of_a_corpus_take_seconds() -> None:
    """Every condition of a quarter of MER2023's rows, at its widths."""
    ids, present = full(625)
    streams = {name: np.ones((625, width), np.float32) for name, width in zip(MODALITIES.values(), (1024, 5120, 768),
                                                                             strict=True)}  # fmt: skip
    start = time.perf_counter()
    for name in NAMES:
        condition = parse(name)
        keep(condition, ids, present)
        if condition.kind == "shuffle":
            shuffle(condition, ids, present)
        if condition.kind == "snr":
            for stream, values in streams.items():
                noise(condition, ids, stream, values, 1.0)
    assert time.perf_counter() - start < 3  # measured: .7 s


def test_a_stream_of_nothing_has_no_power() -> None:
    with pytest.raises(ValueError, match="no power"):
        power(np.zeros((3, 4), np.float32))
