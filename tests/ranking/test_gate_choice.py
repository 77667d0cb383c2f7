"""Which category gates open: those of categories in which visual features help by more than chance."""

import numpy as np
import pytest
from sklearn.metrics import log_loss

from courier_tf.ranking.gate_choice import benefits, chosen_gates

CATEGORIES, USERS = 6, 400


def drawn(rng, of_category, rows=6000, alike=0.0):
    """(Benefit, category, users): means by category, far smaller than the deviation; a user's rows may be alike."""
    category, user = rng.integers(1, CATEGORIES, rows), rng.integers(USERS, size=rows)
    benefit = np.asarray(of_category)[category] + 0.1 * rng.standard_t(4, rows)
    return benefit + alike * rng.normal(size=USERS)[user], category, user


def test_a_benefit_is_the_difference_of_the_log_losses():
    rng = np.random.default_rng(0)
    clicked, ours, theirs = rng.integers(0, 2, 50), *rng.random([2, 50])
    found = benefits(clicked, ours, theirs)
    assert found.mean() == pytest.approx(log_loss(clicked, theirs) - log_loss(clicked, ours))
    assert benefits(np.array([1]), np.array([0.8]), np.array([0.4]))[0] == pytest.approx(np.log(2))
    assert np.isfinite(benefits(np.array([1, 0]), np.array([0.0, 1.0]), np.array([1.0, 0.0]))).all()


@pytest.mark.parametrize("alike", [0.0, 0.1])
def test_gates_of_noise_are_shut_and_those_of_a_signal_open(alike):
    """Also where the rows of a user are alike, which makes chance look like more."""
    noise, signal = [], []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        for found, mean in ((noise, 0.0), (signal, 0.02)):
            benefit, category, user = drawn(rng, [mean] * CATEGORIES, alike=alike)
            found.append(chosen_gates(benefit, category, [user], CATEGORIES).mean())
    assert np.mean(noise) < 0.1 and np.mean(signal) > 0.9


def test_rows_that_are_alike_count_as_one():
    """Five users have all the rows: three of them gain, which may be chance."""
    benefit = np.repeat([0.1, 0.1, 0.1, -0.1, -0.1], 1000)
    user, category = np.repeat(np.arange(5), 1000), np.ones(5000, int)
    assert chosen_gates(benefit, category, [np.arange(5000)], 2)[1] == 1
    assert chosen_gates(benefit, category, [np.arange(5000), user], 2)[1] == 0


def test_categories_differ_and_few_rows_go_with_the_others():
    rng = np.random.default_rng(1)
    benefit, category, user = drawn(rng, [0, 0.03, 0.03, 0.03, 0.03, -0.03])
    gates = chosen_gates(benefit, category, [user], CATEGORIES)
    np.testing.assert_array_equal(gates[1:], [1, 1, 1, 1, 0])
    # One row that harms in a sixth category, and none in a seventh, where all others help.
    benefit, category, user = drawn(rng, [0.03] * CATEGORIES)
    benefit, category, user = np.append(benefit, -0.1), np.append(category, 6), np.append(user, 0)
    np.testing.assert_array_equal(chosen_gates(benefit, category, [user], 8), 1)
    # The same where all others harm, but for one row.
    benefit, category, user = drawn(rng, [-0.03] * CATEGORIES)
    benefit, category, user = np.append(benefit, 0.1), np.append(category, 6), np.append(user, 0)
    np.testing.assert_array_equal(chosen_gates(benefit, category, [user], 8), 0)


def test_no_benefit_at_all_keeps_gates_shut():
    """As with visual features whose weights are still 0."""
    np.testing.assert_array_equal(chosen_gates(np.zeros(10), np.arange(10) % 3, [np.arange(10)], 4), 0)
