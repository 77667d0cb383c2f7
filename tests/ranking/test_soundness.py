"""The limits beyond which figures cannot be believed."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from courier_tf.ranking import soundness


def test_the_error_of_an_auc_is_that_of_users_drawn_anew():
    """Users click on several items each, and have tastes: their impressions are not independent."""
    rng = np.random.default_rng(0)
    users = rng.integers(150, size=1200)
    taste = rng.normal(size=150)[users]
    clicked = (rng.random(1200) < 1 / (1 + np.exp(1.5 - taste))).astype(int)
    score = (0.5 * clicked + taste + rng.normal(size=1200)).round(1)  # With ties.
    auc, error = soundness.auc_with_error(users, clicked, score)
    assert auc == pytest.approx(roc_auc_score(clicked, score))
    rows_of = [np.flatnonzero(users == user) for user in range(150)]
    draws = []
    for _ in range(250):
        rows = np.concatenate([rows_of[user] for user in rng.integers(150, size=150)])
        draws.append(roc_auc_score(clicked[rows], score[rows]))
    assert error == pytest.approx(np.std(draws), rel=0.15)
    assert soundness.auc_with_error(np.arange(1200), clicked, score)[1] < 0.93 * error, "the users matter"


def test_scores_that_separate_the_clicks_have_no_error():
    clicked = np.array([0, 1, 0, 1])
    assert soundness.auc_with_error(np.arange(4), clicked, clicked) == (1.0, 0.0)


def test_chance_is_as_wide_as_random_scores():
    rng = np.random.default_rng(1)
    clicked = np.arange(300) < 60
    ranks = rng.permuted(np.tile(np.arange(300), [5000, 1]), axis=1)[:, clicked].sum(axis=1)
    found = (ranks - 60 * 59 / 2) / (60 * 240)  # The statistic of Mann and Whitney.
    assert soundness.chance_error(60, 240) == pytest.approx(np.std(found), rel=0.04)
    assert soundness.chance_error(0, 5) == np.inf


@pytest.mark.parametrize(
    ("quality", "dim", "collapsed"),
    [
        ({"effective_rank": 2.99, "pairs_cosine": 0.5}, 256, True),
        ({"effective_rank": 3.0, "pairs_cosine": 0.5}, 256, False),
        ({"effective_rank": 1.2, "pairs_cosine": 0.5}, 4, False),
        ({"effective_rank": 0.9, "pairs_cosine": 0.5}, 4, True),
        ({"effective_rank": float("nan")}, 256, True),
        ({"effective_rank": 12.0, "pairs_cosine": 0.9995}, 256, True),
        ({"effective_rank": None, "pairs_cosine": None}, 256, False),
        ({}, 256, False),
    ],
)
def test_a_collapse(quality, dim, collapsed):
    assert soundness.is_collapsed(quality, dim) == collapsed


def test_figures_that_are_not_defined_are_not_shown():
    assert soundness.spread_of({"effective_rank": 2.0, "neighbours_cosine": None}) == "effective rank 2.00"


@pytest.mark.parametrize(
    ("calibration", "clicks", "off"),
    [
        (1.5, 10**6, False),
        (1.52, 10**6, True),
        (1 / 1.52, 10**6, True),
        (2.4, 400, True),
        (2.4, 9, False),
        (0.0, 400, True),
    ],
)
def test_a_miscalibration_beyond_chance(calibration, clicks, off):
    assert soundness.is_miscalibrated(calibration, clicks) == off


@pytest.mark.parametrize(("auc", "warned"), [(0.449, True), (0.45, False), (0.55, False), (0.551, True), (None, False)])
def test_popularity_that_tells_clicks_from_sampled_negatives(auc, warned):
    warning = soundness.popularity_warning(auc, "valid", "4 per positive, popularity")
    assert bool(warning) == warned
    assert soundness.popularity_warning(auc, "valid", None) is None, "negatives of an impression log are real"
    if warning:
        assert f"AUC {100 * auc:.2f} on valid" in warning and "--negatives-pool-events" in warning
        assert "reach 12 days back" in soundness.popularity_warning(auc, "valid", "4 per positive, popularity", 12)
        assert "--negatives popularity" in soundness.popularity_warning(auc, "valid", "4 per positive, uniform")
