"""Losses and reconstructions against loops in NumPy, with padding, duplicates, empty histories and no clicks."""

import numpy as np
import pytest
import tensorflow as tf

from courier_tf.pretrain.contrastive import (
    contrastive_loss,
    grouped_slot_counts,
    slot_counts,
    softmax_weights,
    targets,
)
from courier_tf.pretrain.reconstruction import RECONSTRUCTIONS, Mean, MultiHead, SelfAttention, WeightedSum


def unit(rng, *shape):
    values = rng.normal(size=shape).astype(np.float32)
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


def slot_oracle(rebuilt, own_slots, slot_vectors, slot_items, is_negative, temperature):
    """The loss by its definition: over slots, one by one; `is_negative(target slot, other slot)`."""
    losses, probabilities, hits = [], [], []
    for r, target in zip(rebuilt, own_slots, strict=True):
        r = r / np.linalg.norm(r)
        terms = {target: np.exp(float(slot_vectors[target] @ r) / temperature)}
        for a in range(len(slot_vectors)):
            if a != target and slot_items[a] > 0 and is_negative(target, a):
                terms[a] = np.exp(float(slot_vectors[a] @ r) / temperature)
        probabilities.append(terms[target] / sum(terms.values()))
        losses.append(-np.log(probabilities[-1]))
        hits.append(terms[target] >= max(terms.values()) * (1 - 1e-6))
    return sum(losses), sum(probabilities), sum(hits)


@pytest.mark.parametrize("temperature", [0.05, 1.0])
@pytest.mark.parametrize("accidental", [False, True])
@pytest.mark.parametrize("kind", ["all", "clicked", "other groups"])
def test_loss_over_items_equals_a_loop_over_slots(temperature, accidental, kind):
    rng = np.random.default_rng(0)
    items = np.array([0, 11, 12, 13, 14, 15, 16, 12])  # Item 12 twice, as two replicas would bring it.
    vectors, slots = unit(rng, len(items), 8), 40
    places = rng.integers(0, len(items), slots)
    shown, clicked, group = items[places] > 0, rng.random(slots) < 0.5, rng.integers(0, 4, slots)
    own_slots = np.flatnonzero(shown & clicked)[:9]
    assert len(set(places)) == len(items) and (~shown).any()
    rebuilt = rng.normal(size=[9, 8]).astype(np.float32)
    if kind == "all":
        counts = slot_counts(places, shown, len(items))
    elif kind == "clicked":
        counts = slot_counts(places, shown & clicked, len(items))
    else:
        counts = grouped_slot_counts(places, shown, len(items), group, group[own_slots])
    weights = softmax_weights(
        places[own_slots], counts, items, positive_counted=kind != "other groups", accidental_negatives=accidental
    )
    sums = contrastive_loss(rebuilt, places[own_slots], vectors, weights, temperature)

    def is_negative(target, other):
        if not accidental and items[places[target]] == items[places[other]]:
            return False
        return {"all": True, "clicked": clicked[other], "other groups": group[target] != group[other]}[kind]

    expected = slot_oracle(rebuilt, own_slots, vectors[places], items[places], is_negative, temperature)
    np.testing.assert_allclose([float(v) for v in sums], expected, rtol=1e-4)


def test_no_target_gives_zero_and_no_gradient():
    rng = np.random.default_rng(2)
    candidates = tf.Variable(unit(rng, 4, 4))
    with tf.GradientTape() as tape:
        weights = softmax_weights(
            tf.zeros([0], tf.int32), tf.ones([4]), tf.range(4), positive_counted=True, accidental_negatives=False
        )
        sums = contrastive_loss(tf.zeros([0, 4]), tf.zeros([0], tf.int32), candidates, weights, 0.05)
    assert [float(value) for value in sums] == [0.0, 0.0, 0.0]
    np.testing.assert_array_equal(tape.gradient(sums.loss, candidates), np.zeros([4, 4]))


def test_targets():
    clicked = np.array([[True, True, False], [True, False, False], [True, False, False]])
    items = np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9]])
    history = np.array([[2, 0], [9, 0], [7, 7]])
    mask = np.array([[True, False], [False, False], [False, False]])
    kept, copied = targets(clicked, items, history, mask)
    np.testing.assert_array_equal(kept, [[True, False, False], [False] * 3, [False] * 3])
    np.testing.assert_array_equal(copied, [[False, True, False], [False] * 3, [False] * 3])


