"""Augmentations of photos on the device. A seed and the place in the batch decide each photo's draw."""

import tensorflow as tf

from courier_tf import images

MARGIN = 1 / 16  # Largest shift, as a share of the side.
GAIN, OFFSET = 0.2, 16.0  # Contrast by up to 20 %, brightness by up to 16 of 255.


def augmented(photos: tf.Tensor, seed: tf.Tensor, *, light: bool) -> tf.Tensor:
    """Mirrors half of the photos, shifts each a little, and can change contrast and brightness.

    The hue of colours stays, because users choose by it.

    Args:
        photos: [N, S, S, 3] uint8; or [N, V, W] float32, the features of V views of each photo.
        seed: [2] int; the same seed and number of photos give the same result.
        light: whether contrast and brightness stay.

    Returns:
        [N, S, S, 3] uint8; or [N, W] float32, one of the views of each photo.
    """
    seed = tf.cast(seed, tf.int64)
    if photos.shape.rank == 3:
        return tf.gather(photos, _view_order(photos, seed)[:, 0], batch_dims=1)
    count, size = tf.shape(photos)[0], photos.shape[1] or tf.shape(photos)[1]
    draw = tf.random.stateless_uniform([count, 5], seed)
    photos = tf.cast(photos, tf.float16)  # Exact for bytes, which GPUs can neither pad nor gather.
    photos = tf.where(draw[:, 0, None, None, None] < 0.5, photos[:, :, ::-1], photos)
    margin = tf.cast(tf.cast(size, tf.float32) * MARGIN, tf.int32)
    padded = images.with_margin(photos, margin)
    corner = tf.cast(tf.floor(draw[:, 1:3] * (2.0 * tf.cast(margin, tf.float32) + 1.0)), tf.int32)
    # One gather per axis moves every photo by its own amount.
    rows = corner[:, :1] + tf.range(size)[None]
    columns = corner[:, 1:] + tf.range(size)[None]
    moved = tf.gather(tf.gather(padded, rows, axis=1, batch_dims=1), columns, axis=2, batch_dims=1)
    if not light:
        return tf.cast(moved, tf.uint8)
    gain = 1.0 + GAIN * (2.0 * draw[:, 3, None, None, None] - 1.0)
    offset = OFFSET * (2.0 * draw[:, 4, None, None, None] - 1.0)
    return images.with_contrast(moved, gain, offset)


def two_views(photos: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Each photo augmented twice: [2 N, S, S, 3] uint8, the first views, then the second ones.

    Of features of views, [N, V, W] float32, two different views: [2 N, W].
    """
    seed = tf.cast(seed, tf.int64)
    if photos.shape.rank == 3:
        order = _view_order(photos, seed)
        return tf.concat([tf.gather(photos, order[:, view], batch_dims=1) for view in range(2)], axis=0)
    return tf.concat([augmented(photos, seed + [view * 2**32, 0], light=True) for view in range(2)], axis=0)


def _view_order(features: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """[N, V] int32: the views of each photo in a random order."""
    return tf.argsort(tf.random.stateless_uniform(tf.shape(features)[:2], seed), axis=1)
