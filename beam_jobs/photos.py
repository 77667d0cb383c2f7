"""Reads, checks and resizes photos. They are re-encoded without loss, so that the server sees the same pixels."""

import functools
import os

import numpy as np
import tensorflow as tf
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from beam_jobs.photo_formats import format_of
from courier_tf import images
from serving.client.contract import RowStatus
from serving.client.photos import PhotoFormatError, upright


def resolve(raw: str, image: str) -> str:
    """The address of a photo: a URI as it is, and any other path inside the raw folder.

    Raises:
        PhotoError: the path leaves the folder, or is not a path.
    """
    if "\0" in image:
        raise images.PhotoError("the path holds a NUL byte")
    if FileSystems.get_scheme(image):
        return image
    if FileSystems.get_scheme(raw):
        if ".." in image.split("/") or image.startswith("/"):
            raise images.PhotoError(f"the path {image!r} leaves the raw folder")
        return FileSystems.join(raw, image)
    root = os.path.realpath(raw)
    path = os.path.realpath(os.path.join(root, image))
    if os.path.commonpath([root, path]) != root:
        raise images.PhotoError(f"the path {image!r} leaves the raw folder")
    return path


def read_photo(path: str) -> bytes | None:
    """The bytes of a photo; None where there is no such file.

    Raises:
        PhotoError: the file cannot be read, or no file system here knows such an address.
    """
    try:
        if not FileSystems.exists(path):
            return None
        # A photo is never unpacked, whatever its file extension.
        with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as stream:
            return stream.read()
    except (ValueError, OSError) as error:  # An unknown scheme, a missing extra, or the system's reason.
        raise images.PhotoError(f"it cannot be read: {error}") from error


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
