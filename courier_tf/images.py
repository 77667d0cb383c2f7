"""Photos to pixels: one code for the record job, tf.data and the SavedModels, so that all three see the same pixels."""

import tensorflow as tf

MAX_PIXELS = 50_000_000  # Larger photos are refused before they are decoded: a small file can unpack to gigabytes.


class PhotoError(ValueError):
    """A photo cannot be used; the message is the reason."""


def resize(pixels: tf.Tensor, size: int) -> tf.Tensor:
    """[H, W, 3] uint8 to [size, size, 3] uint8, area-averaged so that small motifs do not alias, rounded once."""
    resized = tf.image.resize(tf.cast(pixels, tf.float32), [size, size], method="area")
    return tf.cast(tf.round(tf.clip_by_value(resized, 0.0, 255.0)), tf.uint8)


def decode(encoded: tf.Tensor, size: int) -> tf.Tensor:
    """A scalar string with a JPEG or PNG photo to [size, size, 3] uint8, with stock ops only."""
    pixels = tf.io.decode_image(encoded, channels=3, expand_animations=False)
    return resize(tf.ensure_shape(pixels, [None, None, 3]), size)


def decode_webp(encoded: bytes) -> tf.Tensor:
    """A WebP photo to [H, W, 3] uint8; transparency is dropped. TensorFlow has a decoder of its own from 2.20 on."""
    if hasattr(tf.io, "decode_webp"):
        return tf.io.decode_webp(encoded, channels=3)
    import tensorflow_io  # Only here: its native ops load on TensorFlow 2.16 and 2.17 alone.

    return tensorflow_io.image.decode_webp(encoded)[..., :3]
