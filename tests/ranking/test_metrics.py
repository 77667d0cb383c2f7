"""The metrics against scikit-learn and plain loops."""

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import log_loss, ndcg_score, roc_auc_score

from courier_tf.ranking import metrics


def test_gauc_equals_a_loop_over_users(sample):
    users, _, clicked, score = sample
    total = skipped = 0.0
    for user in set(users):
        rows = users == user
        if 0 < clicked[rows].sum() < rows.sum():
            total += rows.sum() * roc_auc_score(clicked[rows], score[rows])
        else:
            skipped += rows.sum()
    value, share = metrics.gauc(users, clicked, score)
    assert skipped >= 5
    assert value == pytest.approx(total / (600 - skipped)) and share == pytest.approx(skipped / 600)


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


def test_ndcg_without_ties_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    label, score = rng.random([50, 15]) < 0.3, rng.permutation(750).reshape(50, 15) / 750.0
    views = np.repeat(np.arange(50), 15)
    clicked = label.any(axis=1)
    assert metrics.ndcg(views, label.ravel().astype(int), score.ravel()) == pytest.approx(
        ndcg_score(label[clicked].astype(int), score[clicked], k=10)
    )


def test_evaluate_agrees_with_scikit_learn(sample):
    users, views, clicked, score = sample
    results = metrics.evaluate(users, views, clicked, score)
    assert results["auc"] == pytest.approx(roc_auc_score(clicked, score))
    assert results["logloss"] == pytest.approx(log_loss(clicked, np.clip(score, 1e-7, 1 - 1e-7)))
    assert results["impressions"] == 600 and results["positives"] == clicked.sum()


def test_normalised_entropy_is_the_log_loss_over_that_of_the_share_of_clicks(sample):
    _, _, clicked, score = sample
    probability = np.clip(score, 0.05, 0.95)
    constant = np.full(600, clicked.mean())
    expected = log_loss(clicked, probability) / log_loss(clicked, constant)
    assert metrics.normalised_entropy(clicked, probability) == pytest.approx(expected)
    assert metrics.normalised_entropy(clicked, constant) == pytest.approx(1)


def test_calibration(sample):
    _, _, clicked, score = sample
    assert metrics.calibration(clicked, score) == pytest.approx(score.sum() / clicked.sum())
    assert metrics.calibration(clicked, np.full(600, clicked.mean(), np.float32)) == pytest.approx(1)


@pytest.mark.parametrize("digits", [1, 15])
def test_calibration_error_agrees_with_scikit_learn(sample, digits):
    _, _, clicked, _ = sample
    probability = np.random.default_rng(3).random(600).round(digits) ** 2
    share, mean = calibration_curve(clicked, probability, n_bins=10, strategy="quantile")
    borders = np.quantile(probability, np.arange(1, 10) / 10)
    inside = np.array([(probability <= border).sum() for border in [*borders, 1]])
    sizes = np.diff(inside, prepend=0)
    expected = (np.abs(share - mean) * sizes[sizes > 0]).sum() / 600
    assert metrics.calibration_error(clicked, probability) == pytest.approx(expected) and expected > 0.05
    assert metrics.calibration_error(clicked, clicked.astype(float)) == 0


def test_undefined_metrics_are_none(sample):
    users, views, clicked, score = sample
    nothing = metrics.evaluate(users[:0], views[:0], clicked[:0], score[:0])
    assert {name for name, value in nothing.items() if value is not None} == {"impressions", "positives"}
    assert nothing["impressions"] == nothing["positives"] == 0
    one_class = metrics.evaluate(users[:5], views[:5], clicked[:5], score[:5])
    assert one_class["auc"] is None and one_class["gauc"] is None and one_class["ndcg@10"] is None
    assert one_class["normalised_entropy"] is None and one_class["calibration"] is None
    assert one_class["gauc_skipped_share"] == 1.0 and one_class["logloss"] > 0


def test_slices_are_measured_on_their_own_rows(sample):
    users, views, clicked, score = sample
    rows = users < 20
    results = metrics.evaluate_slices(users, views, clicked, score, {"some": rows})
    assert results["slices"]["some"]["auc"] == pytest.approx(roc_auc_score(clicked[rows], score[rows]))
    assert results["auc"] == pytest.approx(roc_auc_score(clicked, score))


def test_mean_of_results():
    first = {"auc": 0.5, "gauc": None, "impressions": 7, "slices": {"cold": {"auc": 0.25, "ndcg@10": 1.0}}}
    second = {"auc": 1.0, "gauc": 0.5, "impressions": 7, "slices": {"cold": {"auc": None, "ndcg@10": 1.0}}}
    mean = {"auc": 0.75, "gauc": None, "impressions": 7, "slices": {"cold": {"auc": None, "ndcg@10": 1.0}}}
    assert metrics.mean_of([first, second]) == mean
    assert metrics.mean_of([first]) == first
