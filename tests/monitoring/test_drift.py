"""Drift: nothing where the same shop goes on, and each change by its name."""

import dataclasses

import numpy as np
import pytest

from courier_tf.monitoring.drift import drift_of
from courier_tf.monitoring.pair_features import PairFeatures, category_distance, score_distance
from courier_tf.monitoring.ranked import Pairs
from courier_tf.monitoring.skew import Scores, SkewReport
from courier_tf.settings.monitoring import DriftSettings

CATEGORY = {b"i%d" % item: b"c%d" % (item % 40) for item in range(400)}
KNOWN = {b"u%d" % user for user in range(1500)}


def features(seed, *, users=1600, items=400, unknown=0, lengths=(0, 9), rate=0.1, shift=0.0):
    """A day of pairs; of `items` items, and so many unknown ones."""
    rng, number = np.random.default_rng(seed), 6000
    length = rng.integers(*lengths, size=number)
    history = np.where(np.arange(10) < length[:, None], b"i1", b"").astype(object)
    item = [b"i%d" % each for each in rng.integers(items + unknown, size=number) + (400 - items if unknown else 0)]
    user = [b"u%d" % each for each in rng.integers(users, size=number)]
    day = PairFeatures(CATEGORY)
    pairs = Pairs(np.array(user, object), history, np.array(item, object))
    scores = 1 / (1 + np.exp(-rng.normal(shift, 1, number)))
    day.add(pairs, scores, (rng.random(number) < rate).astype(int))
    return day


def report_of(log, train):
    distances = {"scores": score_distance(train.scores(), log.scores()), "categories": category_distance(train, log)}
    return SkewReport(
        Scores((1,), 0, 0, 0.0, 0.0), log.figures(KNOWN), train.figures(KNOWN), distances, len(log.users), 0
    )


def test_nothing_drifts_where_the_same_shop_goes_on():
    for seed in range(1, 6):
        report = drift_of(report_of(features(seed), features(0)), DriftSettings())
        assert report.judged and report.drifted == () and len(report.checks) == 7


@pytest.mark.parametrize(
    "name, change",
    [
        ("scores", {"shift": 0.8}),
        ("categories", {"items": 20}),
        ("items_not_in_the_catalogue", {"unknown": 40}),
        ("users_that_the_ranker_does_not_know", {"users": 3000}),
        ("without_history", {"lengths": (0, 2)}),
        ("mean_history_length", {"lengths": (0, 4)}),
        ("share_of_clicks", {"rate": 0.05}),
    ],
)
def test_what_changes_is_named(name, change):
    report = drift_of(report_of(features(1, **change), features(0)), DriftSettings())
    assert name in report.drifted


def test_few_users_are_not_judged():
    report = report_of(features(1, shift=3.0), features(0))
    assert drift_of(report, DriftSettings()).drifted == ("scores",)
    few = drift_of(dataclasses.replace(report, users=499), DriftSettings())
    assert few.drifted == () and not few.judged and few.checks[0].exceeded


def test_what_only_one_side_knows_is_not_compared():
    log, train = features(1), features(0)
    bare = PairFeatures(CATEGORY)
    bare.add(Pairs(np.array([b"u1"], object), np.array([[b""]], object), np.array([b"i1"], object)), np.zeros(1), None)
    report = dataclasses.replace(report_of(log, train), train_features=bare.figures(None))
    names = [check.name for check in drift_of(report, DriftSettings()).checks]
    assert names == ["scores", "categories", "items_not_in_the_catalogue", "without_history", "mean_history_length"]


def test_a_mean_of_nothing_is_infinitely_far():
    report = report_of(features(1, lengths=(0, 1)), features(0))
    (check,) = (check for check in drift_of(report, DriftSettings()).checks if check.name == "mean_history_length")
    assert check.change == float("inf") and check.exceeded
