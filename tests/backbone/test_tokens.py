"""Normalisation, GELU and the folded dense layer: values against NumPy, gradients against finite differences."""

import math

import numpy as np
import pytest
import tensorflow as tf

from courier_tf.backbone.tokens import EPSILON, Norm, NormDense, TokenDense, gelu, normalise, on_tokens


def numpy_normalise(tokens):
    return (tokens - tokens.mean(axis=-1, keepdims=True)) / np.sqrt(tokens.var(axis=-1, keepdims=True) + EPSILON)


def numpy_gelu(tokens):
    return tokens * np.vectorize(lambda x: 0.5 * (1 + math.erf(x / math.sqrt(2))))(tokens)


def numeric_gradient(function, tokens, upstream, step=1e-5):
    gradient = np.zeros_like(tokens)
    for place in np.ndindex(tokens.shape):
        change = np.zeros_like(tokens)
        change[place] = step
        gradient[place] = ((function(tokens + change) - function(tokens - change)) * upstream).sum() / (2 * step)
    return gradient


@pytest.mark.parametrize("ours, reference", [(normalise, numpy_normalise), (gelu, numpy_gelu)])
@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-5), ("bfloat16", 0.03), ("float16", 0.004)])
def test_values_and_gradients(ours, reference, dtype, tolerance):
    rng = np.random.default_rng(0)
    tokens, upstream = rng.normal(1, 2, [3, 2, 6]), rng.normal(size=[3, 2, 6])
    given = tf.cast(tokens, dtype)
    with tf.GradientTape() as tape:
        tape.watch(given)
        result = ours(given, given.dtype) if ours is normalise else ours(given)
    gradient = tape.gradient(result, given, tf.cast(upstream, dtype))
    assert result.dtype == gradient.dtype == dtype
    exact = tf.cast(given, tf.float64).numpy()
    np.testing.assert_allclose(tf.cast(result, tf.float64), reference(exact), atol=2 * tolerance)
    expected = numeric_gradient(reference, exact, tf.cast(tf.cast(upstream, dtype), tf.float64).numpy())
    np.testing.assert_allclose(tf.cast(gradient, tf.float64), expected, atol=4 * tolerance)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_bias_gradients_are_summed_up_in_float32(dtype):
    """Over more tokens than a narrow float can count."""
    tokens, bias = tf.cast(tf.zeros([5, 4000, 3]), dtype), tf.Variable([0.5, -1.0, 2.0])
    kernel = tf.Variable(tf.zeros([3, 3]))
    with tf.GradientTape() as tape:
        result = on_tokens(tokens, kernel, bias)
        loss = tf.reduce_sum(tf.cast(result, tf.float32) * [1.0, 2.0, 0.25])
    np.testing.assert_allclose(result[0, 0], [0.5, -1.0, 2.0])
    gradient = tape.gradient(loss, bias)
    assert gradient.dtype == tf.float32
    np.testing.assert_allclose(gradient, [20_000, 40_000, 5_000])


def test_equal_channels_have_no_direction():
    """Variance 0: zeros, and finite gradients."""
    tokens = tf.ones([2, 4])
    with tf.GradientTape() as tape:
        tape.watch(tokens)
        result = normalise(tokens)
    np.testing.assert_array_equal(result, np.zeros([2, 4]))
    assert np.isfinite(tape.gradient(result, tokens)).all()


@pytest.mark.parametrize("use_bias", [True, False])
def test_norm_dense_is_a_norm_and_a_dense_layer(use_bias):
    rng = np.random.default_rng(1)
    layer = NormDense(3, use_bias=use_bias, scale=[1.0, 2.0, 0.5])
    tokens = rng.normal(size=[2, 5, 4]).astype(np.float32)
    layer(tokens)
    for weight in layer.weights:
        weight.assign(rng.normal(size=weight.shape))
    gamma, beta = layer.gamma.numpy(), layer.beta.numpy()
    expected = (numpy_normalise(tokens) * gamma + beta) @ layer.kernel.numpy()
    expected = (expected + (layer.bias.numpy() if use_bias else 0)) * [1.0, 2.0, 0.5]
    np.testing.assert_allclose(layer(tokens), expected, rtol=1e-4, atol=1e-4)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(tokens) ** 2)
    assert all(gradient is not None for gradient in tape.gradient(loss, layer.trainable_variables))


def test_layers_in_every_precision(precision):
    compute = tf.keras.mixed_precision.global_policy().compute_dtype
    tokens = tf.random.normal([2, 3, 8])
    for layer in (TokenDense(4), NormDense(4), Norm()):
        assert layer(tokens).dtype == ("float32" if isinstance(layer, Norm) else compute)
        assert {weight.dtype for weight in layer.weights} == {tf.float32}
        assert type(layer).from_config(layer.get_config()).get_config() == layer.get_config()
        assert layer(tokens[:0]).shape[0] == 0, "an empty batch stays one"
