"""Checks and resizes photos. They are re-encoded without loss, so that the server sees the same pixels."""

import functools

import numpy as np
import tensorflow as tf

from beam_jobs.photo_formats import format_of
from courier_tf import images
from serving.client.contract import RowStatus
from serving.client.photos import PhotoFormatError, upright


def normalise(encoded: bytes, size: int) -> bytes:
    """Turns the file of a photo into a PNG of size x size x 3 pixels, upright and on white.

    JPEG, PNG and WebP files are decoded as a server decodes them. The other formats of `serving.client.photos` are
    decoded as that turns them into PNG files for a server.

    Raises:
        PhotoError: it has another format, is broken or animated, or has more than `images.MAX_PIXELS` pixels.
    """
    try:
        status, shape, png = _decoder(size, images.MAX_PIXELS)(encoded)
    except tf.errors.InvalidArgumentError as error:
        raise images.PhotoError(f"it is {format_of(encoded)}, but broken") from error
    match RowStatus(int(status)):
        case RowStatus.OK:
            return png.numpy()
        case RowStatus.EMPTY:
            raise images.PhotoError("the file is empty")
        case RowStatus.TOO_LARGE:
            height, width = shape.numpy()
            raise images.PhotoError(f"it has {width} x {height} pixels, more than {images.MAX_PIXELS}")
        case RowStatus.BROKEN:
            raise images.PhotoError(f"it is {format_of(encoded)}, but broken")
        case RowStatus.ANIMATED:
            raise images.PhotoError(f"it is {format_of(encoded)}, and animated")
    try:
        pixels = tf.constant(np.asarray(upright(encoded, images.MAX_PIXELS)))
    except PhotoFormatError as error:
        raise images.PhotoError(f"it is {format_of(encoded)}: {error}") from error
    seen = images.on_white(pixels) if pixels.shape[2] == 4 else pixels
    return tf.io.encode_png(images.resize(seen, size)).numpy()


@functools.cache
def _decoder(size: int, most_pixels: int) -> tf.types.experimental.GenericFunction:
    """A graph that decodes and encodes a photo: (status, shape, PNG), see `images.decode_checked`."""

    @tf.function(input_signature=[tf.TensorSpec([], tf.string)], autograph=False)
    def decoded(photo: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        status, shape, pixels = images.decode_checked(photo, size, webp=True, most_pixels=most_pixels)
        return status, shape, tf.io.encode_png(pixels)

    return decoded
