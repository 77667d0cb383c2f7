"""Photos to pixels: block means, and no copy of a whole photo in floats."""

import numpy as np
import pytest
import tensorflow as tf

from courier_tf import images

SIZE = 16


@pytest.mark.parametrize("factors", [(1, 1), (4, 4), (3, 7), (20, 1)])
def test_pixels_are_the_means_of_their_blocks(factors):
    photo = np.random.default_rng(0).integers(0, 256, [SIZE * factors[0], SIZE * factors[1], 3], np.uint8)
    means = photo.reshape(SIZE, factors[0], SIZE, factors[1], 3).mean(axis=(1, 3))
    found = images.resize(tf.constant(photo), SIZE).numpy()
    assert found.dtype == np.uint8
    # A mean that lies between two integers, up to rounding, may go to either.
    assert np.abs(found - means).max() <= 0.5 + 1e-4


def test_a_large_photo_is_not_copied_into_floats():
    """A photo of 50 megapixels would need 600 MB: whatever is a float has the size of the result at most."""
    spec = tf.TensorSpec([None, None, 3], tf.uint8)
    graph = tf.function(lambda pixels: images.resize(pixels, SIZE)).get_concrete_function(spec).graph
    floats = [
        tensor.shape.num_elements()
        for op in graph.get_operations()
        for tensor in op.outputs
        if tensor.dtype.is_floating
    ]
    assert floats and None not in floats and max(floats) == SIZE * SIZE * 3
