"""Krippendorff's alpha, held against the examples that are published with it."""

import math

import pytest

from affect.data.agreement import alpha_of_names, alpha_of_numbers

NAN = math.nan
RATERS = (
    (NAN, NAN, NAN, NAN, NAN, 3, 4, 1, 2, 1, 1, 3, 3, NAN, 3),
    (1, NAN, 2, 1, 3, 3, 4, 3, NAN, NAN, NAN, NAN, NAN, NAN, NAN),
    (NAN, NAN, 2, 1, 3, 4, 4, NAN, 2, 1, 1, 3, 3, NAN, 4),
)
"""The three coders of Krippendorff's "Computing Krippendorff's alpha-reliability", missing values and all."""
UNITS = list(zip(*RATERS, strict=True))


def test_the_published_example():
    assert alpha_of_numbers(UNITS) == pytest.approx(0.811, abs=5e-4)
    names = [["" if value != value else str(value) for value in unit] for unit in UNITS]
    assert alpha_of_names(names) == pytest.approx(0.691, abs=5e-4)


def test_it_does_not_depend_on_where_the_scale_lies():
    assert alpha_of_numbers([[1e6 + value for value in unit] for unit in UNITS]) == pytest.approx(0.811, abs=5e-4)


def test_agreement_and_none_at_all():
    assert alpha_of_numbers([(1, 1), (5, 5)]) == 1.0 == alpha_of_names([("a", "a"), ("b", "b")])
    assert alpha_of_numbers([(1, 5), (5, 1)]) < 0 > alpha_of_names([("a", "b"), ("b", "a")])


@pytest.mark.parametrize("units", [[], [(1.0,)], [(2.0, 2.0), (2.0, 2.0)], [(1.0, NAN), (2.0, NAN)]])
def test_undefined_is_not_nought(units):
    assert math.isnan(alpha_of_numbers(units))
    assert math.isnan(alpha_of_names([["" if value != value else str(value) for value in unit] for unit in units]))
