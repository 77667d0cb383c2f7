"""A 2-D Swin Transformer as a KerasCV backbone (arXiv 2103.14030). KerasCV 0.9 has only the video one."""

from collections.abc import Sequence
from typing import Any

import keras_cv
import tensorflow as tf

from courier_tf.backbone import windows

keras = tf.keras

#: Presets: patch, dim, depths, heads and window of each size. `nano` is for CPUs and small photos (64 px).
SIZES: dict[str, dict[str, Any]] = {
    "nano": {"patch": 4, "dim": 48, "depths": (1, 1, 2), "heads": (2, 4, 8), "window": 4},
    "tiny": {"patch": 4, "dim": 96, "depths": (2, 2, 6, 2), "heads": (3, 6, 12, 24), "window": 7},
}


def _dense(units: int, name: str) -> keras.layers.Dense:
    return keras.layers.Dense(units, kernel_initializer=keras.initializers.TruncatedNormal(stddev=0.02), name=name)


def _build(layer: keras.layers.Layer, width: int) -> None:
    """Builds a sublayer for tokens of this width now: weights made inside `call` would go through AutoGraph."""
    with tf.name_scope(layer.name):
        layer.build([None, None, None, width])


def _on_tokens(dense: keras.layers.Dense, tokens: tf.Tensor) -> tf.Tensor:
    """Applies `dense` to [..., C] as one [N, C] matrix: on more than two dimensions Keras falls back to tensordot."""
    shape = tf.shape(tokens)
    flat = dense(tf.reshape(tokens, [-1, tokens.shape[-1]]))
    return tf.reshape(flat, tf.concat([shape[:-1], [dense.units]], axis=0))


