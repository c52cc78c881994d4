"""What a validation score does to a run: against torch's scheduler and plain restatements."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from affect.recipe import Optim, Recipe, Train
from affect.training.checkpoint import State
from affect.training.run_state import judge

SCORES = st.lists(st.integers(1, 64).map(lambda k: k / 64), min_size=1, max_size=50)
"""In steps that floats hold exactly: a score on a bar is on it by either way of writing it."""


def recipe(**fields) -> Recipe:
    optim = {k: v for k, v in fields.items() if k in Optim.__dataclass_fields__}
    train = {k: v for k, v in fields.items() if k in Train.__dataclass_fields__}
    assert len(optim) + len(train) == len(fields)
    return Recipe(optim=Optim(**optim), train=Train(**train))


def course(scores, settings, sign=1) -> list[tuple[bool, list[str], State]]:
    """Return what each evaluation said and left; evaluation k is of epoch k, after 10 (k + 1) steps."""
    state, found = State(), []
    for epoch, score in enumerate(scores):
        state.step = 10 * (epoch + 1)
        better, told = judge(state, score, sign, epoch, settings)
        found.append((better, told, replace(state)))
    return found


@settings(max_examples=150, deadline=None)
@given(
    SCORES, st.integers(0, 6), st.sampled_from([0.0, 1 / 16, 1e-4]), st.sampled_from([5e-4, 1e-2]),
    st.sampled_from([0.0, 1e-6, 1e-4]),
)  # fmt: skip
def test_the_plateau_is_torchs(scores, patience, threshold, lr, floor):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    wanted = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, mode="max", factor=0.5, patience=patience, threshold=threshold, min_lr=floor, eps=0.0
    )
    mine = recipe(
        schedule="plateau", plateau_patience=patience + 1, plateau_delta=threshold, lr=lr, floor=floor, epochs=100
    )
    before = 1.0
    for score, (_, told, state) in zip(scores, course(scores, mine), strict=True):
        wanted.step(score)
        assert lr * state.reduction == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)
        assert told == [f"no better score for {patience + 1} evaluations: rates halved"] * (state.reduction < before)
        before = state.reduction


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_other_schedules_reduce_nothing(schedule):
    found = course([0.5] * 20, recipe(schedule=schedule, plateau_patience=1))
    assert {state.reduction for _, _, state in found} == {1.0}
    assert all(told == [] for _, told, _ in found)


def stopped_at(scores, patience, every, delta) -> int | None:
    """Return the first evaluation after which patience epochs brought no rise of delta over the bar; restated."""
    bar = 0
    for k, score in enumerate(scores):
        if score > scores[bar] + delta:
            bar = k
        if (k - bar) * every >= patience:
            return k
    return None


@settings(max_examples=150, deadline=None)
@given(SCORES, st.integers(1, 8), st.integers(1, 3), st.sampled_from([0.0, 1e-3, 1 / 8]))
def test_early_stopping_by_a_plain_restatement(scores, patience, every, delta):
    found = course(scores, recipe(patience=patience, evaluate_every=every, min_delta=delta))
    wanted = stopped_at(scores, patience, every, delta)
    assert next((k for k, (_, _, state) in enumerate(found) if state.stopped), None) == wanted
    if wanted is not None:
        assert found[wanted][1] == [f"stopping early: no better validation score for {patience} epochs"]


@settings(max_examples=100, deadline=None)
@given(SCORES, st.sampled_from([0.0, 1 / 8]), st.sampled_from([0.0, 1 / 8]))
def test_the_weights_kept_are_the_first_of_the_best_score(scores, delta, threshold):
    """Whatever bar early stopping and the plateau have."""
    found = course(scores, recipe(min_delta=delta, plateau_delta=threshold, schedule="plateau", patience=3))
    for k, (better, _, state) in enumerate(found):
        seen = scores[: k + 1]
        first = seen.index(max(seen))
        assert better == (first == k)
        assert (state.best, state.best_epoch, state.best_step) == (max(seen), first, 10 * (first + 1))


@given(SCORES)
def test_the_last_weights_are_kept_where_the_recipe_says_so(scores):
    found = course(scores, recipe(choose="last"))
    for k, (better, _, state) in enumerate(found):
        assert better
        assert (state.best, state.best_epoch, state.best_step) == (scores[k], k, 10 * (k + 1))
        assert not state.stopped


def test_negative_scores_rise_too():
    """emoval is under 0 as long as valence is far off."""
    rising = [-4.0, -3.0, -2.0, -1.0]
    found = course(rising, recipe(schedule="plateau", plateau_patience=1, plateau_delta=0.1, patience=1, min_delta=0.1))
    assert [better for better, _, _ in found] == [True] * 4
    assert found[-1][2].reduction == 1.0 and not found[-1][2].stopped
    flat = course([-4.0, -3.9], recipe(schedule="plateau", plateau_patience=1, plateau_delta=0.1))
    assert flat[-1][2].reduction == 0.5, "a rise by less than a tenth of itself is none"


def test_each_has_a_bar_of_its_own():
    """Small rises: kept every time, never enough for early stopping's bar until they add up."""
    scores = [0.50, 0.53, 0.56, 0.59, 0.62]
    found = course(scores, recipe(min_delta=0.1, patience=10, plateau_delta=0.05, schedule="plateau"))
    assert [better for better, _, _ in found] == [True] * 5
    assert [state.worse for _, _, state in found] == [0, 1, 2, 3, 0]
    assert [state.flat for _, _, state in found] == [0, 0, 0, 0, 0]
    assert [state.mark for _, _, state in found] == [0.5] * 4 + [0.62]


