"""What a split is compared in: gains over the mode without photos, and over the permuted control of the same mode."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from courier_tf.ranking.comparison import compare
from courier_tf.ranking.evaluation import NEW_TO_USER, Evaluation

ROWS = 400


@pytest.fixture(scope="module")
def evaluation():
    rng = np.random.default_rng(0)
    rows = {NEW_TO_USER: rng.random(ROWS) < 0.6, "cold": rng.random(ROWS) < 0.3}
    users = rng.integers(40, size=ROWS)
    return Evaluation(users, users, users, (rng.random(ROWS) < 0.2).astype(int), rng.integers(9, size=ROWS), rows)


def test_a_mode_is_compared_with_none_and_with_its_own_control(evaluation):
    rng = np.random.default_rng(1)
    modes = ("none", "vector", "a+b", "a+b_permuted")
    scores = {mode: rng.random([2, ROWS]) + 0.2 * evaluation.clicked * len(mode) for mode in modes}
    found = compare(evaluation, scores)
    assert set(found["gain_over_none"]) == {"vector", "a+b", "a+b_permuted"}
    assert set(found["gain_over_control"]) == {"a+b"} and set(found["gain_over_control"]["a+b"]) == {"all", NEW_TO_USER}
    for name, rows in {"all": np.ones(ROWS, bool), **evaluation.slices}.items():
        auc = {
            mode: np.mean([roc_auc_score(evaluation.clicked[rows], score[rows]) for score in scores[mode]])
            for mode in modes
        }
        assert found["gain_over_none"]["a+b"][name]["gain"] == pytest.approx(auc["a+b"] - auc["none"])
        if name != "cold":
            over_control = found["gain_over_control"]["a+b"][name]
            assert over_control["gain"] == pytest.approx(auc["a+b"] - auc["a+b_permuted"])


def test_without_a_control_nothing_is_compared_with_one(evaluation):
    scores = {mode: np.random.default_rng(2).random([1, ROWS]) for mode in ("none", "vector")}
    assert compare(evaluation, scores)["gain_over_control"] == {}
