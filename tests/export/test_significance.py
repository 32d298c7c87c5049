"""Intervals and paired tests against formulas, exact enumeration, and their symmetries."""

from __future__ import annotations

from itertools import product
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgelm_export.significance import bootstrap_interval, mcnemar_exact, paired_permutation
from edgelm_runtime.errors import InputError

ROWS = st.lists(st.sampled_from([-1.0, -0.25, 0.0, 0.5, 1.0]), min_size=2, max_size=9).map(np.array)


def test_the_interval_of_a_large_sample_is_that_of_the_normal_distribution() -> None:
    values = np.random.default_rng(0).normal(0.1, 1.0, 4000)
    low, high = bootstrap_interval(values)
    half = 1.959964 * values.std() / np.sqrt(len(values))
    assert low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert high == pytest.approx(values.mean() + half, abs=0.1 * half)
    wider = bootstrap_interval(values, confidence=0.99)
    assert wider[0] < low < high < wider[1]


@given(ROWS)
@settings(max_examples=30, deadline=None)
def test_the_interval_is_repeatable_and_inside_the_values(values: np.ndarray) -> None:
    low, high = bootstrap_interval(values, resamples=200)
    assert values.min() <= low <= high <= values.max()
    assert bootstrap_interval(values, resamples=200) == (low, high)
    assert bootstrap_interval(-values, resamples=200) == pytest.approx((-high, -low))


def test_an_interval_covers_the_mean_about_as_often_as_it_says() -> None:
    draw = np.random.default_rng(1)
    intervals = [bootstrap_interval(draw.normal(0.0, 1.0, 60), resamples=300) for _ in range(200)]
    assert 0.88 <= np.mean([low <= 0.0 <= high for low, high in intervals]) <= 0.99


@pytest.mark.parametrize(
    ("only_a", "only_b", "p"),
    [(0, 0, 1.0), (5, 5, 1.0), (1, 5, 14 / 64), (0, 8, 2 / 256), (2, 10, 158 / 4096)],
)
def test_mcnemar_of_known_tables(only_a: int, only_b: int, p: float) -> None:
    assert mcnemar_exact(only_a, only_b) == pytest.approx(p)


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_the_binomial_tail_twice_and_symmetric(only_a: int, only_b: int) -> None:
    count = only_a + only_b
    tail = sum(comb(count, k) for k in range(min(only_a, only_b) + 1)) / 2**count
    assert mcnemar_exact(only_a, only_b) == pytest.approx(min(1.0, 2 * tail))
    assert mcnemar_exact(only_a, only_b) == pytest.approx(mcnemar_exact(only_b, only_a))


def test_mcnemar_refuses_negative_numbers() -> None:
    with pytest.raises(ValueError, match="0 or more"):
        mcnemar_exact(-1, 3)


@given(ROWS)
@settings(max_examples=30, deadline=None)
def test_the_permutation_test_enumerates_all_signs_of_few_rows(values: np.ndarray) -> None:
    sums = np.array([np.dot(signs, values) for signs in product((-1.0, 1.0), repeat=len(values))])
    expected = min(1.0, 2 * float((sums >= abs(values.sum()) - 1e-9).mean()))
    assert paired_permutation(values) == pytest.approx(expected)
    assert paired_permutation(-values) == pytest.approx(expected)


def test_the_permutation_test_of_many_rows_draws() -> None:
    noise = np.random.default_rng(2).normal(0.0, 1.0, 3000)
    noise -= noise.mean()
    assert paired_permutation(noise) > 0.9
    assert paired_permutation(noise + 0.1) < 0.002
    assert paired_permutation(noise + 0.1) == paired_permutation(noise + 0.1)


@pytest.mark.parametrize("values", [np.zeros(0), np.zeros(1), np.array([0.0, np.nan]), np.zeros((2, 2))])
def test_too_few_rows_and_what_is_no_number_are_refused(values: np.ndarray) -> None:
    for measure in (bootstrap_interval, paired_permutation):
        with pytest.raises(InputError, match="at least 2 rows"):
            measure(values)
