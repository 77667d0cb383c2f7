"""Losses and reconstructions against loops in NumPy, with padding, duplicates, empty histories and no clicks."""

import numpy as np
import pytest
import tensorflow as tf

from courier_tf.pretrain.contrastive import contrastive_loss, targets
from courier_tf.pretrain.reconstruction import MultiHead, WeightedSum


def unit(rng, *shape):
    values = rng.normal(size=shape).astype(np.float32)
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


def oracle(rebuilt, is_target, positions, candidates, mask, items, temperature):
    losses, probabilities, found = [], [], []
    for b in np.flatnonzero(is_target):
        r = rebuilt[b] / np.linalg.norm(rebuilt[b])
        own = positions[b]
        terms = {}
        for a in range(len(candidates)):
            if a == own or (mask[a] and items[a] != items[own]):
                terms[a] = np.exp(float(candidates[a] @ r) / temperature)
        probabilities.append(terms[own] / sum(terms.values()))
        losses.append(-np.log(probabilities[-1]))
        found.append(terms[own] == max(terms.values()))
    return sum(losses), sum(probabilities), sum(found)


@pytest.mark.parametrize("temperature", [0.05, 1.0])
def test_loss_equals_a_loop(temperature):
    rng = np.random.default_rng(0)
    candidates, rebuilt = unit(rng, 30, 8), rng.normal(size=[10, 8]).astype(np.float32)
    positions = np.arange(10, 20)
    mask = rng.random(30) < 0.8
    items = rng.integers(0, 12, 30)
    is_target = mask[positions] & (rng.random(10) < 0.6)
    assert is_target.sum() > 2 and (~mask).any() and len(set(items)) < 30
    found = contrastive_loss(rebuilt, is_target, positions, candidates, mask, items, temperature)
    expected = oracle(rebuilt, is_target, positions, candidates, mask, items, temperature)
    np.testing.assert_allclose([float(v) for v in found], expected, rtol=1e-4)


def test_padded_slots_and_accidental_negatives_have_no_influence():
    rng = np.random.default_rng(1)
    candidates, rebuilt = unit(rng, 6, 4), unit(rng, 2, 4)
    mask = np.array([True, True, True, True, False, True])
    items = np.array([1, 2, 3, 4, 0, 1])  # The last one is the first target's own item again.
    only_first = np.array([True, False])

    def loss(vectors):
        return float(contrastive_loss(rebuilt, only_first, np.array([0, 1]), vectors, mask, items, 0.1).loss)

    moved = candidates.copy()
    moved[4:] = unit(rng, 2, 4)
    assert loss(moved) == loss(candidates)
    moved[2] = unit(rng, 4)
    assert loss(moved) != loss(candidates)


def test_no_target_gives_zero_and_no_gradient():
    rng = np.random.default_rng(2)
    candidates = tf.Variable(unit(rng, 4, 4))
    with tf.GradientTape() as tape:
        nothing = np.zeros(4, bool)
        found = contrastive_loss(candidates * 1.0, nothing, np.arange(4), candidates, nothing, np.zeros(4, int), 0.05)
    assert float(found.loss) == 0.0
    gradient = tape.gradient(found.loss, candidates)
    np.testing.assert_array_equal(gradient, np.zeros([4, 4]))


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
    found = WeightedSum(initial_scale=7.0)(page_view, history, tf.constant(mask)).numpy()
    for b in range(4):
        for j in range(3):
            weights = np.array(
                [np.exp(7 * page_view[b, j] @ h) if m else 0 for h, m in zip(history[b], mask[b], strict=True)]
            )
            expected = weights @ history[b] / weights.sum() if mask[b].any() else np.zeros(8)
            np.testing.assert_allclose(found[b, j], expected, atol=1e-5)


def test_multi_head_equals_a_loop():
    rng = np.random.default_rng(4)
    page_view, history = unit(rng, 3, 2, 8), unit(rng, 3, 4, 8)
    mask = rng.random([3, 4]) < 0.7
    mask[0], mask[2] = False, True
    layer = MultiHead(heads=2)
    layer(page_view, history, tf.constant(mask))
    layer.set_weights([rng.normal(size=w.shape) for w in layer.get_weights()])
    found = layer(page_view, history, tf.constant(mask)).numpy()
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
        np.testing.assert_allclose(found[b], expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("layer", [WeightedSum, MultiHead])
def test_empty_history_gives_zeros_and_zero_gradient(layer):
    rng = np.random.default_rng(5)
    page_view, history = tf.Variable(unit(rng, 2, 3, 8)), tf.Variable(unit(rng, 2, 4, 8))
    mask = tf.constant([[False] * 4, [True] * 4])
    module = layer()
    with tf.GradientTape() as tape:
        rebuilt = module(page_view, history, mask)
        loss = tf.reduce_sum(rebuilt**2)
    gradients = tape.gradient(loss, [page_view, history, *module.trainable_variables])
    np.testing.assert_array_equal(rebuilt[0], np.zeros([3, 8]))
    np.testing.assert_array_equal(gradients[0][0], np.zeros([3, 8]))
    np.testing.assert_array_equal(gradients[1][0], np.zeros([4, 8]))
    assert all(np.isfinite(g).all() for g in gradients) and np.abs(gradients[1][1]).max() > 0
