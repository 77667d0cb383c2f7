"""Off-policy estimates against a truth that is known, against other formulas, and where propensities are wrong."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

from courier_tf.monitoring.estimators import (
    Lists,
    PropensityError,
    Weights,
    direct,
    doubly_robust,
    expected_clicks,
    ips,
    logged_value,
    snips,
)
from courier_tf.monitoring.off_policy import evaluate_policy
from courier_tf.monitoring.policies import Policy, log_odds
from courier_tf.monitoring.reward_model import RewardModel, cross_fitted
from tests.monitoring.bandit import LOGGED, NEW, Bandit

LOGS = 120


@pytest.fixture(scope="module")
def bandit():
    return Bandit(requests=700, candidates=6, users=250)


def estimates_of(lists, policy, scores, wrong_model=False):
    """All estimates; `wrong_model` turns the reward model's candidates around."""
    weights = Weights.of(lists, policy, scores)
    features = np.stack([log_odds(scores), log_odds(lists.scores)], axis=2)
    model = cross_fitted(lists.user, lists.shown, lists.clicked, features)
    if wrong_model:
        model = RewardModel(-2 * model.candidate, model.position + 1)
    expected = expected_clicks(lists, policy, scores, model)
    return {
        "ips": ips(lists, weights),
        "snips": snips(lists, weights),
        "doubly_robust": doubly_robust(lists, weights, expected, model),
        "direct": direct(lists, weights, expected),
    }


@pytest.fixture(scope="module", params=[1, 2], ids=["one position", "two positions"])
def many(request, bandit):
    """(Truth, number of logs in which each interval holds it, values of each estimate), over many logs."""
    positions, rng = request.param, np.random.default_rng(request.param)
    truth, held, values = bandit.value(NEW, bandit.new, positions), {}, {}
    for _ in range(LOGS):
        lists, rows = bandit.log(LOGGED, rng, positions)
        for name, figure in estimates_of(lists, NEW, bandit.new[rows]).items():
            held[name] = held.get(name, 0) + (abs(figure.value - truth) <= figure.half_width())
            values.setdefault(name, []).append(figure.value)
    return truth, held, {name: np.array(each) for name, each in values.items()}


@pytest.mark.parametrize("name", ["ips", "snips", "doubly_robust"])
def test_estimates_are_unbiased_and_intervals_cover(many, name):
    truth, held, values = many
    error = values[name].std() / np.sqrt(LOGS)
    assert abs(values[name].mean() - truth) < 4 * error
    assert stats.binomtest(int(held[name]), LOGS, 0.95).pvalue > 0.001


def test_the_doubly_robust_estimate_varies_less(many):
    _, _, values = many
    spread = {name: value.std() for name, value in values.items()}
    assert spread["doubly_robust"] < 0.8 * spread["ips"] and spread["snips"] < 0.85 * spread["ips"]


def test_the_doubly_robust_estimate_needs_no_right_model(bandit):
    """The direct estimate, which has nothing else, is then far off."""
    rng, truth = np.random.default_rng(5), bandit.value(NEW, bandit.new)
    values = {"doubly_robust": [], "direct": []}
    for _ in range(40):
        lists, rows = bandit.log(LOGGED, rng)
        estimates = estimates_of(lists, NEW, bandit.new[rows], wrong_model=True)
        for name in values:
            values[name].append(estimates[name].value)
    errors = {name: abs(np.mean(value) - truth) / (np.std(value) / np.sqrt(40)) for name, value in values.items()}
    assert errors["doubly_robust"] < 4 and errors["direct"] > 10


def test_the_logged_policy_itself_has_what_was_counted(bandit):
    lists, rows = bandit.log(LOGGED, np.random.default_rng(2), 3)
    scores = bandit.logged[rows]
    counted = lists.clicked.sum(axis=1).mean()
    weights = Weights.of(lists, LOGGED, scores)
    for figure in (ips(lists, weights), snips(lists, weights), logged_value(lists)):
        assert figure.value == pytest.approx(counted)
    assert weights.effective_size() == pytest.approx(len(rows))


def test_a_deterministic_policy_is_the_mean_of_the_requests_that_agree(bandit):
    """Where the logged policy is uniform: the replay of Li et al. (2011)."""
    lists, rows = bandit.log(Policy("epsilon", 1.0), np.random.default_rng(3))
    agree = lists.shown[:, 0] == bandit.new[rows].argmax(axis=1)
    weights = Weights.of(lists, Policy("epsilon", 0.0), bandit.new[rows])
    assert snips(lists, weights).value == pytest.approx(lists.clicked[agree].mean())
    assert ips(lists, weights).value == pytest.approx(6 * lists.clicked[agree].sum() / len(rows))


