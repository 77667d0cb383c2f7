"""How often the intervals cover, where the truth is known: simulated figures and simulated scores.

`make benchmark-coverage` measures the same with rankers that are really trained.
"""

import numpy as np
import pytest

from courier_tf.ranking import intervals
from tests.benchmarks.coverage.scores import Parts, coverage_of_scores, null_scores

NOMINAL, TOLERANCE = 95, 3  # Per cent of the data sets.


def shares_covered(users, starts, of_user, of_start, of_both, data_sets=2000):
    """Per cent of data sets whose interval holds the truth, 0.

    A figure is the mean over users, weighted by their skewed numbers of rows, of what a start is worth to a user: the
    sum of parts of the user, of the start and of both, and the truth.
    """
    rng = np.random.default_rng(users + starts)
    held = 0
    for _ in range(data_sets):
        rows = np.ceil(rng.lognormal(2, 0.5, users))
        worth = of_user * rng.normal(size=users) + of_start * rng.normal(size=[starts, 1])
        worth = worth + of_both * rng.normal(size=[starts, users])
        total = worth @ rows
        without = (total[:, None] - worth * rows) / (rows.sum() - rows)
        value = total / rows.sum()
        half, _ = intervals.spread_of(value, without)
        held += abs(value.mean()) <= half
    return 100 * held / data_sets


@pytest.mark.parametrize("starts", [2, 3, 5])
@pytest.mark.parametrize("users", [10, 300])
@pytest.mark.parametrize("parts", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0.3, 1), (1, 1, 1)])
def test_intervals_cover_whatever_the_variance_comes_from(users, starts, parts):
    of_user, of_start, of_both = parts
    share = shares_covered(users, starts, of_user, of_start / np.sqrt(users), of_both)
    assert abs(share - NOMINAL) <= TOLERANCE


def test_with_users_alone_a_start_would_be_taken_for_the_truth():
    """What made intervals of one start exclude a true 0 in most cases: the reason why there are none."""
    rng = np.random.default_rng(0)
    held = []
    for _ in range(300):
        of_users = rng.normal(size=300)
        value = rng.normal(scale=0.15) + of_users.mean()
        held.append(abs(value) <= 1.96 * of_users.std() / np.sqrt(300))
    assert np.mean(held) < 0.6


@pytest.mark.parametrize("users, rows", [(12, 240), (120, 600)])
@pytest.mark.parametrize("figure", ["auc", "gauc"])
def test_intervals_of_gains_cover(users, rows, figure):
    """From scores to the interval; numbers of rows per user are skewed."""
    share, sets = coverage_of_scores(users, rows, starts=3, figure=figure, data_sets=400, seed=1)
    assert sets > 390 and abs(100 * share - NOMINAL) <= TOLERANCE


def test_intervals_over_several_spans_cover_and_those_of_users_per_span_do_not():
    """The same users come back in each of four spans, and what a ranker is worth to a user lasts.

    If a user were another one in each span, the interval would be too narrow.
    """
    rng, held = np.random.default_rng(0), {"users": [], "users of spans": []}
    for _ in range(250):
        user, clicked, scores = null_scores(rng, 40, 1600, starts=3, parts=Parts(2.0, 0.0, 0.1), skew=0.7)
        spans = rng.integers(0, 4, len(user))
        for name, who in (("users", user), ("users of spans", 4 * user + spans)):
            gain = intervals.paired_gain(who, clicked, *scores, spans=spans)
            held[name].append(gain["low"] <= 0 <= gain["high"])
    assert abs(100 * np.mean(held["users"]) - NOMINAL) <= 4
    assert 100 * np.mean(held["users of spans"]) < NOMINAL - 8
