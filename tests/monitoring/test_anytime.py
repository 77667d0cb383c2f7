"""Confidence sequences: they hold at all looks together, where intervals of single looks do not."""

import numpy as np
import pytest

from courier_tf.monitoring.anytime import Difference, clustered_variance, half_width, harmonic

LOOKS = np.unique(np.geomspace(50, 20_000, 150).astype(int))


def share_that_holds_at_all_looks(half_of):
    """The share of 400 series of coin tosses whose every look holds the truth; `half_of(error, users)`."""
    tosses = np.random.default_rng(0).random([400, LOOKS[-1]]) < 0.3
    mean = np.cumsum(tosses, axis=1)[:, LOOKS - 1] / LOOKS
    error = np.sqrt(mean * (1 - mean) / LOOKS)
    half = np.array([[half_of(each, users) for each, users in zip(row, LOOKS, strict=True)] for row in error])
    return (abs(mean - 0.3) <= half).all(axis=1).mean()


def test_a_sequence_holds_at_all_looks_and_single_intervals_do_not():
    assert share_that_holds_at_all_looks(lambda error, users: half_width(error, users, 0.95)) >= 0.93
    assert share_that_holds_at_all_looks(lambda error, users: 1.96 * error) < 0.75


def test_the_width_is_the_formula_of_waudby_smith():
    """Theorem 2.2 with a deviation of 1, written as it stands there."""
    users, alpha, tightest = 5000, 0.05, 1000
    rho = np.sqrt((-2 * np.log(alpha) + np.log(-2 * np.log(alpha) + 1)) / tightest)
    inside = 2 * (users * rho**2 + 1) / (users**2 * rho**2) * np.log(np.sqrt(users * rho**2 + 1) / alpha)
    assert half_width(1 / np.sqrt(users), users, 1 - alpha) == pytest.approx(np.sqrt(inside))


def test_nothing_is_known_of_nobody():
    assert half_width(0.1, 0, 0.95) == np.inf and harmonic(0, 5) == 0
    assert Difference(1.0, 0.1, 100).ends(0.95)[0] < 1 < Difference(1.0, 0.1, 100).ends(0.95)[1]


def test_requests_of_a_user_count_as_one():
    """Each user twice, with the same value: the variance of a mean is that of the users."""
    value = np.random.default_rng(1).normal(size=500)
    once = clustered_variance(np.arange(500), (value - value.mean()) / 500)
    twice = clustered_variance(np.repeat(np.arange(500), 2), np.repeat((value - value.mean()) / 1000, 2))
    assert twice == pytest.approx(once) == pytest.approx(value.var(ddof=1) / 500)
    assert clustered_variance(np.zeros(3, int), np.ones(3)) == np.inf
