"""Stochastic depth: a training step keeps the residuals of some blocks for some photos."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow as tf
from tensorflow import keras


class Survival(keras.layers.Layer):
    """Stochastic depth (arXiv 1603.09382). It draws for all blocks at once which images keep a block's residual.

    Args:
        rates: for each block, the probability that an image loses its residuals.

    Call: the photos [B, ...] -> [B, blocks] float32: 0 where dropped, 1 / (1 - rate) where kept; ones outside training.
    A step that runs in parts (chunks of a batch, recomputed blocks) draws once and passes the rows by `given`.
    """

    def __init__(self, rates: Sequence[float], **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.rates, self._given = tuple(rates), None

    def draw(self, images: tf.Tensor, seed: tf.Tensor | None = None) -> tf.Tensor:
        """[images, blocks]. The same seed ([2] int) gives the same draw; None gives another each time."""
        shape = [images, len(self.rates)]
        uniform = tf.random.uniform(shape) if seed is None else tf.random.stateless_uniform(shape, seed)
        keep = 1.0 - tf.constant(self.rates)
        return tf.where(uniform < keep, 1.0 / keep, 0.0)

    @contextlib.contextmanager
    def given(self, survival: tf.Tensor | None) -> Iterator[None]:
        """Inside this context a call returns `survival` instead of drawing."""
        self._given = survival
        try:
            yield
        finally:
            self._given = None

    def call(self, photos: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        if training and self._given is not None:
            return self._given
        return self.draw(tf.shape(photos)[0]) if training else tf.ones([tf.shape(photos)[0], len(self.rates)])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rates": self.rates}
