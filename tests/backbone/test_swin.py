"""The backbone against plain NumPy, and in training mode under every precision."""

import numpy as np
import pytest
import tensorflow as tf

from courier_tf.backbone import windows
from courier_tf.backbone.attention import WindowAttention
from courier_tf.backbone.survival import Survival
from courier_tf.backbone.swin import SIZES, PatchEmbedding, SwinBackbone

SMALL = {"patch": 4, "dim": 8, "depths": (2, 2), "heads": (2, 4), "window": 4}


def test_split_and_join():
    """Windows and heads, against plain slicing."""
    tokens = np.random.default_rng(0).normal(size=[2, 8, 12, 3 * 2 * 5]).astype(np.float32)
    cut = windows.split(tf.constant(tokens), 4, 3, 2).numpy()
    assert cut.shape == (3, 2 * 2 * 3, 2, 16, 5)
    for part in range(3):
        for head in range(2):
            first = (part * 2 + head) * 5
            expected = tokens[1, 4:8, 8:12, first : first + 5].reshape(16, 5)
            np.testing.assert_array_equal(cut[part, 1 * 6 + 1 * 3 + 2, head], expected)
    whole = tokens[..., : 2 * 5]
    np.testing.assert_array_equal(windows.join(windows.split(tf.constant(whole), 4, 1, 2)[0], 4, 8, 12), whole)


