"""A Swin in plain Keras, to compare with: Dense on rank 4, LayerNormalization, tf.nn.gelu."""

import numpy as np
import tensorflow as tf

layers = tf.keras.layers


def window_mask(size: int, window: int, shift: int) -> np.ndarray:
    """[windows, tokens, tokens] float32: 0 where two tokens may see each other after a shift, -1e9 elsewhere."""
    region = np.zeros([size, size])
    spans = (slice(0, -window), slice(-window, -shift), slice(-shift, None))
    for number, (rows, columns) in enumerate((r, c) for r in spans for c in spans):
        region[rows, columns] = number
    count = size // window
    region = region.reshape(count, window, count, window).swapaxes(1, 2).reshape(count**2, window**2)
    return np.where(region[:, :, None] == region[:, None, :], 0.0, -1e9).astype(np.float32)


class Attention(layers.Layer):
    """Multi-head attention inside (shifted) windows of a map whose side is a multiple of the window."""

    def __init__(self, dim: int, heads: int, window: int, shift: int, **kwargs) -> None:
        super().__init__(**kwargs)
        self.dim, self.heads, self.window, self.shift = dim, heads, window, shift
        self.qkv, self.projection = layers.Dense(3 * dim), layers.Dense(dim)

    def build(self, shape) -> None:
        self.size = shape[1]
        side = 2 * self.window - 1
        self.bias = self.add_weight("bias", [side**2, self.heads], initializer="random_normal")
        place = np.stack(np.meshgrid(*[np.arange(self.window)] * 2, indexing="ij")).reshape(2, -1)
        apart = place[:, :, None] - place[:, None, :] + self.window - 1
        self.index = apart[0] * side + apart[1]

    def call(self, grid):
        if self.shift:
            grid = tf.roll(grid, [-self.shift] * 2, [1, 2])
        count, tokens = self.size // self.window, self.window**2
        parts = tf.reshape(grid, [-1, count, self.window, count, self.window, self.dim])
        parts = tf.reshape(tf.transpose(parts, [0, 1, 3, 2, 4, 5]), [-1, tokens, self.dim])
        qkv = tf.reshape(self.qkv(parts), [-1, tokens, 3, self.heads, self.dim // self.heads])
        query, key, value = tf.unstack(tf.transpose(qkv, [2, 0, 3, 1, 4]))
        logits = tf.matmul(query * (self.dim // self.heads) ** -0.5, key, transpose_b=True)
        logits += tf.cast(tf.transpose(tf.gather(self.bias, self.index), [2, 0, 1]), logits.dtype)
        if self.shift:
            mask = window_mask(self.size, self.window, self.shift).astype(np.float32)
            logits = tf.reshape(logits, [-1, count**2, self.heads, tokens, tokens])
            logits += tf.cast(mask[None, :, None], logits.dtype)
            logits = tf.reshape(logits, [-1, self.heads, tokens, tokens])
        mixed = tf.transpose(tf.matmul(tf.nn.softmax(logits), value), [0, 2, 1, 3])
        mixed = self.projection(tf.reshape(mixed, [-1, tokens, self.dim]))
        parts = tf.reshape(mixed, [-1, count, count, self.window, self.window, self.dim])
        grid = tf.reshape(tf.transpose(parts, [0, 1, 3, 2, 4, 5]), [-1, self.size, self.size, self.dim])
        return tf.roll(grid, [self.shift] * 2, [1, 2]) if self.shift else grid


def merged(grid, dim: int):
    size = grid.shape[1] // 2
    quarters = tf.reshape(grid, [-1, size, 2, size, 2, dim])
    return tf.reshape(tf.transpose(quarters, [0, 1, 3, 4, 2, 5]), [-1, size, size, 4 * dim])


def plain_swin(*, size: int, patch: int, dim: int, depths, heads, window: int, mlp_ratio: int = 4) -> tf.keras.Model:
    """Photos [B, size, size, 3] to the last map. Every map must be a multiple of the window, or as large."""
    image = tf.keras.Input([size, size, 3])
    grid = layers.LayerNormalization(epsilon=1e-5)(layers.Conv2D(dim, patch, strides=patch)(image))
    for stage, (depth, number) in enumerate(zip(depths, heads, strict=True)):
        width = dim * 2**stage
        if stage:
            joined = layers.LayerNormalization(epsilon=1e-5)(layers.Lambda(merged, arguments={"dim": width // 2})(grid))
            grid = layers.Dense(width, use_bias=False)(joined)
        for place in range(depth):
            shift = window // 2 if place % 2 and grid.shape[1] > window else 0
            normed = layers.LayerNormalization(epsilon=1e-5)(grid)
            grid = grid + Attention(width, number, window, shift)(normed)
            hidden = layers.Dense(mlp_ratio * width)(layers.LayerNormalization(epsilon=1e-5)(grid))
            grid = grid + layers.Dense(width)(tf.nn.gelu(hidden))
    return tf.keras.Model(image, layers.LayerNormalization(epsilon=1e-5)(grid))
