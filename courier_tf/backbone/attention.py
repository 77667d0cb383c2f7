"""Attention inside windows of a feature map, which one transposition cuts into windows and heads."""

from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow import keras

from courier_tf.backbone import windows
from courier_tf.backbone.tokens import NormDense, TokenDense


class WindowAttention(keras.layers.Layer):
    """Layer norm, then multi-head self-attention inside windows with a learned bias for each relative position.

    Args:
        dim: width of the tokens, a multiple of `heads`.
        heads: attention heads.
        window: side of a window, in tokens.

    Call: a map [B, H, W, dim] with H, W multiples of `window`; mask [windows, window^2, window^2] added to the logits,
    or None where every token of a window sees every other -> the same shape as the map, in the policy's compute dtype.
    The norm and the softmax are in float32 under every policy.
    """

    def __init__(self, dim: int, heads: int, window: int, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "autocast": False})
        if dim % heads:
            raise ValueError(f"dim must be a multiple of heads, but dim={dim} and heads={heads}")
        self.dim, self.heads, self.window = dim, heads, window
        scale = np.repeat([(dim // heads) ** -0.5, 1.0, 1.0], dim)  # Only the queries are scaled.
        self.qkv = NormDense(3 * dim, scale=scale, name="qkv")
        self.projection = TokenDense(dim, name="projection")

    def build(self, input_shape: Any) -> None:
        self.relative_position_bias = self.add_weight(
            "relative_position_bias",
            [(2 * self.window - 1) ** 2, self.heads],
            initializer=keras.initializers.TruncatedNormal(stddev=0.02),
            experimental_autocast=False,
        )
        for layer in (self.qkv, self.projection):
            with tf.name_scope(layer.name):
                layer.build([None, None, None, self.dim])
        super().build(input_shape)

    def call(self, tokens: tf.Tensor, mask: tf.Tensor | None = None) -> tf.Tensor:
        return self.mix(self.qkv(tokens), mask)

    def of_padding(self) -> tf.Tensor:
        """[3 * dim], the query, key and value of a token that is 0 after the norm."""
        return tf.cast(tf.multiply(self.qkv.bias, self.qkv.scale), self.compute_dtype)

    def mix(self, qkv: tf.Tensor, mask: tf.Tensor | None = None) -> tf.Tensor:
        """The attention itself: queries, keys and values [B, H, W, 3 * dim] -> what `call` returns."""
        length, size = self.window**2, windows.size_of(qkv)
        query, key, value = tf.unstack(windows.split(qkv, self.window, 3, self.heads))
        logits = tf.cast(tf.matmul(query, key, transpose_b=True), tf.float32)  # [B * windows, heads, w * w, w * w]
        index = windows.relative_position_index(self.window).reshape(-1)
        position = tf.reshape(tf.gather(self.relative_position_bias, index), [length, length, self.heads])
        bias = tf.transpose(position, [2, 0, 1])[None]
        if mask is None:
            weights = tf.nn.softmax(logits + bias)
        else:  # [B, windows, heads, ...], so that the mask broadcasts over the images of the batch.
            grouped = tf.reshape(logits, [-1, tf.shape(mask)[0], self.heads, length, length])
            weights = tf.reshape(tf.nn.softmax(grouped + (bias + mask[:, None])), tf.shape(logits))
        mixed = tf.matmul(tf.cast(weights, self.compute_dtype), value)
        return self.projection(windows.join(mixed, self.window, *size))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "dim": self.dim, "heads": self.heads, "window": self.window}
