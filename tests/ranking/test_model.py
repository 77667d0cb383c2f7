"""Catalogue, attention and ranker: cold and unknown ids, padding, precisions, replicas, saving."""

import numpy as np
import pytest
import tensorflow as tf

from courier_tf.ranking.catalogue import CLUSTER, ITEM, Catalogue, CatalogueLookup, permuted
from courier_tf.ranking.model import Ranker, TargetAttention
from courier_tf.ranking.saved import load_ranker, new_ranker, save_ranker
from courier_tf.records import Items

NOW = 1000
IDS = [b"a", b"b", b"c", b"d"]


def items(**changes) -> Items:
    """a and b are known in training, c is shown there but never clicked, d comes later."""
    values = {
        "ids": np.array(IDS, object),
        "columns": {"category": np.array([b"x", b"y", b"x", b"new"], object)},
        "titles": np.array([b""] * 4, object),
        "available_from": np.array([1, 2, 3, NOW + 1]),
        "train_events": np.array([5, 1, 0, 0]),
        "photos": np.array([b"p"] * 4, object),
    }
    return Items(**{**values, **changes})


def catalogue(clusters=(0, 1, 1, 2)) -> Catalogue:
    return Catalogue.of(items(), ["category"], NOW, None if clusters is None else np.array(clusters))


def features(rng, rows=16):
    names = [b"a", b"b", b"c", b"d", b"unknown"]
    history = rng.choice([*names, b""], [rows, 3]).astype(object)
    history[0] = b""
    return {
        "user_id": tf.constant(rng.choice([b"u1", b"u2", b"nobody"], rows).astype(object)),
        "history_item_ids": tf.constant(history),
        "item_id": tf.constant(rng.choice(names, rows).astype(object)),
        "clicked": tf.constant(rng.integers(0, 2, rows)),
    }


USERS = np.array([b"u1", b"u2"], object)


def test_codes_of_known_cold_and_unknown_items():
    made = catalogue()
    assert made.names == (ITEM, "column/category", CLUSTER)
    lookup = CatalogueLookup(made)
    found = lookup(tf.constant([[b"a", b"b", b"c"], [b"d", b"never seen", b""]])).numpy()
    np.testing.assert_array_equal(found[0], [[1, 1, 1], [2, 2, 2], [0, 1, 2]])
    np.testing.assert_array_equal(found[1], [[0, 0, 3], [0, 0, 0], [0, 0, 0]])


def test_vocabularies_do_not_see_later_items():
    changed = items(columns={"category": np.array([b"x", b"y", b"x", b"zzz"], object)})
    later = Catalogue.of(changed, ["category"], NOW, None)
    assert later.sizes == catalogue(None).sizes == (3, 3)
    np.testing.assert_array_equal(later.codes, catalogue(None).codes)


def test_permuted_ids_keep_their_sizes():
    clusters = np.array([-1, 3, 3, 5, -1, 7, 3, 5])
    dealt = permuted(clusters, seed=1)
    np.testing.assert_array_equal(np.sort(dealt), np.sort(clusters))
    np.testing.assert_array_equal(dealt < 0, clusters < 0)
    assert (dealt != clusters).any()


def test_attention_ignores_padding_and_empty_histories(precision):
    rng = np.random.default_rng(0)
    layer = TargetAttention()
    candidate = tf.cast(rng.normal(size=[4, 6]), layer.compute_dtype)
    history = rng.normal(size=[4, 3, 6])
    mask = np.array([[True, True, False], [True, False, False], [False] * 3, [True] * 3])
    with tf.GradientTape() as tape:
        found = layer(candidate, tf.cast(history, layer.compute_dtype), tf.constant(mask))
        loss = tf.reduce_sum(tf.cast(found, tf.float32) ** 2)
    assert all(np.isfinite(g.numpy().astype(float)).all() for g in tape.gradient(loss, layer.trainable_variables))
    np.testing.assert_array_equal(tf.cast(found, tf.float32)[2], np.zeros(6))
    np.testing.assert_allclose(tf.cast(found, tf.float32)[1], history[1, 0], rtol=0.02, atol=0.02)
    history[~mask] = 100
    again = layer(candidate, tf.cast(history, layer.compute_dtype), tf.constant(mask))
    np.testing.assert_array_equal(tf.cast(found, tf.float32), tf.cast(again, tf.float32))


def test_compiled_training_in_every_precision(precision):
    tf.keras.utils.set_random_seed(0)
    ranker = new_ranker(catalogue(), USERS, 4)
    ranker.compile(tf.keras.optimizers.Adam(0.01))
    batch = features(np.random.default_rng(0))
    history = ranker.fit(tf.data.Dataset.from_tensors(batch).repeat(40), epochs=2, verbose=0)
    assert history.history["loss"][1] < history.history["loss"][0]
    probability = ranker(batch)
    assert probability.dtype == tf.float32 and np.isfinite(probability).all()