class WindowAttention(keras.layers.Layer):
    """Multi-head self-attention inside windows, with a learned bias for each relative position.

    Args:
        dim: width of the tokens, a multiple of `heads`.
        heads: attention heads.
        window: side of a window, in tokens.

    Call: tokens [B * windows, window * window, dim], bias [windows, window * window, window * window] added to the
    logits -> the same shape as the tokens. The softmax is in float32 under every policy.
    """

    def __init__(self, dim: int, heads: int, window: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if dim % heads:
            raise ValueError(f"dim must be a multiple of heads, but dim={dim} and heads={heads}")
        self.dim, self.heads, self.window = dim, heads, window
        self.qkv = _dense(3 * dim, "qkv")
        self.projection = _dense(dim, "projection")

    def build(self, input_shape: Any) -> None:
        self.relative_position_bias = self.add_weight(
            "relative_position_bias",
            [(2 * self.window - 1) ** 2, self.heads],
            initializer=keras.initializers.TruncatedNormal(stddev=0.02),
        )
        _build(self.qkv, self.dim)
        _build(self.projection, self.dim)
        super().build(input_shape)

    def call(self, tokens: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
        length, head_dim = self.window**2, self.dim // self.heads
        qkv = tf.reshape(self.qkv(tf.reshape(tokens, [-1, self.dim])), [-1, length, 3, self.heads, head_dim])
        query, key, value = tf.unstack(tf.transpose(qkv, [2, 0, 3, 1, 4]))
        logits = tf.matmul(query * head_dim**-0.5, key, transpose_b=True)  # [B * windows, heads, w * w, w * w]
        index = windows.relative_position_index(self.window).reshape(-1)
        position = tf.reshape(tf.gather(self.relative_position_bias, index), [length, length, self.heads])
        bias = tf.transpose(tf.cast(position, tf.float32), [2, 0, 1])[None] + bias[:, None]
        # [B, windows, heads, ...] so that one bias serves every image of the batch.
        grouped = tf.reshape(tf.cast(logits, tf.float32), [-1, tf.shape(bias)[0], self.heads, length, length]) + bias
        weights = tf.cast(tf.reshape(tf.nn.softmax(grouped), tf.shape(logits)), self.compute_dtype)
        mixed = tf.transpose(tf.matmul(weights, value), [0, 2, 1, 3])
        return tf.reshape(self.projection(tf.reshape(mixed, [-1, self.dim])), [-1, length, self.dim])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "dim": self.dim, "heads": self.heads, "window": self.window}


class SwinBlock(keras.layers.Layer):
    """Window attention and a two-layer MLP, each behind a layer norm and beside a residual path.

    Args:
        dim, heads, window: as in `WindowAttention`.
        shifted: whether the windows are shifted by half their side.
        drop_path: probability that the block's residual is dropped for an image in training.

    Call: [B, H, W, dim] -> [B, H, W, dim], any H and W. Where the map is no larger than a window there is nothing to
    shift.
    """

    def __init__(self, dim: int, heads: int, window: int, shifted: bool, drop_path: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dim, self.heads, self.window, self.shifted, self.drop_path = dim, heads, window, shifted, drop_path
        self.norm1 = keras.layers.LayerNormalization(epsilon=1e-5, name="norm1")
        self.attention = WindowAttention(dim, heads, window, name="attention")
        self.norm2 = keras.layers.LayerNormalization(epsilon=1e-5, name="norm2")
        self.expand = _dense(4 * dim, "expand")
        self.contract = _dense(dim, "contract")
        # Dropout of whole images is stochastic depth. (KerasCV's DropPath draws its mask once per traced function.)
        self.drop = keras.layers.Dropout(drop_path, noise_shape=(None, 1, 1, 1), name="drop")

    def build(self, input_shape: Any) -> None:
        for layer in (self.norm1, self.attention, self.norm2, self.expand):
            _build(layer, self.dim)
        _build(self.contract, 4 * self.dim)
        super().build(input_shape)

    def _attend(self, tokens: tf.Tensor) -> tf.Tensor:
        window = self.window
        height, width = tf.shape(tokens)[1], tf.shape(tokens)[2]
        padded_height, padded_width = -(-height // window) * window, -(-width // window) * window
        half = window // 2 if self.shifted else 0
        shift_height = tf.where(padded_height > window, half, 0)
        shift_width = tf.where(padded_width > window, half, 0)
        padded = tf.pad(tokens, [[0, 0], [0, padded_height - height], [0, padded_width - width], [0, 0]])
        rolled = tf.roll(padded, [-shift_height, -shift_width], [1, 2]) if self.shifted else padded
        bias = windows.attention_bias(height, width, padded_height, padded_width, window, shift_height, shift_width)
        attended = self.attention(
            windows.partition(tf.ensure_shape(rolled, [None, None, None, self.dim]), window), bias
        )
        merged = windows.merge(attended, window, padded_height, padded_width)
        unrolled = tf.roll(merged, [shift_height, shift_width], [1, 2]) if self.shifted else merged
        return unrolled[:, :height, :width]

    def call(self, tokens: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        tokens = tokens + self.drop(self._attend(self.norm1(tokens)), training=training)
        hidden = tf.nn.gelu(_on_tokens(self.expand, self.norm2(tokens)))
        return tokens + self.drop(_on_tokens(self.contract, hidden), training=training)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "dim": self.dim,
            "heads": self.heads,
            "window": self.window,
            "shifted": self.shifted,
            "drop_path": self.drop_path,
        }


class PatchMerging(keras.layers.Layer):
    """Joins 2 x 2 neighbours and halves their joint width: [B, H, W, C] -> [B, ceil(H / 2), ceil(W / 2), 2 C]."""

    def __init__(self, dim: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dim = dim
        self.norm = keras.layers.LayerNormalization(epsilon=1e-5, name="norm")
        self.reduction = keras.layers.Dense(
            2 * dim,
            use_bias=False,
            kernel_initializer=keras.initializers.TruncatedNormal(stddev=0.02),
            name="reduction",
        )

    def build(self, input_shape: Any) -> None:
        _build(self.norm, 4 * self.dim)
        _build(self.reduction, 4 * self.dim)
        super().build(input_shape)

    def call(self, tokens: tf.Tensor) -> tf.Tensor:
        tokens = tf.pad(tokens, [[0, 0], [0, tf.shape(tokens)[1] % 2], [0, tf.shape(tokens)[2] % 2], [0, 0]])
        quarters = [tokens[:, 0::2, 0::2], tokens[:, 1::2, 0::2], tokens[:, 0::2, 1::2], tokens[:, 1::2, 1::2]]
        return _on_tokens(self.reduction, self.norm(tf.concat(quarters, axis=-1)))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "dim": self.dim}


class SwinBackbone(keras_cv.models.Backbone):
    """Swin Transformer: photos to a feature map, 2-D.

    Args:
        patch: side of a patch, in pixels.
        dim: width of the first stage; each stage doubles it.
        depths: blocks of each stage.
        heads: attention heads of each stage.
        window: side of the attention windows, in tokens.
        drop_path: stochastic depth of the last block; grows linearly from 0 at the first.
        input_shape: (height, width, 3); None where any size may come.

    Input [B, H, W, 3], floats, normalised by the caller; output [B, h, w, dim * 2^(stages - 1)], the map after the last
    layer norm. `pyramid_level_inputs` names the end of each stage.

    Example:
    >>> SwinBackbone(**SIZES["nano"])(tf.zeros([1, 64, 64, 3])).shape
    TensorShape([1, 4, 4, 192])
    """

    def __init__(
        self,
        *,
        patch: int = 4,
        dim: int = 96,
        depths: Sequence[int] = (2, 2, 6, 2),
        heads: Sequence[int] = (3, 6, 12, 24),
        window: int = 7,
        drop_path: float = 0.0,
        input_shape: tuple[int | None, int | None, int] = (None, None, 3),
        **kwargs: Any,
    ) -> None:
        if len(depths) != len(heads):
            raise ValueError(f"depths and heads must have one entry per stage, but depths={depths} and heads={heads}")
        image = keras.Input(input_shape)
        tokens = keras.layers.Conv2D(dim, patch, strides=patch, padding="same", name="patch_embedding")(image)
        tokens = keras.layers.LayerNormalization(epsilon=1e-5, name="patch_norm")(tokens)
        pyramid: dict[str, str] = {}
        block, last_block = 0, max(sum(depths) - 1, 1)
        for stage, (depth, stage_heads) in enumerate(zip(depths, heads, strict=True)):
            width = dim * 2**stage
            if stage:
                tokens = PatchMerging(width // 2, name=f"stage{stage}_merging")(tokens)
            for place in range(depth):
                name = f"stage{stage}_block{place}"
                rate = drop_path * block / last_block
                tokens = SwinBlock(width, stage_heads, window, bool(place % 2), rate, name=name)(tokens)
                block += 1
            pyramid[f"P{stage + 2}"] = name
        tokens = keras.layers.LayerNormalization(epsilon=1e-5, name="final_norm")(tokens)
        super().__init__(inputs=image, outputs=tokens, **kwargs)
        self.pyramid_level_inputs = pyramid
        self.patch, self.dim, self.depths, self.heads = patch, dim, tuple(depths), tuple(heads)
        self.window, self.drop_path, self.image_shape = window, drop_path, tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "patch": self.patch,
            "dim": self.dim,
            "depths": self.depths,
            "heads": self.heads,
            "window": self.window,
            "drop_path": self.drop_path,
            "input_shape": self.image_shape,
        }