@given(SCORES, st.integers(0, 49))
def test_a_state_from_a_file_goes_on_as_if_nothing_had_been(scores, cut):
    mine = recipe(schedule="plateau", plateau_patience=2, patience=4, min_delta=1 / 8)
    whole = course(scores, mine)
    cut = min(cut, len(scores) - 1)
    state = State(**asdict(whole[cut][2]))
    for epoch in range(cut + 1, len(scores)):
        state.step = 10 * (epoch + 1)
        judge(state, scores[epoch], 1, epoch, mine)
    assert asdict(state) == asdict(whole[-1][2])


def test_reductions_never_rise():
    found = course([0.5] * 30, recipe(schedule="plateau", plateau_patience=1, lr=1e-3, floor=3e-4))
    factors = [state.reduction for _, _, state in found]
    assert all(a >= b for a, b in pairwise(factors))
    assert factors[-1] == pytest.approx(0.3)


@given(SCORES, st.booleans())
def test_lower_scores_are_judged_as_higher_ones_of_the_other_sign(scores, plateau):
    """An error that falls does to a run what its negative, rising, would."""
    schedule = "plateau" if plateau else "constant"
    mine = recipe(schedule=schedule, plateau_patience=2, plateau_delta=1 / 16, patience=4, min_delta=1 / 8)
    for (a, told, falls), (b, said, rises) in zip(
        course(scores, mine, sign=-1), course([-score for score in scores], mine), strict=True
    ):
        assert (a, told) == (b, said)
        assert (falls.best, falls.best_epoch, falls.worse, falls.flat, falls.reduction) == (
            -rises.best, rises.best_epoch, rises.worse, rises.flat, rises.reduction,
        )  # fmt: skip
    assert falls.best == min(scores)


@given(
    st.lists(st.sampled_from([0.25, 0.5, 0.75, math.nan, math.inf]), min_size=1, max_size=20), st.sampled_from([1, -1])
)
def test_a_score_that_is_not_defined_is_never_better(scores, sign):
    found = course(scores, recipe(patience=5), sign)
    for score, (better, _, _) in zip(scores, found, strict=True):
        assert math.isfinite(score) or not better
    defined = [score for score in scores if math.isfinite(score)]
    assert found[-1][2].best == ((max if sign == 1 else min)(defined) if defined else None)
    last = course(scores, recipe(choose="last"), sign)[-1][2]
    assert last.best_epoch == len(scores) - 1
    assert last.best_step > 0, "the last weights are kept whatever their score"
    assert last.best == (scores[-1] if math.isfinite(scores[-1]) else None)
