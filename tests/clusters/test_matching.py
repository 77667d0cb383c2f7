"""IDs after a retrain, against all permutations."""

import itertools

import numpy as np
from scipy.optimize import linear_sum_assignment

from courier_tf.clusters import matching as module
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


def test_many_clusters_do_as_well_as_the_whole_table():
    """More clusters than are looked at for each: as many items keep their ID as SciPy's dense assignment allows."""
    rng = np.random.default_rng(2)
    number = 3 * module.NEAR
    centroids = rng.normal(size=[2, number, 8])
    old = rng.integers(number, size=20 * number)
    new = np.where(rng.random(len(old)) < 0.6, rng.permutation(number)[old], rng.integers(number, size=len(old)))
    ids = kept_ids(old, new, *centroids)
    shared = np.zeros([number, number])
    np.add.at(shared, (old, new), 1)
    best = shared[linear_sum_assignment(shared, maximize=True)].sum()
    assert sorted(ids) == list(range(number)) and (ids[new] == old).sum() == best


def test_ids_that_nobody_near_wants_are_handed_out():
    """All new centroids are near the same few old ones."""
    number = 3 * module.NEAR
    old_centroids = np.arange(number)[:, None] * np.ones([1, 2])
    nobody = np.zeros(0, int)
    ids = kept_ids(nobody, nobody, old_centroids, np.zeros([number, 2]))
    assert sorted(ids) == list(range(number))
