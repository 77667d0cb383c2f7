"""Shifted-window geometry as pure functions of tensors (Swin, arXiv 2103.14030, section 3.2).

A feature map is padded to a multiple of the window, rolled by the shift, and cut into windows of w x w tokens. Tokens
of a window may see each other if they are neighbours in the map. They may not if only the roll brought them together.
Padding is either hidden from all tokens, or seen by its neighbours, as torchvision has it.
"""

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf


def size_of(tokens: tf.Tensor) -> tuple[Any, Any]:
    """Height and width of [B, H, W, C]: numbers if they are known when the graph is built, else tensors."""
    return tuple(tokens.shape[axis] or tf.shape(tokens)[axis] for axis in (1, 2))


def split(tokens: tf.Tensor, window: int, parts: int, heads: int) -> tf.Tensor:
    """[B, H, W, parts * heads * D] to [parts, B * windows, heads, window * window, D]; H, W multiples of `window`."""
    height, width = size_of(tokens)
    depth = tokens.shape[3] // (parts * heads)
    grid = tf.reshape(tokens, [-1, height // window, window, width // window, window, parts, heads, depth])
    ordered = tf.transpose(grid, [5, 0, 1, 3, 6, 2, 4, 7])
    return tf.reshape(ordered, [parts, -1, heads, window * window, depth])


def join(mixed: tf.Tensor, window: int, height: Any, width: Any) -> tf.Tensor:
    """Inverse of `split` for one part: [B * windows, heads, window * window, D] to [B, height, width, heads * D]."""
    heads, depth = mixed.shape[1], mixed.shape[3]
    grid = tf.reshape(mixed, [-1, height // window, width // window, heads, window, window, depth])
    return tf.reshape(tf.transpose(grid, [0, 1, 4, 2, 5, 3, 6]), [-1, height, width, heads * depth])


def partition(tokens: tf.Tensor, window: int) -> tf.Tensor:
    """[1, H, W, C] with H, W multiples of `window` to [windows, window * window, C]."""
    return split(tokens, window, 1, 1)[0, :, 0]


def _regions(size: tf.Tensor, padded: tf.Tensor, window: int, shift: tf.Tensor) -> tf.Tensor:
    """Numbers [padded] int along an axis after the roll. Tokens of one number may see each other; -1 is padding."""
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
    """The mask of the logits, [windows, w * w, w * w] float32: 0 where the row's token may see the column's, else -1e9.

    A padding token sees the other padding tokens, so that its softmax is defined. Its result is cut off later.
    """
    rows = _regions(height, padded_height, window, shift_height)
    columns = _regions(width, padded_width, window, shift_width)
    padding = (rows[:, None] < 0) | (columns[None, :] < 0)
    region = tf.where(padding, -1, rows[:, None] * 3 + columns[None, :])
    region = partition(region[None, :, :, None], window)[..., 0]
    return tf.where(region[:, :, None] == region[:, None, :], 0.0, -1e9)


class Fit(NamedTuple):
    """How a map is fitted to windows: padded to a multiple of their side, and rolled by the shift.

    Sizes are numbers if they are known when the graph is built, else tensors.
    """

    window: int
    height: Any
    width: Any
    padded_height: Any
    padded_width: Any
    shift_height: Any
    shift_width: Any

    @classmethod
    def of(cls, tokens: tf.Tensor, window: int, shifted: bool) -> "Fit":
        """For [B, H, W, C]. An axis of a single window is not shifted."""
        height, width = size_of(tokens)
        padded = [-(-size // window) * window for size in (height, width)]
        half = window // 2 if shifted else 0
        shifts = [half * _as_int(size > window) for size in padded]
        return cls(window, height, width, *padded, *shifts)

    def _is_whole(self) -> bool:
        """Whether it is known when the graph is built that nothing is padded."""
        known = all(isinstance(number, int) for number in self[1:5])
        return known and (self.height, self.width) == (self.padded_height, self.padded_width)

    def _is_plain(self) -> bool:
        """Whether it is known when the graph is built that nothing is padded or rolled."""
        return self._is_whole() and not self._rolls()

    def _rolls(self) -> bool:
        return not all(isinstance(shift, int) and shift == 0 for shift in (self.shift_height, self.shift_width))

    def enter(self, tokens: tf.Tensor, fill: tf.Tensor | None = None) -> tf.Tensor:
        """[B, H, W, C] to [B, padded height, padded width, C], with zeros or with `fill` ([C]) as padding."""
        padded = pad(tokens, self.padded_height, self.padded_width)
        if fill is not None and not self._is_whole():
            here = [tf.range(padded) < size for size, padded in zip(self[1:3], self[3:5], strict=True)]
            outside = ~(here[0][:, None] & here[1][None, :])
            padded += tf.where(outside[:, :, None], fill, tf.zeros_like(fill))
        return tf.roll(padded, [-self.shift_height, -self.shift_width], [1, 2]) if self._rolls() else padded

    def leave(self, tokens: tf.Tensor) -> tf.Tensor:
        """Inverse of `enter`."""
        rolled = tf.roll(tokens, [self.shift_height, self.shift_width], [1, 2]) if self._rolls() else tokens
        return rolled if self._is_plain() else rolled[:, : self.height, : self.width]

    def mask(self, seen: bool = False) -> tf.Tensor | None:
        """What `WindowAttention` adds to its logits; None if every token of a window sees every other.

        Args:
            seen: whether tokens see padding, like any other neighbour.
        """
        if seen:
            return attention_bias(*self[3:5], *self[3:5], self.window, *self[5:]) if self._rolls() else None
        return None if self._is_plain() else attention_bias(*self[1:5], self.window, *self[5:])


def pad(tokens: tf.Tensor, height: Any, width: Any) -> tf.Tensor:
    """[B, H, W, C] to [B, height, width, C], with zeros below and to the right."""
    now = size_of(tokens)
    if all(isinstance(size, int) for size in (*now, height, width)) and now == (height, width):
        return tokens
    padded = tf.pad(tokens, [[0, 0], [0, height - now[0]], [0, width - now[1]], [0, 0]])
    return tf.ensure_shape(padded, [None, None, None, tokens.shape[3]])


def _as_int(condition: Any) -> Any:
    return int(condition) if isinstance(condition, bool) else tf.cast(condition, tf.int32)


def relative_position_index(window: int) -> np.ndarray:
    """The row of the (2w - 1)^2 bias table for each pair of tokens of a window, [w * w, w * w] int.

    >>> relative_position_index(1).tolist()
    [[0]]
    """
    row, column = np.divmod(np.arange(window * window), window)
    vertical = row[:, None] - row[None, :] + window - 1
    horizontal = column[:, None] - column[None, :] + window - 1
    return vertical * (2 * window - 1) + horizontal
