"""What a feature source is, and whether one that is not ours works."""

import abc
from typing import ClassVar

import numpy as np
import tensorflow as tf

from courier_tf.escaping import LONGEST_PATH, printable
from courier_tf.features.feature_error import FeatureError
from courier_tf.workdir.provenance import fingerprint_of


class FeatureSource(tf.Module, abc.ABC):
    """Photos to vectors, by stock TensorFlow ops.

    Attributes:
        source: its name in settings.
        width: W, the length of a vector.
    """

    source: str
    width: int
    of_others: ClassVar[bool] = False  # Whether its code is not ours, so that it may do anything.

    @property
    def parts(self) -> tuple[int, ...]:
        """Widths of the parts of a vector that are standardised each for itself; their sum is W."""
        return (self.width,)

    @abc.abstractmethod
    def vectors(self, photos: tf.Tensor) -> tf.Tensor:
        """[B, S, S, 3] uint8 to [B, W] float32. Each row depends on its photo alone."""

    def fingerprint(self) -> str:
        """16 hex digits over all that decides the vectors, the code left out."""
        return fingerprint_of(self.source)


def require_vectors(made: FeatureSource, image_size: int) -> None:
    """Tries a source on two photos of noise, so that hours of a job are not lost on one that does not work.

    Args:
        made: the source.
        image_size: side S of the photos in pixels.

    Raises:
        FeatureError: it fails, or does not give two rows of finite numbers, as wide as it says.
    """
    photos = np.random.default_rng(0).integers(0, 256, [2, image_size, image_size, 3], np.uint8)
    needed = f"but [2, {made.width}] of finite float32 is needed, a row for each photo"
    shown = f"features: {printable(made.source, LONGEST_PATH)}, tried on two photos of {image_size} pixels,"
    try:
        vectors = np.asarray(made.vectors(tf.constant(photos)))
    except Exception as error:  # What it does is not ours.
        raise FeatureError(f"{shown} fails ({reason_of(error)}), {needed}") from error
    if vectors.shape != (2, made.width) or vectors.dtype != np.float32:
        raise FeatureError(f"{shown} gives {vectors.dtype} {list(vectors.shape)}, {needed}")
    if not np.isfinite(vectors).all():
        raise FeatureError(f"{shown} gives numbers that are not finite, {needed}")


def reason_of(error: BaseException) -> str:
    """The kind of an error and its first line."""
    lines = str(error).strip().splitlines()
    return printable(f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__)
