"""Augmentation: mirrored and moved by whole pixels, the light changed only where asked for, decided by the seed."""

import numpy as np
import tensorflow as tf

from courier_tf.pretrain.augment import augmented, two_views

PHOTOS = np.random.default_rng(0).integers(0, 255, [40, 32, 32, 3], dtype=np.uint8)


def moved_versions(photo):
    """Every mirrored and moved version, as bytes: the margin is 32 / 16 = 2 pixels."""
    for flipped in (photo, photo[:, ::-1]):
        padded = np.pad(flipped, [(2, 2), (2, 2), (0, 0)], mode="symmetric")
        for top in range(5):
            for left in range(5):
                yield padded[top : top + 32, left : left + 32].tobytes()


def test_mirrors_and_moves():
    changed = augmented(tf.constant(PHOTOS), tf.constant([1, 2]), light=False).numpy()
    places = [
        list(moved_versions(photo)).index(photo_after.tobytes())
        for photo, photo_after in zip(PHOTOS, changed, strict=True)
    ]
    assert len(set(places)) > 15 and 5 < sum(place < 25 for place in places) < 35


def test_the_seed_decides_and_light_changes_values():
    first, same, other = (
        augmented(tf.constant(PHOTOS), tf.constant(s), light=True).numpy() for s in ([1, 2], [1, 2], [1, 3])
    )
    np.testing.assert_array_equal(first, same)
    plain = augmented(tf.constant(PHOTOS), tf.constant([1, 2]), light=False).numpy()
    assert (first != other).any() and 0 < np.abs(first.astype(int) - plain.astype(int)).max() <= 45


def test_two_views_of_a_photo_differ():
    views = two_views(tf.constant(PHOTOS), tf.constant([1, 2])).numpy()
    first, second = np.split(views.astype(int), 2)
    np.testing.assert_array_equal(first, augmented(tf.constant(PHOTOS), tf.constant([1, 2]), light=True))
    assert (first != second).any(axis=(1, 2, 3)).all()
