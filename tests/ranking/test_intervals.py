"""Paired differences of AUC and their intervals."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from courier_tf.ranking import intervals


def test_paired_gain_brackets_the_truth(sample):
    users, _, clicked, score = sample
    noise = np.random.default_rng(1).random(600)
    found = intervals.paired_gain(users, clicked, score[None], noise[None])
    assert found["gain"] == pytest.approx(roc_auc_score(clicked, score) - roc_auc_score(clicked, noise))
    assert found["low"] < found["gain"] < found["high"]
    same = intervals.paired_gain(users, clicked, score[None], score[None])
    assert same == {"gain": 0, "low": 0, "high": 0}
    assert intervals.paired_gain(users[:5], clicked[:5], score[None, :5], score[None, :5]) is None


def test_starts_are_averaged_and_widen_the_interval(sample):
    users, _, clicked, score = sample
    noise = np.random.default_rng(1).random([3, 600])
    noise[0] = 1 - score  # One start is much worse than the others.
    found = intervals.paired_gain(users, clicked, score[None], noise)
    gains = [roc_auc_score(clicked, score) - roc_auc_score(clicked, one) for one in noise]
    assert found["gain"] == pytest.approx(np.mean(gains))
    users_alone = intervals.paired_gain(users, clicked, score[None], noise[1:2])
    assert found["high"] - found["low"] > 2 * (users_alone["high"] - users_alone["low"])


def test_weighted_auc_equals_repeated_rows(sample):
    _, _, clicked, score = sample
    weight = np.random.default_rng(2).integers(0, 4, 600)
    rows = np.repeat(np.arange(600), weight)
    expected = roc_auc_score(clicked[rows], score[rows])
    assert intervals._WeightedAuc(clicked, score)(weight.astype(float)) == pytest.approx(expected)
