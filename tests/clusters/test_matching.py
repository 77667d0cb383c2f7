"""IDs after a retrain, against all permutations."""

import itertools

import numpy as np

from courier_tf.clusters.matching import kept_ids


def test_as_many_items_as_possible_keep_their_id():
    rng = np.random.default_rng(0)
    for _ in range(20):
        old, new = rng.integers(5, size=30), rng.integers(5, size=30)
        centroids = rng.normal(size=[2, 5, 3])
        ids = kept_ids(old, new, *centroids)
        best = max((np.array(order)[new] == old).sum() for order in itertools.permutations(range(5)))
        assert sorted(ids) == list(range(5)) and (ids[new] == old).sum() == best


def test_a_permutation_is_undone():
    rng = np.random.default_rng(1)
    centroids, order = rng.normal(size=[6, 4]), rng.permutation(6)
    old = rng.integers(6, size=50)
    place_of = np.argsort(order)  # New row of each old centroid.
    np.testing.assert_array_equal(kept_ids(old, place_of[old], centroids, centroids[order]), order)


def test_where_no_item_decides_the_nearest_centroid_does():
    old_centroids = np.array([[0.0, 0], [10, 0], [0, 10]])
    new_centroids = np.array([[0.5, 9.5], [9, 0], [1, 0]])
    nobody = np.zeros(0, int)
    np.testing.assert_array_equal(kept_ids(nobody, nobody, old_centroids, new_centroids), [2, 1, 0])
    # One item outweighs every distance.
    one = kept_ids(np.array([0]), np.array([0]), old_centroids, new_centroids)
    assert one[0] == 0
