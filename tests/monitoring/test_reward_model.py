"""The reward model: it has not seen whom it predicts, and finds what clicks depend on."""

import numpy as np
import pytest

from courier_tf.monitoring.reward_model import cross_fitted

RNG = np.random.default_rng(0)
USER = np.arange(600) % 60
FEATURES = RNG.normal(size=[600, 4, 1])
FEATURES[:, 3] = np.where(np.arange(600)[:, None] % 2, np.nan, FEATURES[:, 3])  # Every second request has three.
SHOWN = RNG.permuted(np.tile(np.arange(3), [600, 1]), axis=1)[:, :2]
CHANCE = 1 / (1 + np.exp(1 - np.take_along_axis(FEATURES[:, :, 0], SHOWN, axis=1) - [0.0, -1.5]))
CLICKED = (RNG.random([600, 2]) < CHANCE).astype(int)


def test_it_finds_the_chances_of_shown_and_other_candidates():
    model = cross_fitted(USER, SHOWN, CLICKED, FEATURES)
    assert np.abs(model.of_shown(SHOWN) - CHANCE).mean() < 0.04
    everywhere = model.everywhere(1)
    assert np.abs(everywhere[:, :3] - 1 / (1 + np.exp(2.5 - FEATURES[:, :3, 0]))).mean() < 0.04
    assert (everywhere[1::2, 3] == 0).all() and (everywhere[::2, 3] > 0).all()


def test_the_clicks_of_a_user_do_not_change_what_is_predicted_of_the_user():
    others = np.where((USER == 7)[:, None], 1 - CLICKED, CLICKED)
    before, after = (cross_fitted(USER, SHOWN, clicked, FEATURES).of_shown(SHOWN) for clicked in (CLICKED, others))
    np.testing.assert_array_equal(before[USER == 7], after[USER == 7])
    assert (before[USER != 7] != after[USER != 7]).any()


@pytest.mark.parametrize("clicked", [0, 1])
def test_clicks_of_one_kind_give_their_rate(clicked):
    model = cross_fitted(USER, SHOWN, np.full([600, 2], clicked), FEATURES)
    assert np.abs(model.of_shown(SHOWN) - clicked).max() < 0.01