def test_snips_moves_with_the_clicks_and_not_with_the_scale_of_the_propensities(bandit):
    lists, rows = bandit.log(LOGGED, np.random.default_rng(4), 2)
    weights = Weights.of(lists, NEW, bandit.new[rows])
    shifted = dataclasses.replace(lists, clicked=lists.clicked + 3)
    assert snips(shifted, weights).value == pytest.approx(snips(lists, weights).value + 2 * 3)
    assert ips(shifted, weights).value != pytest.approx(ips(lists, weights).value + 2 * 3, abs=1e-3)
    scaled = dataclasses.replace(lists, propensity=lists.propensity / 2)
    assert snips(scaled, Weights.of(scaled, NEW, bandit.new[rows])).value == pytest.approx(snips(lists, weights).value)


def test_two_positions_by_hand():
    """Three candidates, uniform lists; the new policy puts the first before the second, always."""
    shown = np.array([[0, 1], [0, 2], [1, 0]])
    lists = Lists(
        np.arange(3), shown, np.array([[1 / 3, 1 / 2]] * 3), np.array([[1, 1], [1, 0], [0, 1]]), np.full([3, 3], 0.5)
    )
    scores = np.array([[0.9, 0.5, 0.1]] * 3)
    weights = Weights.of(lists, Policy("epsilon", 0.0), scores)
    np.testing.assert_allclose(weights.upto, [[3, 6], [3, 0], [0, 0]])
    assert ips(lists, weights).value == pytest.approx((3 + 6 + 3) / 3)
    model = RewardModel(np.zeros([3, 3]), np.zeros([3, 2]))  # Every click has the chance 0.5.
    expected = expected_clicks(lists, Policy("epsilon", 0.0), scores, model)
    # First position: 0.5, and 3 times the error of those shown first. Second: 3 times 0.5, and 6 times its error.
    by_hand = [0.5 + 3 * 0.5 + 3 * 0.5 + 6 * 0.5, 0.5 + 3 * 0.5 + 3 * 0.5, 0.5]
    assert doubly_robust(lists, weights, expected, model).value == pytest.approx(np.mean(by_hand))


def test_shorter_lists_count_for_the_positions_that_they_have(bandit):
    lists, rows = bandit.log(LOGGED, np.random.default_rng(6), 2)
    short = np.arange(len(rows)) % 2 == 0
    shown = np.where(short[:, None] & [False, True], -1, lists.shown)
    cut = dataclasses.replace(lists, shown=shown, clicked=np.where(shown < 0, 0, lists.clicked))
    scores = bandit.logged[rows]
    counted = cut.clicked.sum(axis=1).mean()
    for name, figure in estimates_of(cut, LOGGED, scores).items():
        assert name in ("direct", "doubly_robust") or figure.value == pytest.approx(counted)
    assert estimates_of(cut, LOGGED, scores)["doubly_robust"].value == pytest.approx(counted, abs=0.05)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda propensity: propensity * 0.8,
        lambda propensity: np.minimum(propensity**0.5, 1),
        lambda propensity: np.full_like(propensity, 1 / 6),
    ],
    ids=["a factor", "another temperature", "uniform"],
)
def test_wrong_propensities_are_noticed(bandit, spoil):
    rng = np.random.default_rng(7)
    lists, rows = bandit.log(Policy("softmax", 0.7), rng)
    evaluate_policy(lists, NEW, bandit.new[rows])
    wrong = dataclasses.replace(lists, propensity=spoil(lists.propensity))
    with pytest.raises(PropensityError, match="the mean weight at position 1 is .* and not 1: the logged"):
        evaluate_policy(wrong, Policy("softmax", 1.0), bandit.logged[rows])


def test_right_propensities_are_hardly_ever_refused(bandit):
    rng = np.random.default_rng(8)
    refused = 0
    for _ in range(100):
        lists, rows = bandit.log(LOGGED, rng, 2)
        refused += bool(Weights.of(lists, NEW, bandit.new[rows]).objections(lists))
    assert refused <= 2


@pytest.mark.parametrize("value", [0.0, 1.5, np.nan, -0.1])
def test_what_is_no_chance_is_refused(bandit, value):
    lists, _ = bandit.log(LOGGED, np.random.default_rng(9))
    lists.propensity[4, 0] = value
    with pytest.raises(PropensityError, match=r"1 propensities are no chances .* at position 1 of list 5"):
        lists.require_chances()


def test_low_overlap_is_warned_of(bandit):
    lists, rows = bandit.log(Policy("softmax", 0.4), np.random.default_rng(10))
    report = evaluate_policy(lists, Policy("epsilon", 0.0), 1 - bandit.logged[rows])  # The worst first.
    assert any("low overlap" in warning for warning in report.warnings)
    assert report.effective_size < 100
    fine = evaluate_policy(*bandit.log(LOGGED, np.random.default_rng(10))[:1], LOGGED, bandit.logged[rows])
    assert fine.warnings == () and fine.estimates["ips"].gain == pytest.approx(0)
