"""Distances of distributions, against SciPy and by hand."""

import numpy as np
import pytest
from scipy import stats

from courier_tf.monitoring.distributions import (
    bin_borders,
    bin_counts,
    largest_distance,
    stability_index,
    stability_influence,
)

RNG = np.random.default_rng(0)


def test_the_index_is_the_sum_of_both_relative_entropies():
    p, q = np.array([4000, 3000, 3000]), np.array([2000, 5000, 3000])
    assert stability_index(p, q) == pytest.approx(stats.entropy(p, q) + stats.entropy(q, p), rel=1e-3)
    assert stability_index(p, 7 * p) == pytest.approx(0, abs=1e-6) and np.isfinite(
        stability_index(p, np.array([0, 0, 5]))
    )


def test_the_influence_is_the_derivative():
    expected, actual = np.array([3e6, 5e6, 2e6]), np.array([4e6, 4e6, 2e6])
    slopes = stability_influence(expected, actual)
    for side in (0, 1):
        for place in range(3):
            moved = [expected.copy(), actual.copy()]
            moved[side][place] += 100
            share = (moved[side] / moved[side].sum() - (expected, actual)[side] / 1e7) @ slopes[side]
            assert stability_index(*moved) - stability_index(expected, actual) == pytest.approx(share, rel=1e-2)


def test_the_largest_distance_is_that_of_scipy():
    first, second = RNG.normal(size=300), RNG.normal(0.3, 1, size=200).round(1)
    assert largest_distance(first, second) == pytest.approx(stats.ks_2samp(first, second).statistic)


def test_bins_hold_equal_shares_and_equal_values_share_one():
    values = RNG.normal(size=[1000, 3])
    counts = bin_counts(values, bin_borders(values.ravel()))
    assert counts.shape == (1000, 10) and (counts.sum(axis=1) == 3).all()
    np.testing.assert_allclose(counts.sum(axis=0), 300, atol=1)
    same = np.full([50, 2], 0.25)
    assert bin_counts(same, bin_borders(same.ravel())).sum(axis=0).tolist() == [100, 0]
