"""The ranking of the page and its reasons, against the trained rankers, one pair after the other."""

import numpy as np
import pytest

from courier_tf.demo.ranked import ranked
from courier_tf.ranking.comparison import start_directory
from courier_tf.ranking.ranker_files import load_ranker
from courier_tf.report.views import features_of


def probability(ranker, user, history, item):
    # A history of no items has one place of padding.
    features = features_of(user.encode(), [past.encode() for past in history] or [b""], [item.encode()])
    return float(ranker(features, training=False).numpy()[0])


def odds(value):
    return np.log(value / (1 - value))


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("most", [0, 1, 5])
def test_ranking_and_reasons_are_those_of_the_trained_rankers(work, shop, client, number, most):
    view = shop.views[number]
    history, candidates = view.history[: min(most, len(view.history))], view.candidates
    stages = work.stages
    without = load_ranker(start_directory(stages.rank.path, "none", stages.rank.facts.best_start["none"]))
    expected = {item: probability(work.ranker, view.user, history, item) for item in candidates}
    blind = {item: probability(without, view.user, history, item) for item in candidates}
    places = ranked(client, view.user, history, candidates, compare=True)
    assert sorted(place.item for place in places) == sorted(candidates)
    shown = [place.probability for place in places]
    assert shown == sorted(shown, reverse=True)
    for place in places:
        assert place.probability == pytest.approx(expected[place.item], abs=1e-5)
        higher = sum(value > blind[place.item] + 1e-6 for value in blind.values())
        lower = sum(value < blind[place.item] - 1e-6 for value in blind.values())
        assert higher < place.place_without <= len(candidates) - lower
        assert len(place.effects) == len(history)
        for row, effect in enumerate(place.effects):
            rest = history[:row] + history[row + 1 :]
            alone = probability(work.ranker, view.user, rest, place.item)
            assert effect == pytest.approx(odds(expected[place.item]) - odds(alone), abs=1e-3)


def test_a_history_matters(client, shop):
    """Else the comparisons above would be of zeros."""
    effects = [
        effect
        for view in shop.views
        for place in ranked(client, view.user, view.history, view.candidates, compare=False)
        for effect in place.effects
    ]
    assert np.abs(effects).max() > 1e-3


def test_no_place_without_photos_where_the_server_has_no_such_ranker(client, shop):
    view = shop.views[0]
    assert {place.place_without for place in ranked(client, view.user, view.history, view.candidates, False)} == {None}
