"""Shares of equal values in a history, against a loop."""

import numpy as np
import pytest
import tensorflow as tf

from courier_tf.ranking.catalogue_visuals import CatalogueVisuals
from courier_tf.ranking.repeats import item_keys, share_of_equals
from courier_tf.ranking.visual_features.cluster_ids import PlainClusterId
from courier_tf.ranking.visual_features.visual_feature import ItemVisuals


@pytest.mark.parametrize("candidates,length,columns", [(1, 20, 3), (7, 5, 1), (3, 0, 2), (0, 4, 2), (3, 4, 0)])
def test_shares_equal_a_loop(candidates, length, columns):
    rng = np.random.default_rng(length)
    mask = np.arange(length) < rng.integers(0, length + 1, 6)[:, None]
    values = 2**40 * rng.integers(-2, 3, [6, candidates, columns])
    history = 2**40 * rng.integers(-2, 3, [6, length, columns])  # Padding may hold anything.
    same = (values[:, :, None] == history[:, None]) & (values[:, :, None] != 0) & mask[:, None, :, None]
    expected = same.sum(axis=2) / np.maximum(mask.sum(axis=1), 1)[:, None, None]
    shares = share_of_equals(*map(tf.constant, (values, history, mask)))
    np.testing.assert_allclose(shares, expected, rtol=1e-6)


@pytest.mark.parametrize("batch", [0, 4])
def test_shares_of_no_rows_and_in_a_graph(batch):
    specs = [tf.TensorSpec([None, None, 2], tf.int64)] * 2 + [tf.TensorSpec([None, None], tf.bool)]
    shares = tf.function(share_of_equals, input_signature=specs)
    values = tf.ones([batch, 3, 2], tf.int64)
    found = shares(values, values, tf.ones([batch, 3], tf.bool))
    np.testing.assert_array_equal(found, np.ones([batch, 3, 2]))
    assert shares.get_concrete_function().structured_outputs.shape[2] == 2


def test_keys_tell_items_apart_that_the_catalogue_does_not_know():
    ids = tf.constant([["a", "b", "new", "newer", "", "new"]])
    keys = item_keys(ids, tf.constant([[0, 1, 2, 2, 2, 2]]), 2).numpy()[0]
    assert keys[4] == 0
    assert keys[2] == keys[5]
    assert len(set(keys)) == 5


@pytest.mark.parametrize("levels,clusters", [(1, 5), (3, 4), (12, 1023)])
def test_codes_agree_up_to_a_level(levels, clusters):
    """Twelve levels of 10 bits do not fit into a number of 64."""
    rng = np.random.default_rng(levels)
    # Few values per level, so that many items share a beginning; those of one level are the largest codes.
    codes = rng.integers(clusters - 1, clusters + 1, [40, levels]).astype(np.int32)
    codes[::7] = 0
    visual = CatalogueVisuals(codes, rng.normal(size=[levels, clusters, 3]), np.zeros([40, 0]), np.ones(40, bool))
    wanted, clicked = codes[rng.integers(0, 40, [6, 5])], codes[rng.integers(0, 40, [6, 9])]
    feature = PlainClusterId(visual, 4)
    nothing = tf.zeros([6, 0, 0])
    signals = feature(ItemVisuals(wanted, nothing), ItemVisuals(clicked, nothing), tf.ones([6, 9], tf.bool))
    for level in range(levels):
        same = (wanted[:, :, None, : level + 1] == clicked[:, None, :, : level + 1]).all(axis=3)
        share = (same & (wanted[:, :, None, 0] > 0)).mean(axis=2)
        np.testing.assert_allclose(signals.statistics[..., level], share, rtol=1e-6)
        np.testing.assert_allclose(signals.statistics[..., levels + level], np.sqrt(share), rtol=1e-6)
