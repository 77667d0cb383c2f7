"""Metrics and paired differences of AUC, with their intervals over users and starts."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from courier_tf.ranking import intervals


def auc_of(users, clicked, score):
    above = score[clicked == 1][:, None] - score[clicked == 0]
    return np.mean((above > 0) + 0.5 * (above == 0))


def gauc_of(users, clicked, score):
    parts = [users == user for user in with_both_classes(users, clicked)]
    return np.average([auc_of(None, clicked[p], score[p]) for p in parts], weights=[p.sum() for p in parts])


def with_both_classes(users, clicked):
    return [user for user in np.unique(users) if 0 < clicked[users == user].sum() < (users == user).sum()]


ORACLES = {"auc": auc_of, "gauc": gauc_of}


def counted(figure, users, clicked):
    """The users whose impressions count."""
    return np.unique(users) if figure == "auc" else with_both_classes(users, clicked)


def by_loops(figure, users, clicked, ours, theirs):
    """(Mean gain, half of its interval, standard error): each user is left out, and every figure is computed anew."""

    def gain(rows, start):
        part = users[rows], clicked[rows]
        return ORACLES[figure](*part, ours[start][rows]) - ORACLES[figure](*part, theirs[start][rows])

    def jackknife(figures):
        return (len(figures) - 1) / len(figures) * np.sum((figures - np.mean(figures)) ** 2)

    starts = range(len(ours))
    gains = [gain(users == users, start) for start in starts]
    without = np.array([[gain(users != user, s) for user in counted(figure, users, clicked)] for s in starts])
    shared = sum(jackknife(row - without.mean(axis=0)) for row in without) / (len(ours) * (len(ours) - 1))
    of_users, of_starts = jackknife(without.mean(axis=0)) - shared, stats.sem(gains) ** 2
    t_users, t_starts = (stats.t.ppf(0.975, n - 1) for n in without.shape[::-1])
    error = np.sqrt(of_users + of_starts)
    return np.mean(gains), (of_users * t_users + of_starts * t_starts) / error, error


@pytest.mark.parametrize("figure", ["auc", "gauc"])
def test_a_figure_without_each_user_is_that_of_the_others(sample, figure):
    users, _, clicked, score = sample
    value, without = intervals.FIGURES[figure](np.unique(users, return_inverse=True)[1], clicked, score)
    assert value == pytest.approx(ORACLES[figure](users, clicked, score))
    left = [users != user for user in counted(figure, users, clicked)]
    assert without == pytest.approx([ORACLES[figure](users[r], clicked[r], score[r]) for r in left])
    assert len(left) >= 38


@pytest.mark.parametrize("figure", ["auc", "gauc"])
def test_the_interval_of_a_gain_against_loops(sample, figure):
    users, _, clicked, score = sample
    rng = np.random.default_rng(1)
    ours, theirs = np.round(score + 0.4 * rng.random([3, 600]), 1), rng.random([3, 600])
    gain = intervals.paired_gain(users, clicked, ours[:, None], theirs[:, None], figure=figure)
    value, half, error = by_loops(figure, users, clicked, ours, theirs)
    assert gain == pytest.approx({"gain": value, "low": value - half, "high": value + half, "error": error})
    same = intervals.paired_gain(users, clicked, ours[:, None], ours[:, None], figure=figure)
    assert same == {"gain": 0, "low": 0, "high": 0, "error": 0}


def test_the_intervals_of_a_figure_against_loops(sample):
    """The difference from rankers that score all alike, which have 0.5 whoever is there."""
    users, _, clicked, score = sample
    starts = np.round(score + 0.4 * np.random.default_rng(1).random([3, 600]), 1)
    ends = intervals.auc_intervals(users, clicked, starts)
    for name in ("auc", "gauc"):
        value, half, _ = by_loops(name, users, clicked, starts, np.zeros([3, 600]))
        assert (ends[f"{name}_low"], ends[f"{name}_high"]) == pytest.approx((0.5 + value - half, 0.5 + value + half))
    perfect = intervals.auc_intervals(users, clicked, np.stack([clicked, clicked, score]))
    assert perfect["auc_high"] == 1, "an AUC is at most 1"


def test_one_start_has_a_gain_and_no_interval(sample):
    """It tells nothing of what another start would have given."""
    users, _, clicked, score = sample
    noise = np.random.default_rng(1).random(600)
    gain = intervals.paired_gain(users, clicked, score[None, None], noise[None, None])
    expected = roc_auc_score(clicked, score) - roc_auc_score(clicked, noise)
    assert gain == {"gain": pytest.approx(expected), "low": None, "high": None, "error": None}
    assert intervals.auc_intervals(users, clicked, score[None]) == {}


def test_where_there_is_no_interval_and_where_there_is_no_gain(sample):
    users, _, clicked, score = sample
    scores = np.stack([score, 1 - score])[:, None]
    no_interval = {"gain": 0, "low": None, "high": None, "error": None}
    assert intervals.paired_gain(np.zeros(600), clicked, scores, scores) == no_interval, "one user"
    one_clicks = np.where(clicked > 0, 0, users + 1)
    assert intervals.paired_gain(one_clicks, clicked, scores, scores) == no_interval, "one user has all clicks"
    assert intervals.auc_intervals(np.zeros(600), clicked, scores[:, 0]) == {}
    alone = np.arange(600)  # Each impression is of a user of its own: there is an AUC, and no GAUC.
    assert intervals.paired_gain(alone, clicked, scores, scores, figure="gauc") is None
    assert set(intervals.auc_intervals(alone, clicked, scores[:, 0])) == {"auc_low", "auc_high"}
    nobody = np.zeros(0)
    assert intervals.paired_gain(nobody, nobody, np.zeros([3, 1, 0]), np.zeros([3, 1, 0])) is None
    assert intervals.paired_gain(users[:5], clicked[:5], scores[..., :5], scores[..., :5]) is None
    assert intervals.auc_intervals(users[:5], clicked[:5], scores[:, 0, :5]) == {}


def test_what_a_start_does_to_both_sides_is_no_doubt_about_the_gain(sample):
    """Starts whose two rankers are good or bad together."""
    users, _, clicked, score = sample
    noise = np.random.default_rng(1).random([3, 600])
    share = np.array([[0.0], [0.4], [0.8]])
    baselines = share * score + (1 - share) * noise
    gain = intervals.paired_gain(users, clicked, baselines[:, None], baselines[:, None])
    assert gain == {"gain": 0, "low": 0, "high": 0, "error": 0}


def test_rankers_of_one_repetition_are_averaged_and_count_as_one(sample):
    """Two repetitions of two rankers against one each: users aside, the interval is that of two means."""
    users, _, clicked, score = sample
    draw = np.random.default_rng(4)
    ours, theirs = score + draw.random([2, 2, 600]), draw.random([2, 1, 600])
    ours[1] -= score
    aucs = [[np.mean([roc_auc_score(clicked, scores) for scores in part]) for part in side] for side in (ours, theirs)]
    gains = np.subtract(*aucs)
    gain = intervals.paired_gain(users, clicked, ours, theirs)
    assert gain["gain"] == pytest.approx(np.mean(gains))
    half = 12.706 * abs(gains[0] - gains[1]) / 2
    assert 0.99 * half < gain["high"] - gain["gain"] < 1.1 * half


def pooled_by_loops(figure, users, clicked, ours, theirs, spans):
    """(Mean gain, half of its interval): a user is left out of all spans at once, and all is computed anew."""

    def weight(rows):
        if figure == "auc":
            return clicked[rows].sum()
        return sum((users[rows] == user).sum() for user in with_both_classes(users[rows], clicked[rows]))

    def gain(rows, start):
        parts = [rows & (spans == span) for span in np.unique(spans)]
        parts = [part for part in parts if with_both_classes(users[part] * (figure == "gauc"), clicked[part])]
        gains = [
            ORACLES[figure](users[p], clicked[p], ours[start][p])
            - ORACLES[figure](users[p], clicked[p], theirs[start][p])
            for p in parts
        ]
        return np.average(gains, weights=[weight(part) for part in parts])

    def jackknife(figures):
        return (len(figures) - 1) / len(figures) * np.sum((figures - np.mean(figures)) ** 2)

    counting = np.unique(
        np.concatenate([counted(figure, users[spans == span], clicked[spans == span]) for span in np.unique(spans)])
    )
    starts = range(len(ours))
    gains = [gain(users == users, start) for start in starts]
    without = np.array([[gain(users != user, start) for user in counting] for start in starts])
    shared = sum(jackknife(row - without.mean(axis=0)) for row in without) / (len(ours) * (len(ours) - 1))
    of_users, of_starts = max(jackknife(without.mean(axis=0)) - shared, 0), stats.sem(gains) ** 2
    t_users, t_starts = (stats.t.ppf(0.975, n - 1) for n in without.shape[::-1])
    return np.mean(gains), (of_users * t_users + of_starts * t_starts) / np.sqrt(of_users + of_starts)


@pytest.mark.parametrize("figure", ["auc", "gauc"])
def test_the_interval_over_several_spans_against_loops(sample, figure):
    """Some users are in one span, most in several; rankers of a span have a scale of their own."""
    users, _, clicked, score = sample
    rng = np.random.default_rng(1)
    spans = np.array(["a", "b", "c"])[np.minimum(rng.integers(0, 3, 600), 2 * (users % 7 > 0))]
    scale = 10.0 * (spans == "b")
    ours, theirs = np.round(score + 0.4 * rng.random([2, 600]), 1) + scale, rng.random([2, 600]) - scale
    gain = intervals.paired_gain(users, clicked, ours[:, None], theirs[:, None], figure=figure, spans=spans)
    value, half = pooled_by_loops(figure, users, clicked, ours, theirs, spans)
    expected = {"gain": value, "low": value - half, "high": value + half}
    assert {name: gain[name] for name in expected} == pytest.approx(expected)


def test_a_span_of_one_class_does_not_count(sample):
    users, _, clicked, score = sample
    spans = np.arange(600) // 300
    noise = np.random.default_rng(1).random(600)
    sides = np.stack([score, score + 0.1 * noise])[:, None], np.stack([noise, noise + score / 9])[:, None]
    clicked = np.where(spans == 1, 0, clicked)
    first = spans == 0
    alone = intervals.paired_gain(users[first], clicked[first], *(side[..., first] for side in sides))
    assert intervals.paired_gain(users, clicked, *sides, spans=spans) == pytest.approx(alone)


def test_where_one_user_alone_clicks_in_a_span_the_others_are_measured_without_it(sample):
    """As if the span were not there."""
    users, _, clicked, score = sample
    spans = np.arange(600) // 300
    clicked = np.where(spans == 1, users == 3, clicked)
    spans_of = intervals._Spans(users, clicked, spans, "auc")
    value, without = spans_of.figure(score)
    kept = (users != 3) & (spans == 0)
    assert without[3] == pytest.approx(roc_auc_score(clicked[kept], score[kept])) and len(without) == 41
    assert value != pytest.approx(without[3], abs=1e-4) and not np.isnan(without).any()