@pytest.mark.parametrize(
    "height, width, window, shift", [(8, 8, 4, 2), (6, 7, 4, 2), (5, 4, 4, 2), (8, 8, 4, 0), (3, 9, 4, 2)]
)
def test_attention_bias_by_brute_force(height, width, window, shift):
    """Two tokens of a window may see each other if they were neighbours before the roll, and are no padding."""
    padded_height, padded_width = -(-height // window) * window, -(-width // window) * window
    shift_height = shift if padded_height > window else 0
    shift_width = shift if padded_width > window else 0
    bias = windows.attention_bias(
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
                    assert (bias[place, i, j] == 0) == sees, (top, left, first, second)
            place += 1


@pytest.mark.parametrize("known", [True, False])
def test_patches_become_tokens(known):
    rng = np.random.default_rng(0)
    layer = PatchEmbedding(5, 4)
    photos = rng.random([2, 9, 8, 3]).astype(np.float32)
    shape = photos.shape if known else [None, None, None, 3]
    compiled = tf.function(layer, input_signature=[tf.TensorSpec(shape)], autograph=False)
    layer.build(photos.shape)
    layer.bias.assign(np.arange(5.0))
    padded = np.pad(photos, [[0, 0], [0, 3], [0, 0], [0, 0]])
    for row in range(3):
        for column in range(2):
            patch = padded[:, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
            expected = np.einsum("byxc,yxcd->bd", patch, layer.kernel.numpy()) + np.arange(5)
            np.testing.assert_allclose(compiled(photos)[:, row, column], expected, rtol=1e-5, atol=1e-5)
    if not known:
        assert compiled(photos[:0]).shape == (0, 3, 2, 5), "an empty batch"


@pytest.mark.parametrize("masked", [False, True])
def test_window_attention_equals_numpy(masked):
    rng = np.random.default_rng(0)
    layer = WindowAttention(dim=6, heads=2, window=2)
    tokens = rng.normal(size=[3, 2, 4, 6]).astype(np.float32)  # Two windows side by side.
    mask = np.where(rng.random([2, 4, 4]) < 0.3, -1e9, 0).astype(np.float32) * masked
    mask[:, range(4), range(4)] = 0
    layer(tokens)
    for weight in layer.weights:
        weight.assign(rng.normal(size=weight.shape))
    result = layer(tokens, tf.constant(mask) if masked else None).numpy()
    values = {weight.name.split("/", 1)[1].split(":")[0]: weight.numpy() for weight in layer.weights}
    table = values["relative_position_bias"]
    mean, deviation = tokens.mean(axis=-1, keepdims=True), np.sqrt(tokens.var(axis=-1, keepdims=True) + 1e-5)
    normal = (tokens - mean) / deviation * values["qkv/gamma"] + values["qkv/beta"]
    for batch in range(3):
        for window in range(2):
            inside = normal[batch, :, 2 * window : 2 * window + 2].reshape(4, 6)
            qkv = inside @ values["qkv/kernel"] + values["qkv/bias"]
            heads = []
            for head in range(2):
                q, k, v = (qkv[:, part * 6 + head * 3 : part * 6 + head * 3 + 3] for part in range(3))
                logits = q @ k.T / np.sqrt(3) + mask[window]
                for i in range(4):
                    for j in range(4):
                        offset = (i // 2 - j // 2 + 1) * 3 + (i % 2 - j % 2 + 1)
                        logits[i, j] += table[offset, head]
                weights = np.exp(logits - logits.max(axis=1, keepdims=True))
                heads.append(weights / weights.sum(axis=1, keepdims=True) @ v)
            expected = np.concatenate(heads, axis=1) @ values["projection/kernel"] + values["projection/bias"]
            got = result[batch, :, 2 * window : 2 * window + 2].reshape(4, 6)
            np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [(32, 32), (50, 23), (64, 96), (4, 4)])
def test_any_size(size):
    model = SwinBackbone(**SMALL)
    result = model(tf.random.normal([2, *size, 3]))
    height, width = (int(np.ceil(np.ceil(side / 4) / 2)) for side in size)
    assert tuple(result.shape) == (2, height, width, 16)
    assert np.isfinite(result.numpy()).all()


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
    block, compute = model.get_layer("stage0_block0"), tf.keras.mixed_precision.global_policy().compute_dtype
    tokens = tf.zeros([1, 4, 4, block.dim])
    assert block.attention(tokens).dtype == compute and block.expand(tokens).dtype == compute
    assert block(tokens).dtype == model.output.dtype == tf.float32


@pytest.mark.slow
def test_known_and_unknown_sizes_agree():
    """Sizes that are known when the graph is built take shortcuts; the result is the same."""
    model = SwinBackbone(**SMALL)
    for size in ((32, 32), (64, 32), (50, 23)):
        photos = tf.random.normal([2, *size, 3])
        unknown = tf.function(model, input_signature=[tf.TensorSpec([None, None, None, 3])])
        np.testing.assert_allclose(unknown(photos), model(photos), atol=1e-5)


def test_stochastic_depth_drops_whole_residuals_anew_in_each_step():
    survival = Survival([0.0, 0.5, 0.9])
    step = tf.function(lambda: survival(tf.zeros([4000, 1]), training=True))
    first, second = step().numpy(), step().numpy()
    assert (first != second).any(), "a mask drawn at tracing time would be the same in every step"
    for block, rate in enumerate((0.0, 0.5, 0.9)):
        np.testing.assert_allclose(
            np.unique(first[:, block]), sorted({0, 1 / (1 - rate)})[-2 if rate else -1 :], rtol=1e-6
        )
        assert abs((first[:, block] == 0).mean() - rate) < 0.03
    np.testing.assert_array_equal(survival(tf.zeros([5, 1]), training=False), np.ones([5, 3]))
    seeded = [survival.draw(6, tf.constant([3, step])).numpy() for step in (1, 1, 2)]
    np.testing.assert_array_equal(seeded[0], seeded[1])
    assert (seeded[0] != seeded[2]).any()


def test_an_image_that_loses_every_residual_skips_every_block():
    model = SwinBackbone(**{**SMALL, "depths": (1, 2)}, drop_path=0.5)
    photos = tf.random.normal([3, 32, 32, 3])
    survival = tf.constant([[1.0, 0.0, 0.0], [1.0, 2.0, 2.0], [1.0, 0.0, 0.0]])
    result = model(photos, training=True, survival=survival).numpy()
    merged = tf.keras.Model(model.input, model.get_layer("stage1_merging").output)(photos)
    expected = model.get_layer("final_norm")(merged).numpy()
    np.testing.assert_allclose(result[[0, 2]], expected[[0, 2]], atol=1e-5)
    assert np.abs(result[1] - expected[1]).max() > 1e-3


def test_recomputed_blocks_give_the_same_gradients():
    photos = tf.random.normal([4, 32, 32, 3])
    results = []
    for recompute in (False, True):
        tf.keras.utils.set_random_seed(3)
        model = SwinBackbone(**SMALL, drop_path=0.5, recompute=recompute)
        survival = model.survival.draw(4, tf.constant([1, 2]))

        @tf.function
        def gradients(model=model, survival=survival):
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(model(photos, training=True, survival=survival) ** 2)
            return [tf.convert_to_tensor(g) for g in tape.gradient(loss, model.trainable_variables)]

        results.append(gradients())
    for first, second in zip(*results, strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-4, atol=1e-6)


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
