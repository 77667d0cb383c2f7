"""The backbone against plain NumPy, and in training mode under every precision."""

import numpy as np
import pytest
import tensorflow as tf

from courier_tf.backbone import windows
from courier_tf.backbone.swin import SIZES, SwinBackbone, WindowAttention

SMALL = {"patch": 4, "dim": 8, "depths": (2, 2), "heads": (2, 4), "window": 4}


def test_partition_and_merge_are_inverse():
    tokens = np.random.default_rng(0).normal(size=[2, 8, 12, 3]).astype(np.float32)
    cut = windows.partition(tf.constant(tokens), 4).numpy()
    assert cut.shape == (2 * 2 * 3, 16, 3)
    np.testing.assert_array_equal(cut[4].reshape(4, 4, 3), tokens[0, 4:8, 4:8])
    np.testing.assert_array_equal(windows.merge(tf.constant(cut), 4, 8, 12), tokens)


@pytest.mark.parametrize(
    "height, width, window, shift", [(8, 8, 4, 2), (6, 7, 4, 2), (5, 4, 4, 2), (8, 8, 4, 0), (3, 9, 4, 2)]
)
def test_attention_bias_by_brute_force(height, width, window, shift):
    """Two tokens of a window may see each other if they were neighbours before the roll, and are no padding."""
    padded_height, padded_width = -(-height // window) * window, -(-width // window) * window
    shift_height = shift if padded_height > window else 0
    shift_width = shift if padded_width > window else 0
    found = windows.attention_bias(
        height, width, padded_height, padded_width, window, tf.constant(shift_height), tf.constant(shift_width)
    ).numpy()
    source = np.full([padded_height, padded_width, 2], -1)
    for row in range(padded_height):
        for column in range(padded_width):
            source[row, column] = (row + shift_height) % padded_height, (column + shift_width) % padded_width
    place = 0
    for top in range(0, padded_height, window):
        for left in range(0, padded_width, window):
            tokens = source[top : top + window, left : left + window].reshape(-1, 2)
            real = (tokens[:, 0] < height) & (tokens[:, 1] < width)
            for i, first in enumerate(tokens):
                for j, second in enumerate(tokens):
                    near = np.abs(first - second).max() < window
                    sees = near and real[i] and real[j] or (not real[i] and not real[j])
                    assert (found[place, i, j] == 0) == sees, (top, left, first, second)
            place += 1


def test_window_attention_equals_numpy():
    rng = np.random.default_rng(0)
    layer = WindowAttention(dim=6, heads=2, window=2)
    tokens = rng.normal(size=[3, 4, 6]).astype(np.float32)
    bias = np.where(rng.random([1, 4, 4]) < 0.3, -1e9, 0).astype(np.float32)
    bias[:, range(4), range(4)] = 0
    layer(tokens, tf.constant(bias))
    layer.set_weights([rng.normal(size=w.shape) for w in layer.get_weights()])
    found = layer(tokens, tf.constant(bias)).numpy()
    values = {w.name.split(":")[0]: w.numpy() for w in layer.weights}
    table = next(v for n, v in values.items() if "bias_table" in n or "relative" in n)
    kernels = [v for v in values.values() if v.ndim == 2 and v.shape[0] == 6]
    biases = [v for v in values.values() if v.ndim == 1]
    for batch in range(3):
        qkv = tokens[batch] @ kernels[0] + biases[0]
        heads = []
        for head in range(2):
            q, k, v = (qkv[:, part * 6 + head * 3 : part * 6 + head * 3 + 3] for part in range(3))
            logits = q @ k.T / np.sqrt(3) + bias[0]
            for i in range(4):
                for j in range(4):
                    offset = (i // 2 - j // 2 + 1) * 3 + (i % 2 - j % 2 + 1)
                    logits[i, j] += table[offset, head]
            weights = np.exp(logits - logits.max(axis=1, keepdims=True))
            heads.append(weights / weights.sum(axis=1, keepdims=True) @ v)
        expected = np.concatenate(heads, axis=1) @ kernels[1] + biases[1]
        np.testing.assert_allclose(found[batch], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [(32, 32), (50, 23), (64, 96), (4, 4)])
def test_any_size(size):
    model = SwinBackbone(**SMALL)
    found = model(tf.random.normal([2, *size, 3]))
    height, width = (int(np.ceil(np.ceil(side / 4) / 2)) for side in size)
    assert tuple(found.shape) == (2, height, width, 16)
    assert np.isfinite(found.numpy()).all()


def test_padding_does_not_change_what_is_seen():
    """A map that needs padding gives the same whatever lies behind its edge: here, the batch decides nothing either."""
    model = SwinBackbone(**SMALL)
    photos = tf.random.normal([3, 24, 20, 3])
    together = model(photos).numpy()
    for place in range(3):
        np.testing.assert_allclose(model(photos[place : place + 1]).numpy()[0], together[place], atol=1e-5)


def test_training_step_in_every_precision(precision):
    model = SwinBackbone(**SMALL, drop_path=0.5)
    photos = tf.random.normal([4, 32, 32, 3])
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.cast(model(photos, training=True), tf.float32) ** 2)
    gradients = [tf.convert_to_tensor(g) for g in tape.gradient(loss, model.trainable_variables)]
    assert all(np.isfinite(gradient.numpy().astype(float)).all() for gradient in gradients)
    assert model.output.dtype == tf.keras.mixed_precision.global_policy().compute_dtype


def test_stochastic_depth_drops_whole_images_anew_in_each_step():
    model = SwinBackbone(**{**SMALL, "depths": (1, 1)}, drop_path=0.9)
    photos = tf.random.normal([16, 32, 32, 3])
    step = tf.function(lambda: model(photos, training=True))
    first, second, fixed = step().numpy(), step().numpy(), model(photos, training=False).numpy()
    differs = np.abs(first - second).max(axis=(1, 2, 3)) > 1e-6
    assert differs.any(), "a mask drawn at tracing time would be the same in every step"
    np.testing.assert_array_equal(fixed, model(photos, training=False).numpy())


def test_config_round_trip():
    model = SwinBackbone(**SMALL, drop_path=0.1)
    again = SwinBackbone.from_config(model.get_config())
    assert again.get_config() == model.get_config()
    again.set_weights(model.get_weights())
    photos = tf.random.normal([1, 32, 32, 3])
    np.testing.assert_array_equal(model(photos), again(photos))


def test_published_size_of_swin_tiny():
    """Swin-T has 27.52 million weights without its classifier (arXiv 2103.14030, table 1: 28.3 with it)."""
    assert SwinBackbone(**SIZES["tiny"]).count_params() == 27_519_354


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="dim=6 and heads=4"):
        WindowAttention(dim=6, heads=4, window=2)
    with pytest.raises(ValueError, match="depths=.* and heads="):
        SwinBackbone(depths=(1, 1), heads=(2,))
