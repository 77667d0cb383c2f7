"""Photos to pixels. The record job, tf.data and the SavedModels share this code, so all three see the same pixels."""

import tensorflow as tf

from serving.client.contract import RowStatus

MAX_PIXELS = 50_000_000  # Larger photos are refused before they are decoded: a small file can hold gigabytes.


class PhotoError(ValueError):
    """A photo cannot be used; the message is the reason."""


def resize(pixels: tf.Tensor, size: int) -> tf.Tensor:
    """Resizes a photo by area averaging, so that small motifs do not alias, and rounds once.

    Args:
        pixels: [H, W, 3] uint8.
        size: side S of the result.

    Returns:
        [S, S, 3] uint8.
    """
    # The operation takes integers as they are. For a large photo, floats would need most of a gigabyte.
    resized = tf.cast(tf.image.resize(pixels, [size, size], method="area"), tf.float32)
    return tf.cast(tf.round(tf.clip_by_value(resized, 0.0, 255.0)), tf.uint8)


def decode(encoded: tf.Tensor, size: int) -> tf.Tensor:
    """Decodes a scalar string with a JPEG or PNG photo to [size, size, 3] uint8, with stock ops alone."""
    pixels = tf.io.decode_image(encoded, channels=3, expand_animations=False)
    return resize(tf.ensure_shape(pixels, [None, None, 3]), size)


def decode_rows(encoded: tf.Tensor, size: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Decodes photos of unknown quality, for a server. A photo that cannot be decoded costs its own row, not the batch.

    Args:
        encoded: [B] strings, JPEG or PNG.
        size: side S of the result.

    Returns:
        (pixels [B, S, S, 3] uint8, black where there is no photo; status [B] int32, a `RowStatus`).
    """
    rows = tf.size(encoded, out_type=tf.int64)
    black = tf.zeros([size, size, 3], tf.uint8)

    def row_of(row: tf.Tensor, photo: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        status = _status_by_header(photo)
        pixels = tf.cond(status == RowStatus.OK, lambda: decode(photo, size), lambda: black)
        return row, status, pixels

    # An operation that fails ends its whole graph, except inside a data set that ignores errors. Photos are decoded one
    # after the other, so the memory is that of one photo.
    decoded = tf.data.Dataset.from_tensor_slices(encoded).enumerate().map(row_of).ignore_errors()
    # One row more, so that there is a batch even if no photo can be decoded.
    decoded = decoded.concatenate(tf.data.Dataset.from_tensors((rows, tf.constant(RowStatus.BROKEN, tf.int32), black)))
    row, status, pixels = decoded.batch(rows + 1).get_single_element()
    # Missing rows point to that last row.
    last = tf.size(row) - 1
    place = tf.tensor_scatter_nd_update(tf.fill([rows + 1], last), row[:, None], tf.range(last + 1))[:-1]
    return tf.gather(pixels, place), tf.gather(status, place)


def _status_by_header(photo: tf.Tensor) -> tf.Tensor:
    """Scalar `RowStatus` of a photo, from its first bytes, so that a decompression bomb is not unpacked.

    The operation fails where these bytes are cut off.
    """
    is_jpeg = tf.strings.substr(photo, 0, 3) == b"\xff\xd8\xff"
    is_png = tf.strings.substr(photo, 0, 8) == b"\x89PNG\r\n\x1a\n"
    shape = tf.cond(
        is_jpeg,
        lambda: tf.image.extract_jpeg_shape(photo)[:2],
        lambda: tf.cond(is_png, lambda: _png_shape(photo), lambda: tf.zeros([2], tf.int32)),
    )
    pixels = tf.reduce_prod(tf.cast(shape, tf.int64))
    status = tf.where(pixels > MAX_PIXELS, int(RowStatus.TOO_LARGE), int(RowStatus.OK))
    status = tf.where(tf.reduce_all(shape > 0), status, int(RowStatus.BROKEN))
    status = tf.where(is_jpeg | is_png, status, int(RowStatus.UNKNOWN_FORMAT))
    return tf.where(tf.strings.length(photo) == 0, int(RowStatus.EMPTY), status)


def _png_shape(photo: tf.Tensor) -> tf.Tensor:
    """[2] int32 width and height, from bytes 16 to 23 (RFC 2083, 11.2.1)."""
    return tf.ensure_shape(tf.io.decode_raw(tf.strings.substr(photo, 16, 8), tf.int32, little_endian=False), [2])


def decode_webp(encoded: bytes) -> tf.Tensor:
    """Decodes a WebP photo to [H, W, 3] uint8, without transparency. TensorFlow has its own decoder from 2.20 on."""
    if hasattr(tf.io, "decode_webp"):
        return tf.io.decode_webp(encoded, channels=3)[0]  # A photo has one frame.
    import tensorflow_io  # Imported here: its native ops load on TensorFlow 2.16 and 2.17 alone.

    return tensorflow_io.image.decode_webp(encoded)[..., :3]
