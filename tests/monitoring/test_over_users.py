"""Intervals over users, against the house's own and against leaving users out by hand."""

import numpy as np
import pytest

from courier_tf.monitoring.over_users import mean_per_request, sum_of_ratios
from courier_tf.ranking.intervals import spread_of


def test_each_user_is_left_out():
    rng = np.random.default_rng(0)
    user, above, below = rng.integers(0, 9, 60), rng.random([60, 2]), rng.random([60, 2])
    user[:9] = np.arange(9)
    figure = sum_of_ratios(user, above, below)
    assert figure.value == pytest.approx((above.sum(axis=0) / below.sum(axis=0)).sum())
    by_hand = [(above[user != u].sum(axis=0) / below[user != u].sum(axis=0)).sum() for u in range(9)]
    np.testing.assert_allclose(figure.without, by_hand)


def test_the_interval_is_that_of_rankers_whose_starts_agree():
    rng = np.random.default_rng(1)
    user = np.arange(200) % 12
    figure = mean_per_request(user, rng.normal(size=200) + user)
    half, error = spread_of(np.array([figure.value] * 2), np.stack([figure.without] * 2))
    assert (figure.half_width(), figure.error) == (pytest.approx(half), pytest.approx(error))


def test_one_user_has_no_interval():
    assert np.isinf(mean_per_request(np.zeros(5, int), np.arange(5.0)).half_width())
