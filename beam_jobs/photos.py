"""Checks and resizes photos. They are re-encoded without loss, so that the server sees the same pixels."""

import functools
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from beam_jobs.photo_formats import format_of
from courier_tf import images
from serving.client.contract import RowStatus
from serving.client.photos import PhotoFormatError, upright

COMPRESSION = 1  # Of PNG files. The usual 6 takes three times as long, as long as to decode, for a tenth of the bytes.


def normalise_all(files: Sequence[bytes], size: int) -> list[bytes | images.PhotoError]:
    """Turns the files of photos into PNGs of size x size x 3 pixels, upright and on white.

    JPEG, PNG and WebP files are decoded as a server decodes them. The other formats of `serving.client.photos` are
    decoded as that turns them into PNG files for a server. All are decoded in one call of TensorFlow, as the call
    itself takes as long as a small photo.

    Returns:
        For each photo its PNG, or an error: it has another format, is broken or animated, or has more than
        `images.MAX_PIXELS` pixels.
    """
    try:
        decoded = _decoder(size, images.MAX_PIXELS)(tf.constant(files, tf.string))
    except tf.errors.InvalidArgumentError:  # One of them is broken.
        if len(files) == 1:
            return [_broken(files[0])]
        middle = len(files) // 2
        return normalise_all(files[:middle], size) + normalise_all(files[middle:], size)
    rows = zip(files, *(part.numpy() for part in decoded), strict=True)
    return [_made(RowStatus(int(status)), shape, file, png, size) for file, status, shape, png in rows]


def _made(status: RowStatus, shape: np.ndarray, encoded: bytes, png: bytes, size: int) -> bytes | images.PhotoError:
    """The PNG of a photo, or what is wrong with it."""
    match status:
        case RowStatus.OK:
            return png
        case RowStatus.EMPTY:
            return images.PhotoError("the file is empty")
        case RowStatus.TOO_LARGE:
            height, width = shape
            return images.PhotoError(f"it has {width} x {height} pixels, more than {images.MAX_PIXELS}")
        case RowStatus.BROKEN:
            return _broken(encoded)
        case RowStatus.ANIMATED:
            return images.PhotoError(f"it is {format_of(encoded)}, and animated")
    try:
        pixels = tf.constant(np.asarray(upright(encoded, images.MAX_PIXELS)))
    except PhotoFormatError as error:
        return images.PhotoError(f"it is {format_of(encoded)}: {error}")
    seen = images.on_white(pixels) if pixels.shape[2] == 4 else pixels
    made: bytes = tf.io.encode_png(images.resize(seen, size), compression=COMPRESSION).numpy()
    return made


def _broken(encoded: bytes) -> images.PhotoError:
    return images.PhotoError(f"it is {format_of(encoded)}, but broken")


@functools.cache
def _decoder(size: int, most_pixels: int) -> tf.types.experimental.ConcreteFunction:
    """A graph that decodes and encodes [B] photos: (status, shape, PNG) of each, see `images.decode_checked`."""

    def decoded(photo: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        status, shape, pixels = images.decode_checked(photo, size, webp=True, most_pixels=most_pixels)
        return status, shape, tf.io.encode_png(pixels, compression=COMPRESSION)

    of_each = tf.TensorSpec([], tf.int32), tf.TensorSpec([2], tf.int64), tf.TensorSpec([], tf.string)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
    def all_decoded(photos: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        # One after the other: the memory is that of one large photo, and an engine uses the cores by its workers.
        return tf.map_fn(decoded, photos, fn_output_signature=of_each, parallel_iterations=1)

    return all_decoded.get_concrete_function()