def test_weighted_sum_equals_a_loop():
    rng = np.random.default_rng(3)
    page_view, history = unit(rng, 4, 3, 8), unit(rng, 4, 5, 8)
    mask = rng.random([4, 5]) < 0.6
    mask[1] = False
    result = WeightedSum(initial_scale=7.0)(page_view, history, tf.constant(mask)).numpy()
    for b in range(4):
        for j in range(3):
            weights = np.array(
                [np.exp(7 * page_view[b, j] @ h) if m else 0 for h, m in zip(history[b], mask[b], strict=True)]
            )
            expected = weights @ history[b] / weights.sum() if mask[b].any() else np.zeros(8)
            np.testing.assert_allclose(result[b, j], expected, atol=1e-5)


def test_multi_head_equals_a_loop():
    rng = np.random.default_rng(4)
    page_view, history = unit(rng, 3, 2, 8), unit(rng, 3, 4, 8)
    mask = rng.random([3, 4]) < 0.7
    mask[0], mask[2] = False, True
    layer = MultiHead(heads=2)
    layer(page_view, history, tf.constant(mask))
    layer.set_weights([rng.normal(size=w.shape) for w in layer.get_weights()])
    result = layer(page_view, history, tf.constant(mask)).numpy()
    dense = {name: [w.numpy() for w in projection.weights] for name, projection in layer.projections.items()}

    def apply(name, x):
        return x @ dense[name][0] + dense[name][1]

    for b in range(3):
        q = apply("query", page_view[b] * np.sqrt(8))
        k, v = apply("key", history[b] * np.sqrt(8)), apply("value", history[b] * np.sqrt(8))
        joined = np.zeros([2, 8])
        for head in (slice(0, 4), slice(4, 8)):
            weights = np.exp(q[:, head] @ k[:, head].T / 2) * mask[b]
            joined[:, head] = weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-30) @ v[:, head]
        expected = apply("output", joined) * mask[b].any()
        np.testing.assert_allclose(result[b], expected, rtol=1e-3, atol=1e-3)


def test_reconstructions_that_do_not_look_at_the_target():
    rng = np.random.default_rng(6)
    page_view, history = unit(rng, 3, 2, 4), unit(rng, 3, 5, 4)
    mask = rng.random([3, 5]) < 0.6
    mask[1] = False
    mean = Mean()(page_view, history, tf.constant(mask)).numpy()
    attention = SelfAttention(initial_scale=3.0)
    attended = attention(page_view, history, tf.constant(mask)).numpy()
    query = attention.query.numpy() / np.linalg.norm(attention.query.numpy())
    for b in (0, 2):
        kept = history[b][mask[b]]
        weights = np.exp(3 * kept @ query)
        for j in range(2):
            np.testing.assert_allclose(mean[b, j], kept.mean(axis=0), atol=1e-5)
            np.testing.assert_allclose(attended[b, j], weights @ kept / weights.sum(), atol=1e-5)
    np.testing.assert_array_equal(mean[1], np.zeros([2, 4]))


@pytest.mark.parametrize("layer", RECONSTRUCTIONS.values())
def test_empty_history_gives_zeros_and_zero_gradient(layer):
    rng = np.random.default_rng(5)
    page_view, history = tf.Variable(unit(rng, 2, 3, 8)), tf.Variable(unit(rng, 2, 4, 8))
    mask = tf.constant([[False] * 4, [True] * 4])
    module = layer()
    with tf.GradientTape() as tape:
        rebuilt = module(page_view, history, mask)
        loss = tf.reduce_sum(rebuilt**2)
    gradients = tape.gradient(loss, [page_view, history, *module.trainable_variables], unconnected_gradients="zero")
    np.testing.assert_array_equal(rebuilt[0], np.zeros([3, 8]))
    np.testing.assert_array_equal(gradients[0][0], np.zeros([3, 8]))
    np.testing.assert_array_equal(gradients[1][0], np.zeros([4, 8]))
    assert all(np.isfinite(g).all() for g in gradients) and np.abs(gradients[1][1]).max() > 0
