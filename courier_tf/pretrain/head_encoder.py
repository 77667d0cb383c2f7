"""The head encoder: features of a photo to its embedding. The networks before it are frozen."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import tensorflow as tf
from tensorflow import keras


class HeadEncoder(keras.Model):
    """Standardised features, a linear layer or an MLP, unit length.

    It stands in for `Encoder` where the backbone is frozen: a batch then holds features in place of photos.

    >>> head = HeadEncoder(["pixels"], [768], embedding_dim=8)
    >>> head(tf.zeros([2, 768])).shape
    TensorShape([2, 8])

    Args:
        sources: names of the feature sources whose vectors it takes, in this order.
        widths: width of the vectors of each source.
        embedding_dim: width D of the embedding.
        head: `linear`, or `mlp` with one hidden layer of width 2 D and a linear path beside it.
        drop: share of the features that training hides.

    Call: features [N, W] float32, W the sum of the widths -> embeddings [N, D] float32, each of length 1. In training,
    `survival` from `draw_survival` decides which features are hidden.
    """

    def __init__(
        self,
        sources: Sequence[str],
        widths: Sequence[int],
        embedding_dim: int = 256,
        head: Literal["linear", "mlp"] = "linear",
        drop: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.sources, self.widths, self.embedding_dim = tuple(sources), tuple(widths), embedding_dim
        self.head_name, self.drop = head, drop
        width = sum(widths)
        self.mean = self.add_weight("mean", [width], initializer="zeros", trainable=False)
        self.scale = self.add_weight("scale", [width], initializer="ones", trainable=False)
        self.linear = keras.layers.Dense(embedding_dim, name="linear")
        self.linear.build([None, width])
        if head == "mlp":
            self.hidden = keras.layers.Dense(2 * embedding_dim, activation="gelu", name="hidden")
            self.out = keras.layers.Dense(embedding_dim, kernel_initializer="zeros", name="out")
            self.hidden.build([None, width])
            self.out.build([None, 2 * embedding_dim])

    def draw_survival(self, photos: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Factors of the features, [photos, W]: 0 for a hidden one. [photos, 0] where none is hidden.

        The same seed ([2] int) gives the same factors.
        """
        if not self.drop:
            return tf.zeros([photos, 0])
        kept = tf.random.stateless_uniform([photos, sum(self.widths)], seed) >= self.drop
        return tf.cast(kept, tf.float32) / (1 - self.drop)

    @tf.autograph.experimental.do_not_convert
    def call(self, features: tf.Tensor, training: bool | None = None, survival: tf.Tensor | None = None) -> tf.Tensor:
        standard = (tf.cast(features, tf.float32) - self.mean) * self.scale
        if training and self.drop and survival is not None:
            standard *= survival
        embedding = self.linear(standard)
        if self.head_name == "mlp":
            embedding += self.out(self.hidden(standard))
        return tf.math.l2_normalize(tf.cast(embedding, tf.float32), axis=-1)

    def fit_to(self, features: np.ndarray) -> None:
        """Standardises by these features, and starts from their principal axes.

        Each feature is centred, and each source scaled to a mean squared length of 1, so that no source rules by its
        units. The linear layer projects on the first D principal axes, so that before any training the embedding is the
        frozen feature itself, as far as D numbers can hold it.

        Args:
            features: [M, W] float32 of the train span; W may exceed M.
        """
        mean = features.mean(axis=0)
        centred = features - mean
        scale = np.ones(features.shape[1], np.float32)
        start = 0
        for width in self.widths:
            part = centred[:, start : start + width]
            scale[start : start + width] = 1 / max(float(np.sqrt(np.square(part).sum(axis=1).mean())), 1e-6)
            start += width
        self.mean.assign(mean)
        self.scale.assign(scale)
        self.linear.kernel.assign(principal_axes(centred * scale, self.embedding_dim))
        self.linear.bias.assign(np.zeros(self.embedding_dim))

    def get_config(self) -> dict[str, Any]:
        return {
            "sources": list(self.sources),
            "widths": list(self.widths),
            "embedding_dim": self.embedding_dim,
            "head": self.head_name,
            "drop": self.drop,
        }


def principal_axes(centred: np.ndarray, number: int) -> np.ndarray:
    """The first principal axes of centred vectors, as columns.

    >>> principal_axes(np.array([[2.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, -1.0]]), 1).round(6).T
    array([[1., 0.]], dtype=float32)

    Args:
        centred: [M, W].
        number: D.

    Returns:
        [W, D] float32 orthonormal columns, each with its largest entry positive; zeros beyond the W-th.
    """
    covariance = centred.T.astype(np.float64) @ centred
    _, axes = np.linalg.eigh(covariance)
    axes = axes[:, ::-1][:, :number]
    largest = np.take_along_axis(axes, np.abs(axes).argmax(axis=0)[None], axis=0)
    axes = axes * np.where(largest < 0, -1, 1)
    padding = max(number - axes.shape[1], 0)
    return np.pad(axes, [(0, 0), (0, padding)]).astype(np.float32)
