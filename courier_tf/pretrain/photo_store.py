"""The photos of the catalogue by item number, or the features that stand in for them."""

import dataclasses
import functools

import numpy as np
import tensorflow as tf

from courier_tf.features.sources import Pixels
from courier_tf.workdir import records

SHRUNK_AT_ONCE = 8192  # Photos.


@dataclasses.dataclass(frozen=True)
class PhotoStore:
    """The catalogue's photos; item number 0 stands for "no such item, or no photo".

    Attributes:
        ids: [N] bytes, sorted; item i has number i + 1.
        encoded: [N] bytes, PNG; b"" where there is no photo.
        image_size: S, their side in pixels.
    """

    ids: np.ndarray
    encoded: np.ndarray
    image_size: int

    @classmethod
    def of(cls, items: records.Items, image_size: int) -> "PhotoStore":
        """The photos of a catalogue."""
        return cls(items.ids, items.photos, image_size)

    @functools.cached_property
    def has_photo(self) -> np.ndarray:
        """[N + 1] bool, by number."""
        return np.concatenate([[False], self.encoded != b""])

    @property
    def inputs(self) -> np.ndarray:
        """What the encoder takes, by number: [N + 1, ...]."""
        return self.pixels

    def inputs_of(self, numbers: np.ndarray) -> np.ndarray:
        """What the encoder takes of the items with these numbers [M]: [M, ...]."""
        return self.decoded(numbers)

    def small(self, numbers: np.ndarray) -> np.ndarray:
        """The photos of the items with these numbers [M] at 16 x 16 pixels: [M, 768] float32, 0 to 255."""
        return shrunk(self.decoded(numbers))

    @functools.cached_property
    def pixels(self) -> np.ndarray:
        """All photos, decoded once: [N + 1, S, S, 3] uint8 by number. Row 0 is black."""
        return self.decoded(np.arange(len(self.ids) + 1))

    def decoded(self, numbers: np.ndarray) -> np.ndarray:
        """The photos of the items with these numbers [M]: [M, S, S, 3] uint8, black where there is none."""
        pixels = np.zeros([len(numbers), self.image_size, self.image_size, 3], np.uint8)
        for place in np.flatnonzero(self.has_photo[numbers]):
            pixels[place] = tf.io.decode_png(self.encoded[numbers[place] - 1], channels=3).numpy()
        return pixels

    def numbers(self, ids: np.ndarray) -> np.ndarray:
        """Item numbers of ids [...] bytes; 0 for an unknown item and for one without a photo."""
        place = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        known = (self.ids[place] == ids) & self.has_photo[place + 1]
        return np.where(known, place + 1, 0).astype(np.int32)

    def lookup(self) -> tf.lookup.StaticHashTable:
        """`numbers` as a table for use inside tf.data."""
        usable = np.flatnonzero(self.has_photo[1:])
        return tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(self.ids[usable], (usable + 1).astype(np.int32)), default_value=0
        )


@dataclasses.dataclass(frozen=True)
class FeatureStore(PhotoStore):
    """The catalogue by the features of its photos, which are not decoded.

    Attributes:
        vectors: [N + 1, W] float32 by number, or [N + 1, 1 + views, W] with further views of each photo.
        small_photos: [N + 1, 768] float32 by number, the photos at 16 x 16 pixels, 0 to 255.
    """

    vectors: np.ndarray
    small_photos: np.ndarray

    @property
    def inputs(self) -> np.ndarray:
        return self.vectors

    def inputs_of(self, numbers: np.ndarray) -> np.ndarray:
        """The features of the photos themselves, further views left out: [M, W]."""
        return self.vectors[numbers] if self.vectors.ndim == 2 else self.vectors[numbers, 0]

    def small(self, numbers: np.ndarray) -> np.ndarray:
        return self.small_photos[numbers]


def shrunk(pixels: np.ndarray) -> np.ndarray:
    """Photos [M, S, S, 3] uint8 at 16 x 16 pixels: [M, 768] float32, 0 to 255."""
    starts = range(0, len(pixels), SHRUNK_AT_ONCE)
    parts = [Pixels().vectors(pixels[start : start + SHRUNK_AT_ONCE]).numpy() * 255 for start in starts]
    return np.concatenate(parts) if parts else np.zeros([0, Pixels.width], np.float32)