def test_two_replicas_train_like_one(two_replicas):
    batch = features(np.random.default_rng(1))
    weights = []
    for strategy in (tf.distribute.get_strategy(), two_replicas):
        tf.keras.utils.set_random_seed(0)
        with strategy.scope():
            ranker = Ranker(catalogue(), USERS, 4, unknown_rate=0.0)
            ranker({name: batch[name][:1] for name in batch}, training=False)
            ranker.compile(tf.keras.optimizers.SGD(0.5))
        before = [w.numpy() for w in ranker.trainable_variables]
        loss = ranker.fit(tf.data.Dataset.from_tensor_slices(batch).batch(16).repeat(3), verbose=0).history["loss"]
        weights.append((loss[0], before, [w.numpy() for w in ranker.trainable_variables]))
    assert weights[0][0] == pytest.approx(weights[1][0], rel=1e-5)
    for start, one, other in zip(weights[0][1], weights[0][2], weights[1][2], strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
        assert start.shape == one.shape
    assert max(np.abs(a - b).max() for a, b in zip(weights[0][1], weights[0][2], strict=True)) > 1e-3


def test_many_candidates_per_user_equal_the_pairs(precision):
    """Up to the rounding of the compute dtype; padding, unknown ids and empty histories among them."""
    rng, candidates = np.random.default_rng(4), 7
    ranker = new_ranker(catalogue(), USERS, 4)
    batch = features(rng, 5)
    items_of_row = rng.choice([b"a", b"b", b"c", b"d", b"unknown", b""], [5, candidates]).astype(object)
    found = ranker.rank({**batch, "item_id": tf.constant(items_of_row)})
    pairs = {name: tf.repeat(batch[name], candidates, axis=0) for name in ("user_id", "history_item_ids")}
    expected = ranker({**pairs, "item_id": tf.constant(items_of_row.ravel())}, training=False)
    tolerance = {"float32": 1e-6, "mixed_float16": 2e-3, "mixed_bfloat16": 2e-2}[precision]
    np.testing.assert_allclose(found.numpy().ravel(), expected, atol=tolerance)
    assert np.ptp(expected) > 10 * tolerance or precision == "mixed_bfloat16"
    assert ranker.rank({**batch, "item_id": tf.zeros([5, 0], tf.string)}).shape == (5, 0)


def test_more_padding_changes_nothing():
    ranker = new_ranker(catalogue(), USERS, 4)
    batch = features(np.random.default_rng(2))
    wider = {**batch, "history_item_ids": tf.pad(batch["history_item_ids"], [[0, 0], [0, 5]], constant_values="")}
    np.testing.assert_allclose(ranker(batch), ranker(wider), atol=1e-6)


def test_saved_ranker_gives_the_same(tmp_path):
    made = catalogue()
    ranker = new_ranker(made, USERS, 4)
    batch = features(np.random.default_rng(3))
    save_ranker(ranker, made, USERS, 4, tmp_path / "ranker")
    np.testing.assert_allclose(load_ranker(tmp_path / "ranker")(batch), ranker(batch), atol=1e-6)
    with pytest.raises(ValueError, match="holds no ranker"):
        load_ranker(tmp_path / "nowhere")


def test_without_clusters_the_cluster_plays_no_part():
    assert CLUSTER not in catalogue(None).names
    assert (
        len(new_ranker(catalogue(None), USERS, 4).embeddings) == len(new_ranker(catalogue(), USERS, 4).embeddings) - 1
    )


def test_columns_may_have_any_name():
    """A shop's own column `item` or `cluster` is a column like any other."""
    named = {"item": np.array([b"x", b"y", b"x", b"y"], object), "cluster": np.array([b"p", b"p", b"q", b"q"], object)}
    made = Catalogue.of(items(columns=named), ["item", "cluster"], NOW, np.array([3, 3, 1, 0]))
    assert made.names == (ITEM, "column/item", "column/cluster", CLUSTER) and made.codes.shape == (5, 4)
    np.testing.assert_array_equal(made.codes[:3], [[1, 1, 1, 4], [2, 2, 1, 4], [0, 1, 2, 2]])
    new_ranker(made, USERS, 4)


def test_attention_equals_numpy():
    """The layer in parts is the MLP on [candidate, item, candidate * item]."""
    rng = np.random.default_rng(3)
    layer = TargetAttention(hidden=5)
    candidate, history = rng.normal(size=[3, 4]).astype(np.float32), rng.normal(size=[3, 2, 4]).astype(np.float32)
    mask = np.array([[True, True], [True, False], [True, True]])
    layer(candidate, history, tf.constant(mask))
    for weight in layer.weights:
        weight.assign(rng.normal(size=weight.shape))
    found = layer(candidate, history, tf.constant(mask)).numpy()
    first = np.concatenate([part.kernel.numpy() for part in (layer.of_candidate, layer.of_item, layer.of_product)])
    for b in range(3):
        logits = []
        for item in history[b]:
            joined = np.concatenate([candidate[b], item, candidate[b] * item])
            hidden = np.maximum(joined @ first + layer.of_candidate.bias.numpy(), 0)
            logits.append(hidden @ layer.logit.kernel.numpy()[:, 0] + layer.logit.bias.numpy()[0])
        weights = np.exp(logits) * mask[b]
        np.testing.assert_allclose(found[b], weights @ history[b] / weights.sum(), rtol=1e-4, atol=1e-5)
