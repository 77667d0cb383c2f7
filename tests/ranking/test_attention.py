"""Target attention: padding, empty histories, precisions, and against NumPy."""

import numpy as np
import tensorflow as tf

from courier_tf.ranking.attention import TargetAttention


def test_attention_ignores_padding_and_empty_histories(precision):
    rng = np.random.default_rng(0)
    layer = TargetAttention()
    candidate = tf.cast(rng.normal(size=[4, 6]), layer.compute_dtype)
    history = rng.normal(size=[4, 3, 6])
    mask = np.array([[True, True, False], [True, False, False], [False] * 3, [True] * 3])
    with tf.GradientTape() as tape:
        output = layer(candidate, tf.cast(history, layer.compute_dtype), tf.constant(mask))
        loss = tf.reduce_sum(tf.cast(output, tf.float32) ** 2)
    assert all(np.isfinite(g.numpy().astype(float)).all() for g in tape.gradient(loss, layer.trainable_variables))
    np.testing.assert_array_equal(tf.cast(output, tf.float32)[2], np.zeros(6))
    np.testing.assert_allclose(tf.cast(output, tf.float32)[1], history[1, 0], rtol=0.02, atol=0.02)
    history[~mask] = 100
    again = layer(candidate, tf.cast(history, layer.compute_dtype), tf.constant(mask))
    np.testing.assert_array_equal(tf.cast(output, tf.float32), tf.cast(again, tf.float32))


def test_attention_equals_numpy():
    """The layer in parts is the MLP on [candidate, item, candidate * item]."""
    rng = np.random.default_rng(3)
    layer = TargetAttention(hidden=5)
    candidate, history = rng.normal(size=[3, 4]).astype(np.float32), rng.normal(size=[3, 2, 4]).astype(np.float32)
    mask = np.array([[True, True], [True, False], [True, True]])
    layer(candidate, history, tf.constant(mask))
    for weight in layer.weights:
        weight.assign(rng.normal(size=weight.shape))
    added = rng.normal(size=[3, 2]).astype(np.float32)
    output = layer(candidate, history, tf.constant(mask), tf.constant(added)).numpy()
    shares = layer.weights_of(candidate, history, tf.constant(mask), tf.constant(added)).numpy()
    first = np.concatenate([part.kernel.numpy() for part in (layer.of_candidate, layer.of_item, layer.of_product)])
    for b in range(3):
        logits = []
        for item in history[b]:
            joined = np.concatenate([candidate[b], item, candidate[b] * item])
            hidden = np.maximum(joined @ first + layer.of_candidate.bias.numpy(), 0)
            logits.append(hidden @ layer.logit.kernel.numpy()[:, 0] + layer.logit.bias.numpy()[0])
        weights = np.exp(logits + added[b]) * mask[b]
        np.testing.assert_allclose(output[b], weights @ history[b] / weights.sum(), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(shares[b], weights / weights.sum(), rtol=1e-4, atol=1e-5)


def test_many_candidates_equal_one_at_a_time():
    """Each through its own gate; an empty history and padding among the rows."""
    rng = np.random.default_rng(1)
    layer, width, plain = TargetAttention(hidden=5), 6, 4
    candidates, history = rng.normal(size=[3, 7, width]), rng.normal(size=[3, 2, width])
    candidates, history = candidates.astype(np.float32), history.astype(np.float32)
    opened = rng.integers(0, 2, [3, 7, 1]).astype(np.float32)
    candidates[..., plain:] *= opened
    mask = tf.constant([[True, True], [True, False], [False, False]])
    layer(candidates[:, 0], history, mask)
    layer.of_candidate.bias.assign(rng.normal(size=5))
    parts = history[..., :plain], history[..., plain:]
    added = rng.normal(size=[3, 7, 2]).astype(np.float32)
    for logits in (None, added):
        output = layer.share_history(candidates, *parts, opened, mask, logits)
        for n in range(7):
            through = np.concatenate([parts[0], parts[1] * opened[:, n : n + 1]], axis=2)
            expected = layer(candidates[:, n], through, mask, None if logits is None else logits[:, n])
            np.testing.assert_allclose(output[:, n], expected, rtol=1e-4, atol=1e-5)
