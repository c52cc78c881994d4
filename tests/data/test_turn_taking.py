"""Who speaks when: rules are kept, and what is fitted to real turns is like them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ks_2samp

from affect.data.activity import RATE, in_samples
from affect.data.rttm import Turn, read_rttm
from affect.data.simulation import Simulation
from affect.data.turn_taking import fit, fitted, overlap_ratio, uniform
from affect.errors import AffectError


def by_speaker(placed, speaker):
    return sorted((start, end) for start, end, who in placed if who == speaker)


def apart(placed, speakers):
    """Whether nobody speaks twice at once."""
    own = [by_speaker(placed, speaker) for speaker in range(speakers)]
    return all(before[1] <= after[0] for turns in own for before, after in zip(turns, turns[1:], strict=False))


def in_turns(placed):
    """Return placed turns as seconds, moved to begin at 0."""
    first = min(start for start, _, _ in placed)
    return [Turn((start - first) / RATE, (end - first) / RATE, str(who)) for start, end, who in placed]


@pytest.mark.parametrize("speakers", [1, 2, 3, 5])
@pytest.mark.parametrize("seconds", [2, 8, 90])
def test_rules_of_the_uniform_kind(speakers, seconds):
    rules = Simulation(turn=(0.5, 2.0), gap=1.5)
    for seed in range(5):
        placed = uniform(np.random.default_rng(seed), speakers, seconds * RATE, rules)
        assert apart(placed, speakers)
        assert all(0.5 * RATE <= end - start <= 2.0 * RATE for start, end, _ in placed)
        main = by_speaker(placed, 0)
        pauses = [after[0] - before[1] for before, after in zip(main, main[1:], strict=False)]
        assert all(0 <= pause <= 1.5 * RATE for pause in pauses) and main[-1][1] + 1.5 * RATE >= seconds * RATE
        assert {who for *_, who in placed} == set(range(speakers)) or seconds == 2


@pytest.mark.parametrize("target", [0.1, 0.2, 0.35])
def test_overlap_is_what_is_asked_for(target):
    size = 60 * RATE
    for speakers in (2, 4):
        made = [uniform(np.random.default_rng(k), speakers, size, Simulation(overlap=target)) for k in range(12)]
        inside = [[(max(a, 0), min(b, size), who) for a, b, who in placed if a < size and b > 0] for placed in made]
        assert np.mean([overlap_ratio(placed) for placed in inside]) == pytest.approx(target, abs=0.02)


def test_overlap_ratio_counts_samples():
    random = np.random.default_rng(0)
    for _ in range(20):
        placed = [(int(a), int(a + n), k) for k, (a, n) in enumerate(random.integers(1, 300, (5, 2)))]
        count = np.zeros(700, int)
        for start, end, _ in placed:
            count[start:end] += 1
        assert overlap_ratio(placed) == pytest.approx((count > 1).sum() / (count > 0).sum())
    assert overlap_ratio([]) == 0


def test_what_is_fitted_by_hand():
    turns = [Turn(0, 10, "A"), Turn(4, 4.5, "B"), Turn(10.5, 12, "A"), Turn(11, 14, "C"), Turn(15, 16, "A")]
    real = fit({"f": turns})
    # B answers inside A's turn, which has the floor still when A goes on.
    rows = sorted(zip(real.held, real.gap, real.length, real.same, strict=True))
    assert rows == [(1.5, -1.0, 3.0, False), (3.0, 1.0, 1.0, False), (10.0, -6.0, 0.5, False), (10.0, 0.5, 1.5, True)]
    assert real.back == 1.0
    said = real.summary()
    assert said["pause_same"] == 0.5 and said["pause_other"] == 1.0 and said["overlap"] == 3.5 and said["turn"] == 1.5
    assert np.isnan(fit({"f": turns[:2]}).back)


def test_nothing_to_be_fitted_to():
    with pytest.raises(AffectError, match="no turn follows another one"):
        fit({"f": [Turn(0, 1, "A")], "g": []})


def made(seed: int, speakers: int, count: int = 3000) -> dict[str, list[Turn]]:
    """Return turns of known statistics: pauses of 0.4 and 1.0 s, overlaps of 0.5 s, short answers inside of turns."""
    random = np.random.default_rng(seed)
    turns, end, holder = [Turn(0.0, 2.0, "0")], 2.0, 0
    for _ in range(count):
        kind, length = random.random(), float(random.gamma(2.0, 1.2)) + 0.2
        others = [k for k in range(speakers) if k != holder]
        other = others[int(random.integers(len(others)))]
        if kind < 0.3:
            start = end + float(random.exponential(0.4))
        elif kind < 0.6:
            start, holder = end + float(random.exponential(1.0)), other
        elif kind < 0.8:
            start, holder, length = end - min(0.5, length / 2), other, length + 1
        else:
            start = end + 0.2
            turns.append(Turn(turns[-1].start + 0.1, turns[-1].start + 0.3, str(other)))
        turns.append(Turn(start, start + length, str(holder)))
        end = start + length
    return {"f": turns}


@pytest.mark.parametrize("speakers", [2, 4])
def test_conversations_are_like_those_they_were_fitted_to(speakers):
    recordings = made(0, speakers)
    real = fit(recordings)
    placed = {str(k): fitted(np.random.default_rng(k), speakers, 900 * RATE, real) for k in range(8)}
    assert all(apart(turns, speakers) for turns in placed.values())
    again, expected = fit({name: in_turns(turns) for name, turns in placed.items()}).summary(), real.summary()
    for name, value in expected.items():
        assert again[name] == pytest.approx(value, rel=0.15, abs=0.03), name
    ratio = np.mean([overlap_ratio(turns) for turns in placed.values()])
    assert ratio == pytest.approx(overlap_ratio(in_samples(recordings["f"])), abs=0.03)


def test_one_speaker_and_few_real_turns():
    real = fit({"f": [Turn(0, 5, "A"), Turn(1, 2, "B"), Turn(3, 4, "B")]})
    assert np.isnan(real.back)
    for speakers in (1, 2, 3):
        placed = fitted(np.random.default_rng(1), speakers, 40 * RATE, real)
        assert apart(placed, speakers) and {who for *_, who in placed} <= set(range(speakers))
        assert max(end for _, end, _ in placed) >= 40 * RATE


def test_meetings(real_data):
    recordings = read_rttm(real_data / "rttm_pairs" / "ami_ref")
    real = fit(recordings)
    placed = {str(k): fitted(np.random.default_rng(k), 4, 1200 * RATE, real) for k in range(8)}
    again = fit({name: in_turns(turns) for name, turns in placed.items()})
    for name in ("turn", "same", "overlapped"):
        assert again.summary()[name] == pytest.approx(real.summary()[name], rel=0.1, abs=0.02), name
    # Pauses and overlaps, and lengths, are distributed alike (the mean of pauses is that of a few long ones).
    for one, other in ((again.gap, real.gap), (again.length, real.length)):
        assert ks_2samp(one, other).statistic < 0.06
    ratios = [overlap_ratio(in_samples(turns)) for turns in recordings.values()]
    assert np.mean([overlap_ratio(turns) for turns in placed.values()]) == pytest.approx(np.mean(ratios), abs=0.03)
    assert again.back == pytest.approx(real.back, abs=0.08)
