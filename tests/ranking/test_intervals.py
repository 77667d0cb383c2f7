"""Paired differences of AUC and their intervals."""

import numpy as np
import pytest
from scipy.stats import ttest_1samp
from sklearn.metrics import roc_auc_score

from courier_tf.ranking import intervals


def test_paired_gain_brackets_the_truth(sample):
    users, _, clicked, score = sample
    noise = np.random.default_rng(1).random(600)
    difference = intervals.paired_gain(users, clicked, score[None, None], noise[None, None])
    assert difference["gain"] == pytest.approx(roc_auc_score(clicked, score) - roc_auc_score(clicked, noise))
    assert difference["low"] < difference["gain"] < difference["high"]
    same = intervals.paired_gain(users, clicked, score[None, None], score[None, None])
    assert same == {"gain": 0, "low": 0, "high": 0, "error": 0}
    assert intervals.paired_gain(users[:5], clicked[:5], score[None, None, :5], score[None, None, :5]) is None


def test_a_paired_gain_of_gauc(sample):
    users, _, clicked, score = sample
    noise = np.random.default_rng(1).random(600)

    def gauc(score):
        parts = [users == user for user in np.unique(users)]
        parts = [part for part in parts if 0 < clicked[part].sum() < part.sum()]
        aucs = [roc_auc_score(clicked[part], score[part]) for part in parts]
        return np.average(aucs, weights=[part.sum() for part in parts])

    difference = intervals.paired_gain(users, clicked, score[None, None], noise[None, None], figure="gauc")
    assert difference["gain"] == pytest.approx(gauc(score) - gauc(noise))
    assert difference["low"] < difference["gain"] < difference["high"]
    alone = np.arange(600)  # Each impression is of a user of its own: there is an AUC, and no GAUC.
    assert intervals.paired_gain(alone, clicked, score[None, None], noise[None, None], figure="gauc") is None
    assert set(intervals.auc_intervals(alone, clicked, score[None])) == {"auc_low", "auc_high"}


def test_one_user_and_one_start_tell_nothing_of_an_interval(sample):
    _, _, clicked, score = sample
    one_user = np.zeros(600)
    assert intervals.paired_gain(one_user, clicked, score[None, None], 1 - score[None, None]) is None
    assert intervals.auc_intervals(one_user, clicked, score[None]) == {}
    nobody = np.zeros(0)
    assert intervals.paired_gain(nobody, nobody, np.zeros([3, 1, 0]), np.zeros([3, 1, 0])) is None


def test_starts_are_averaged_and_widen_the_interval(sample):
    users, _, clicked, score = sample
    noise = np.random.default_rng(1).random([3, 600])
    noise[0] = 1 - score  # One start is much worse than the others.
    scores, noise = np.stack([score] * 3)[:, None], noise[:, None]
    difference = intervals.paired_gain(users, clicked, scores, noise)
    gains = [roc_auc_score(clicked, score) - roc_auc_score(clicked, baseline) for baseline in noise[:, 0]]
    assert difference["gain"] == pytest.approx(np.mean(gains))
    # Of the starts alone, where every impression is of the same user: the interval of a mean of three.
    of_starts = intervals.paired_gain(np.zeros(600), clicked, scores, noise)
    expected = ttest_1samp(gains, 0).confidence_interval(0.95)
    assert (of_starts["low"], of_starts["high"]) == pytest.approx((expected.low, expected.high))
    assert of_starts["error"] == pytest.approx(np.std(gains, ddof=1) / np.sqrt(3))
    assert difference["error"] > of_starts["error"]
    # Both, of which each alone is narrower.
    of_users = [intervals.paired_gain(users, clicked, scores[:1], baseline[None]) for baseline in noise]
    width, half = difference["high"] - difference["gain"], expected.high - np.mean(gains)
    assert max(half, *(user["high"] - user["gain"] for user in of_users)) < width < 1.1 * half


