"""Shifted-window geometry as pure functions of tensors (Swin, arXiv 2103.14030, section 3.2).

A feature map is padded to a multiple of the window, rolled by the shift, and cut into windows of w x w tokens. Which
tokens of a window may see each other follows from where they came from: neighbours in the map may, tokens that the roll
brought together may not, and padding is seen by none.
"""

import numpy as np
import tensorflow as tf


def partition(tokens: tf.Tensor, window: int) -> tf.Tensor:
    """[B, H, W, C] with H, W multiples of `window` to [B * windows, window * window, C]."""
    height, width, channels = tf.shape(tokens)[1], tf.shape(tokens)[2], tokens.shape[3]
    grid = tf.reshape(tokens, [-1, height // window, window, width // window, window, channels])
    return tf.reshape(tf.transpose(grid, [0, 1, 3, 2, 4, 5]), [-1, window * window, channels])


def merge(windows: tf.Tensor, window: int, height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """Inverse of `partition`: [B * windows, window * window, C] to [B, height, width, C]."""
    channels = windows.shape[2]
    grid = tf.reshape(windows, [-1, height // window, width // window, window, window, channels])
    return tf.reshape(tf.transpose(grid, [0, 1, 3, 2, 4, 5]), [-1, height, width, channels])


def _regions(size: tf.Tensor, padded: tf.Tensor, window: int, shift: tf.Tensor) -> tf.Tensor:
    """[padded] int: along one axis, after the roll, tokens of one number may see each other; -1 is padding."""
    position = tf.range(padded)  # Position in the rolled map.
    source = (position + shift) % padded  # Where that token stood before the roll.
    # Only the last window holds tokens from both ends of the map: those that stood before the cut, and those after.
    region = tf.cast(position >= padded - window, tf.int32) + tf.cast(position >= padded - shift, tf.int32)
    return tf.where(source < size, region, -1)


def attention_bias(
    height: tf.Tensor,
    width: tf.Tensor,
    padded_height: tf.Tensor,
    padded_width: tf.Tensor,
    window: int,
    shift_height: tf.Tensor,
    shift_width: tf.Tensor,
) -> tf.Tensor:
    """[windows, w * w, w * w] float32: 0 where the row's token may see the column's, a large negative number elsewhere.

    A padding token sees the other padding tokens, so that its softmax is defined; its result is cut off afterwards.
    """
    rows = _regions(height, padded_height, window, shift_height)
    columns = _regions(width, padded_width, window, shift_width)
    padding = (rows[:, None] < 0) | (columns[None, :] < 0)
    region = tf.where(padding, -1, rows[:, None] * 3 + columns[None, :])
    region = partition(region[None, :, :, None], window)[..., 0]
    return tf.where(region[:, :, None] == region[:, None, :], 0.0, -1e9)


def relative_position_index(window: int) -> np.ndarray:
    """[w * w, w * w] int: which row of the (2w - 1)^2 bias table belongs to each pair of tokens of a window."""
    row, column = np.divmod(np.arange(window * window), window)
    vertical = row[:, None] - row[None, :] + window - 1
    horizontal = column[:, None] - column[None, :] + window - 1
    return vertical * (2 * window - 1) + horizontal
