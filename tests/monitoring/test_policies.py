"""Policies: their chances, the lists they draw, and the chance of a list."""

import itertools

import numpy as np
import pytest

from courier_tf.monitoring.policies import Policy, PolicyError, draw_lists, log_odds, propensities

SCORES = np.array([[0.1, 0.4, 0.2, np.nan], [0.7, 0.7, 0.3, 0.3]])
POLICIES = [Policy("softmax", 0.5), Policy("softmax", 3.0), Policy("epsilon", 0.2), Policy("epsilon", 1.0)]


def test_softmax_is_in_proportion_to_the_odds_to_the_power_of_one_by_the_temperature():
    odds = (np.array([0.1, 0.4, 0.2]) / np.array([0.9, 0.6, 0.8])) ** 2
    chances = Policy("softmax", 0.5).chances(SCORES[:1], ~np.isnan(SCORES[:1]))
    np.testing.assert_allclose(chances, [[*odds / odds.sum(), 0.0]])


def test_equal_best_scores_share_under_epsilon():
    chances = Policy("epsilon", 0.2).chances(SCORES, ~np.isnan(SCORES))
    np.testing.assert_allclose(chances, [[0.2 / 3, 0.8 + 0.2 / 3, 0.2 / 3, 0], [0.45, 0.45, 0.05, 0.05]])


def test_extreme_scores_have_chances():
    chances = Policy("softmax", 1e-3).chances(np.array([[0.0, 1.0, 1.0]]), np.ones([1, 3], bool))
    np.testing.assert_allclose(chances, [[0, 0.5, 0.5]])
    assert np.isfinite(log_odds(np.array([0.0, 1.0]))).all()


@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_the_chances_of_all_lists_add_up_to_1(policy):
    lists = np.array(list(itertools.permutations(range(4), 3)))
    scores = np.repeat(SCORES[1:], len(lists), axis=0)
    assert propensities(policy, scores, lists).prod(axis=1).sum() == pytest.approx(1)


@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_lists_are_drawn_with_their_chances(policy):
    number = 20_000
    drawn = draw_lists(policy, np.repeat(SCORES[1:], number, axis=0), 2, np.random.default_rng(0))
    for pair in itertools.permutations(range(4), 2):
        chance = propensities(policy, SCORES[1:], np.array([pair])).prod()
        assert (drawn == pair).all(axis=1).mean() == pytest.approx(chance, abs=4 * np.sqrt(chance / number) + 1e-9)


def test_a_list_ends_where_the_candidates_do():
    shown = draw_lists(Policy("softmax", 1.0), SCORES, 4, np.random.default_rng(0))
    assert shown[0, 3] == -1 and sorted(shown[0, :3]) == [0, 1, 2] and sorted(shown[1]) == [0, 1, 2, 3]
    assert (propensities(Policy("softmax", 1.0), SCORES, shown)[:, -1] == 1).all()


@pytest.mark.parametrize(
    "text", ["", "softmax", "softmax=", "softmax=0", "softmax=nan", "epsilon=1.5", "best=1", "softmax=x"]
)
def test_what_is_no_policy_is_refused(text):
    with pytest.raises(PolicyError, match="softmax=TEMPERATURE|must lie between"):
        Policy.parse(text)


def test_a_policy_is_written_as_it_is_read():
    assert [str(Policy.parse(text)) for text in ("softmax=0.5", "epsilon=0")] == ["softmax=0.5", "epsilon=0"]