def test_what_a_start_does_to_both_sides_is_no_doubt_about_the_gain(sample):
    """Starts whose two rankers are good or bad together."""
    users, _, clicked, score = sample
    noise = np.random.default_rng(1).random([3, 600])
    share = np.array([[0.0], [0.4], [0.8]])
    baselines = share * score + (1 - share) * noise
    gain = intervals.paired_gain(users, clicked, baselines[:, None], baselines[:, None])
    assert gain == {"gain": 0, "low": 0, "high": 0, "error": 0}


def test_rankers_of_one_repetition_are_averaged_and_count_as_one(sample):
    """Two repetitions of two rankers against one each: the interval is that of two means."""
    users, _, clicked, score = sample
    draw = np.random.default_rng(4)
    ours, theirs = score + draw.random([2, 2, 600]), draw.random([2, 1, 600])
    aucs = [[np.mean([roc_auc_score(clicked, scores) for scores in part]) for part in side] for side in (ours, theirs)]
    gains = np.subtract(*aucs)
    expected = ttest_1samp(gains, 0).confidence_interval(0.95)
    difference = intervals.paired_gain(np.zeros(600), clicked, ours, theirs)
    assert (difference["gain"], difference["low"], difference["high"]) == pytest.approx(
        (np.mean(gains), expected.low, expected.high)
    )


def test_weighted_auc_equals_repeated_rows(sample):
    users, _, clicked, score = sample
    _, user = np.unique(users, return_inverse=True)
    times = np.random.default_rng(2).integers(0, 4, user.max() + 1)
    rows = np.repeat(np.arange(600), times[user])
    expected = roc_auc_score(clicked[rows], score[rows])
    ranking = intervals._WeightedAuc(user, clicked, score)
    assert ranking(times.astype(float)) == pytest.approx(expected)
    assert np.isnan(ranking((np.arange(len(times)) == user[0]).astype(float))), "a user of one class"


def test_intervals_are_those_of_users_drawn_anew(sample):
    """Against a bootstrap that copies rows, and a GAUC by a loop over users; of the starts, the interval of a mean."""
    users, _, clicked, score = sample
    scores = np.stack([score, np.round(score + 0.2 * np.random.default_rng(3).random(600), 1)])
    ends = intervals.auc_intervals(users, clicked, scores, draws=400)

    def auc(clicked, score):
        above = score[clicked == 1][:, None] - score[clicked == 0]
        return np.mean((above > 0) + 0.5 * (above == 0))

    def gauc(users, clicked, score):
        parts = [(clicked[users == user], score[users == user]) for user in np.unique(users)]
        parts = [part for part in parts if 0 < part[0].sum() < len(part[0])]
        return np.average([auc(*part) for part in parts], weights=[len(part[0]) for part in parts])

    rng, different, drawn = np.random.default_rng(5), np.unique(users), {"auc": [], "gauc": []}
    for _ in range(150):
        chosen = [np.flatnonzero(users == user) for user in rng.choice(different, len(different))]
        rows = np.concatenate(chosen)
        renamed = np.repeat(np.arange(len(chosen)), [len(part) for part in chosen])
        drawn["auc"].append(np.mean([auc(clicked[rows], start[rows]) for start in scores]))
        drawn["gauc"].append(np.mean([gauc(renamed, clicked[rows], start[rows]) for start in scores]))
    of_starts = {"auc": [auc(clicked, s) for s in scores], "gauc": [gauc(users, clicked, s) for s in scores]}
    for name, values in drawn.items():
        value, way = np.mean(of_starts[name]), np.subtract(*ttest_1samp(of_starts[name], 0).confidence_interval()) / 2
        low, high = (
            value + np.hypot(end - value, way) * (1 if end > value else -1)
            for end in np.percentile(values, [2.5, 97.5])
        )
        assert ends[f"{name}_low"] == pytest.approx(low, abs=0.2 * (high - low))
        assert ends[f"{name}_high"] == pytest.approx(high, abs=0.2 * (high - low))
    assert intervals.auc_intervals(users[:5], clicked[:5], scores[:, :5]) == {}
