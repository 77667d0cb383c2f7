"""The head encoder: features of a photo to its embedding. The networks before it are frozen."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import scipy.linalg
import tensorflow as tf
from tensorflow import keras

MOST_AXES = 512  # Principal axes that are kept of each part of the features.
POWER = 0.25  # Axes are divided by their variance to this power; 0 leaves them, 0.5 whitens wholly.
ROWS = 4096  # Photos at a time.
LEAST_VARIANCE = 1e-6  # Axes with a smaller share of the largest variance are rounding.


class HeadEncoder(keras.Model):
    """Standardised features, a linear layer or an MLP, unit length.

    It stands in for `Encoder` where the backbone is frozen: a batch then holds features in place of photos.

    >>> head = HeadEncoder(["pixels"], [768], embedding_dim=8)
    >>> head(tf.zeros([2, 768])).shape
    TensorShape([2, 8])

    Args:
        sources: names of the feature sources whose vectors it takes, in this order.
        widths: widths of the parts of these vectors, of which each is standardised for itself.
        embedding_dim: width D of the embedding.
        head: `linear`, or `mlp` with one hidden layer of width 2 D beside the linear one.
        drop: share of the standardised features that training hides.

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
        # In float32 under every policy: it costs next to nothing, and half a number would lose what features differ by.
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.sources, self.widths, self.embedding_dim = tuple(sources), tuple(widths), embedding_dim
        self.head_name, self.drop = head, drop
        self.axes = sum(min(width, MOST_AXES) for width in widths)
        self.mean = self.add_weight("mean", [sum(widths)], initializer="zeros", trainable=False)
        self.standard = [
            self.add_weight(f"standard{part}", [width, min(width, MOST_AXES)], initializer="identity", trainable=False)
            for part, width in enumerate(widths)
        ]
        self.linear = keras.layers.Dense(embedding_dim, name="linear", dtype="float32")
        self.linear.build([None, self.axes])
        if head == "mlp":
            self.hidden = keras.layers.Dense(2 * embedding_dim, activation="gelu", name="hidden", dtype="float32")
            self.out = keras.layers.Dense(embedding_dim, kernel_initializer="zeros", name="out", dtype="float32")
            self.hidden.build([None, self.axes])
            self.out.build([None, 2 * embedding_dim])

    def draw_survival(self, photos: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Factors of the standardised features, [photos, K]: 0 for a hidden one. [photos, 0] where none is hidden.

        The same seed ([2] int) gives the same factors.
        """
        if not self.drop:
            return tf.zeros([photos, 0])
        kept = tf.random.stateless_uniform([photos, self.axes], seed) >= self.drop
        return tf.cast(kept, tf.float32) / (1 - self.drop)

    def standardised(self, features: tf.Tensor) -> tf.Tensor:
        """[N, W] float32 to [N, K] float32, K the number of axes that are kept."""
        parts = tf.split(tf.cast(features, tf.float32) - self.mean, self.widths, axis=1)
        return tf.concat([tf.matmul(part, axes) for part, axes in zip(parts, self.standard, strict=True)], axis=1)

    @tf.autograph.experimental.do_not_convert
    def call(self, features: tf.Tensor, training: bool | None = None, survival: tf.Tensor | None = None) -> tf.Tensor:
        standard = self.standardised(features)
        if training and self.drop and survival is not None:
            standard *= survival
        embedding = self.linear(standard)
        if self.head_name == "mlp":
            embedding += self.out(self.hidden(standard))
        return tf.math.l2_normalize(embedding, axis=-1)

    def fit_to(self, features: np.ndarray) -> None:
        """Standardises by these features, and starts from their principal axes.

        Each part is half-whitened for itself (`half_whitening`). The linear layer then projects on the first D
        principal axes of all parts together. So before any training the embedding is the standardised feature itself,
        as far as D numbers hold it.

        Args:
            features: [M, W] float32 of the train span; W may exceed M.
        """
        mean = features.mean(axis=0)
        self.mean.assign(mean)
        for variable, part in zip(
            self.standard, np.split(features - mean, np.cumsum(self.widths)[:-1], axis=1), strict=True
        ):
            variable.assign(half_whitening(part, variable.shape[1]))
        standard = self.standardised(tf.constant(features)).numpy()
        axes, _ = principal_axes(standard, min(self.embedding_dim, self.axes))
        self.linear.kernel.assign(np.pad(axes, [(0, 0), (0, self.embedding_dim - axes.shape[1])]))
        self.linear.bias.assign(np.zeros(self.embedding_dim))

    def get_config(self) -> dict[str, Any]:
        return {
            "sources": list(self.sources),
            "widths": list(self.widths),
            "embedding_dim": self.embedding_dim,
            "head": self.head_name,
            "drop": self.drop,
        }


class HeadOnStandardised(HeadEncoder):
    """A head encoder whose features have been standardised before: in training, once for each photo.

    It has the weights of a `HeadEncoder` with the same config.

    Call: features [N, K] float32, as `HeadEncoder.standardised` gives them -> embeddings [N, D] float32.
    """

    def standardised(self, features: tf.Tensor) -> tf.Tensor:
        return tf.cast(features, tf.float32)


def half_whitening(centred: np.ndarray, number: int) -> np.ndarray:
    """A projection on principal axes, each divided by the fourth root of its variance.

    The largest axes of a network's features tell what a photo shows at first sight, such as its kind and background,
    and rule every cosine. Whitening would let noise rule instead; half of it lies between.

    Args:
        centred: [M, W].
        number: K, at most W.

    Returns:
        [W, K] float32. The projected rows have a mean squared length of 1; axes without variance become 0.
    """
    axes, variance = principal_axes(centred, number)
    usable = variance > LEAST_VARIANCE * max(float(variance[0]), 1e-12)
    factor = np.where(usable, np.maximum(variance, 1e-30) ** -POWER, 0)
    length = np.sqrt((variance * factor**2).sum())
    return (axes * factor / max(float(length), 1e-12)).astype(np.float32)


def principal_axes(centred: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
    """The first principal axes of centred vectors.

    >>> axes, variance = principal_axes(np.array([[2.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, -1.0]]), 1)
    >>> axes.round(6).T.tolist(), variance.round(6).tolist()
    ([[1.0, 0.0]], [2.0])

    Args:
        centred: [M, W].
        number: K, at most W.

    Returns:
        ([W, K] float64 orthonormal columns, each with its largest entry positive; [K] variances, falling).
    """
    covariance = np.zeros([centred.shape[1]] * 2)
    for start in range(0, len(centred), ROWS):  # All rows in float64 would take more memory than all else.
        part = centred[start : start + ROWS].astype(np.float64)
        covariance += part.T @ part / len(centred)
    # SciPy finds the last axes alone, in a third of NumPy's time. Beside other processes NumPy's threads also wait for
    # each other, up to thirty times as long.
    width = len(covariance)
    variance, axes = scipy.linalg.eigh(covariance, subset_by_index=[width - number, width - 1])
    variance, axes = np.maximum(variance[::-1], 0), axes[:, ::-1]
    largest = np.take_along_axis(axes, np.abs(axes).argmax(axis=0)[None], axis=0)
    return axes * np.where(largest < 0, -1, 1), variance
