"""Embeddings of the prefixes of residual codes, and the interest codes of users."""

import dataclasses
import itertools

import numpy as np
import tensorflow as tf

from courier_tf.ranking.visual_features.cluster_ids import PlainClusterId, PrefixId
from courier_tf.ranking.visual_features.interest import UserInterest
from courier_tf.ranking.visual_features.visual_feature import ItemVisuals
from tests.ranking.shop import catalogue_visuals

CODES = np.array([[1, 2], [2, 2], [1, 2], [1, 1], [0, 0], [0, 0]], np.int32)


def made_of(codes):
    made = catalogue_visuals(levels=2, clusters=3)
    nothing = np.zeros([len(codes), 6], np.float32)
    return dataclasses.replace(made, codes=codes, embeddings=nothing, in_train_span=codes[:, 0] > 0)


def embedded(layer, codes, dim=4):
    items = ItemVisuals(tf.constant(codes[:, None]), tf.zeros([len(codes), 1, 0]))
    return layer(items, items, tf.ones([len(codes), 1], tf.bool)).candidate[:, 0].numpy()


def with_random_tables(codes, seed):
    """A layer for items with these codes, whose tables hold random numbers."""
    layer = PrefixId(made_of(codes), 4)
    embedded(layer, codes)
    rng = np.random.default_rng(seed)
    for table in layer.tables:
        table.embeddings.assign(rng.normal(size=table.embeddings.shape))
    return layer


def test_items_share_an_embedding_exactly_as_far_as_their_codes_agree():
    layer = with_random_tables(CODES, seed=0)
    assert layer.prefixes() == [[(0,), (1,), (2,)], [(0, 0), (1, 1), (1, 2), (2, 2)]]
    tables = [
        dict(zip(prefixes, table.embeddings.numpy(), strict=True))
        for prefixes, table in zip(layer.prefixes(), layer.tables, strict=True)
    ]
    expected = [tables[0][(first,)] + tables[1][(first, second)] for first, second in CODES.tolist()]
    np.testing.assert_allclose(embedded(layer, CODES), expected, rtol=1e-6)
    statistics = [
        feature(*[ItemVisuals(tf.constant(CODES[None]), tf.zeros([1, 6, 0]))] * 2, tf.ones([1, 6], tf.bool)).statistics
        for feature in (layer, PlainClusterId(made_of(CODES), 4))
    ]
    np.testing.assert_array_equal(*statistics)


def test_a_prefix_starts_from_the_centroid_of_its_last_code():
    made = made_of(CODES)
    layer = PrefixId(made, 4)
    start = embedded(layer, CODES)
    levels = 0.1 * made.centroids_in(4)
    expected = [levels[0][a - 1] + levels[1][b - 1] if a else np.zeros(4) for a, b in CODES]
    np.testing.assert_allclose(start, expected, rtol=1e-5, atol=1e-7)


def test_a_next_ranker_takes_prefixes_by_what_they_are_not_by_their_rows():
    """A new item brings a prefix that moves the rows of others; another prefix has gone, so the tables are as large."""
    before = with_random_tables(CODES, seed=1)
    codes = np.array([[1, 2], [2, 1], [2, 2], [0, 0]], np.int32)
    after = PrefixId(made_of(codes), 4)
    fresh = embedded(after, codes)
    after.take_weights(before)
    assert [len(table.embeddings.numpy()) for table in after.tables] == [3, 4]
    learned = embedded(after, codes)
    np.testing.assert_allclose(learned[[0, 2]], embedded(before, CODES)[[0, 1]], rtol=1e-6)
    both = dict(zip(before.prefixes()[0], before.tables[0].embeddings.numpy(), strict=True))
    np.testing.assert_allclose(
        learned[1] - both[(2,)], fresh[1] - 0.1 * made_of(codes).centroids_in(4)[0][1], atol=1e-6
    )


def test_the_interest_code_is_the_cluster_nearest_to_the_mean_of_the_history():
    made = catalogue_visuals(clusters=8, width=5)
    layer = UserInterest(made, 4)
    rng = np.random.default_rng(2)
    history, mask = rng.integers(0, 9, [50, 6]).astype(np.int32), rng.random([50, 6]) < 0.6
    mask[0], history[1] = False, 0
    units = made.centroids[0] / np.linalg.norm(made.centroids[0], axis=1, keepdims=True)
    expected = []
    for codes, real in zip(history, mask, strict=True):
        known = [(1 + 1e-3 * place**0.5) * units[code - 1] for place, code in enumerate(codes) if real[place] and code]
        expected.append(1 + int(np.argmax(units @ np.mean(known, axis=0))) if known else 0)
    np.testing.assert_array_equal(layer.codes(tf.constant(history), tf.constant(mask)), expected)
    # Of two clusters that are equally near, that of the later items counts, however many items are asked at once.
    pairs = itertools.combinations(range(8), 2)
    a, b = next(pair for pair in pairs if set(np.argsort(units @ units[list(pair)].sum(axis=0))[-2:]) == set(pair))
    ties = tf.constant([[a, b, -1, -1], [b, a, -1, -1], [a, b, b, a], [a, b, a, b]]) + 1
    assert layer.codes(ties, tf.ones_like(ties) > 0).numpy().tolist() == [b + 1, a + 1, b + 1, b + 1]
    assert len(set(expected)) > 4 and expected[:2] == [0, 0]
    candidate = ItemVisuals(tf.zeros([50, 3, 1], tf.int32), tf.zeros([50, 3, 0]))
    seen = layer(candidate, ItemVisuals(tf.constant(history[..., None]), tf.zeros([50, 6, 0])), tf.constant(mask))
    rows = layer.table.embeddings.numpy()[expected]
    np.testing.assert_allclose(seen.statistics, np.repeat(rows[:, None], 3, axis=1), rtol=1e-6)
