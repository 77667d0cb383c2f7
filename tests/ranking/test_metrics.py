"""The metrics against scikit-learn and plain loops."""

import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from courier_tf.ranking import metrics


@pytest.fixture
def sample():
    rng = np.random.default_rng(0)
    users = rng.integers(0, 40, 600)
    views = users * 10 + rng.integers(0, 4, 600)
    clicked = (rng.random(600) < 0.25).astype(int)
    score = np.round(np.clip(0.3 * clicked + rng.random(600), 0, 1), 1)  # Rounded: many ties.
    users[:5], clicked[:5] = 99, 0  # A user of one class.
    return users, views, clicked, score


def test_gauc_equals_a_loop_over_users(sample):
    users, _, clicked, score = sample
    total = skipped = 0.0
    for user in set(users):
        rows = users == user
        if 0 < clicked[rows].sum() < rows.sum():
            total += rows.sum() * roc_auc_score(clicked[rows], score[rows])
        else:
            skipped += rows.sum()
    found, share = metrics.gauc(users, clicked, score)
    assert skipped >= 5
    assert found == pytest.approx(total / (600 - skipped)) and share == pytest.approx(skipped / 600)


def test_ndcg_equals_a_loop_with_ties_against_the_ranker(sample):
    _, views, clicked, score = sample
    values = []
    for view in set(views):
        rows = np.flatnonzero(views == view)
        if clicked[rows].any():
            order = sorted(rows, key=lambda r: (-score[r], clicked[r]))[:3]
            gain = sum(clicked[r] / np.log2(place + 2) for place, r in enumerate(order))
            ideal = sum(1 / np.log2(place + 2) for place in range(min(3, clicked[rows].sum())))
            values.append(gain / ideal)
    assert metrics.ndcg(views, clicked, score, depth=3) == pytest.approx(np.mean(values))
    perfect = metrics.ndcg(views, clicked, clicked.astype(float))
    assert perfect == pytest.approx(1.0)
    assert metrics.ndcg(views, clicked, np.zeros(600)) < 0.9


def test_evaluate_agrees_with_scikit_learn(sample):
    users, views, clicked, score = sample
    found = metrics.evaluate(users, views, clicked, score)
    assert found["auc"] == pytest.approx(roc_auc_score(clicked, score))
    assert found["logloss"] == pytest.approx(log_loss(clicked, np.clip(score, 1e-7, 1 - 1e-7)))
    assert found["impressions"] == 600 and found["positives"] == clicked.sum()


def test_undefined_metrics_are_none(sample):
    users, views, clicked, score = sample
    nothing = metrics.evaluate(users[:0], views[:0], clicked[:0], score[:0])
    assert [nothing[name] for name in ("auc", "gauc", "ndcg@10", "logloss", "impressions")] == [None] * 4 + [0]
    one_class = metrics.evaluate(users[:5], views[:5], clicked[:5], score[:5])
    assert one_class["auc"] is None and one_class["gauc"] is None and one_class["ndcg@10"] is None
    assert one_class["gauc_skipped_share"] == 1.0 and one_class["logloss"] > 0


def test_slices_are_measured_on_their_own_rows(sample):
    users, views, clicked, score = sample
    rows = users < 20
    found = metrics.evaluate_slices(users, views, clicked, score, {"some": rows})
    assert found["slices"]["some"]["auc"] == pytest.approx(roc_auc_score(clicked[rows], score[rows]))
    assert found["auc"] == pytest.approx(roc_auc_score(clicked, score))


def test_paired_gain_brackets_the_truth(sample):
    users, _, clicked, score = sample
    noise = np.random.default_rng(1).random(600)
    found = metrics.paired_gain(users, clicked, score[None], noise[None])
    assert found["gain"] == pytest.approx(roc_auc_score(clicked, score) - roc_auc_score(clicked, noise))
    assert found["low"] < found["gain"] < found["high"]
    same = metrics.paired_gain(users, clicked, score[None], score[None])
    assert same == {"gain": 0, "low": 0, "high": 0}
    assert metrics.paired_gain(users[:5], clicked[:5], score[None, :5], score[None, :5]) is None


def test_starts_are_averaged_and_widen_the_interval(sample):
    users, _, clicked, score = sample
    noise = np.random.default_rng(1).random([3, 600])
    noise[0] = 1 - score  # One start is much worse than the others.
    found = metrics.paired_gain(users, clicked, score[None], noise)
    gains = [roc_auc_score(clicked, score) - roc_auc_score(clicked, one) for one in noise]
    assert found["gain"] == pytest.approx(np.mean(gains))
    users_alone = metrics.paired_gain(users, clicked, score[None], noise[1:2])
    assert found["high"] - found["low"] > 2 * (users_alone["high"] - users_alone["low"])


def test_mean_of_results():
    first = {"auc": 0.5, "gauc": None, "impressions": 7, "slices": {"cold": {"auc": 0.25, "ndcg@10": 1.0}}}
    second = {"auc": 1.0, "gauc": 0.5, "impressions": 7, "slices": {"cold": {"auc": None, "ndcg@10": 1.0}}}
    mean = {"auc": 0.75, "gauc": None, "impressions": 7, "slices": {"cold": {"auc": None, "ndcg@10": 1.0}}}
    assert metrics.mean_of([first, second]) == mean
    assert metrics.mean_of([first]) == first


def test_weighted_auc_equals_repeated_rows(sample):
    _, _, clicked, score = sample
    weight = np.random.default_rng(2).integers(0, 4, 600)
    rows = np.repeat(np.arange(600), weight)
    expected = roc_auc_score(clicked[rows], score[rows])
    assert metrics._WeightedAuc(clicked, score)(weight.astype(float)) == pytest.approx(expected)
