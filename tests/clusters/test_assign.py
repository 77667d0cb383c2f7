"""Codes of several levels against loops."""

import numpy as np
import pytest

from courier_tf.clusters.assign import Assigner
from courier_tf.clusters.seeding import ClusterError

from .planted import planted


def test_codes_equal_a_loop():
    rng = np.random.default_rng(0)
    points, codebook = rng.normal(size=[30, 4]).astype(np.float32), rng.normal(size=[3, 5, 4]).astype(np.float32)
    assign = Assigner(codebook)
    codes, left_over = assign(points)
    for point, code, rest in zip(points, codes, left_over, strict=True):
        for level, centroids in enumerate(codebook):
            assert code[level] == ((point - centroids) ** 2).sum(axis=1).argmin()
            point = point - centroids[code[level]]
        assert rest == pytest.approx((point**2).sum(), rel=1e-4)


@pytest.mark.parametrize("stay", [0.0, 0.3, 1.0])
def test_items_stay_unless_another_centroid_is_much_nearer(stay):
    """Against a loop; an item that leaves its coarse code owes nothing to the finer one."""
    rng = np.random.default_rng(1)
    points, codebook = rng.normal(size=[300, 3]).astype(np.float32), rng.normal(size=[2, 4, 3]).astype(np.float32)
    previous = rng.integers(-1, 4, size=[300, 1]) * np.ones([1, 2], int)
    codes, left_over, nearest = Assigner(codebook).with_nearest(points, previous.astype(np.int32), stay)
    np.testing.assert_array_equal(nearest, Assigner(codebook)(points)[0])
    assert (codes != nearest).any(axis=0).all() or not stay
    stayed = 0
    for point, old, code, rest in zip(points, previous, codes, left_over, strict=True):
        binds = old[0] >= 0
        for level in range(2):
            table = ((point - codebook[level]) ** 2).sum(axis=1)
            keeps = binds and table.min() >= (1 - stay) * table[old[level]]
            wanted = old[level] if keeps else table.argmin()
            assert code[level] == wanted
            stayed += keeps
            point, binds = point - codebook[level, wanted], binds and wanted == old[level]
        assert rest == pytest.approx((point**2).sum(), rel=1e-3)
    assert stayed > 50


def test_codes_by_scann_are_nearly_those_of_exact_search():
    rng = np.random.default_rng(0)
    codebook = np.stack(
        [planted(clusters=100, each=10, dim=32, seed=seed)[0] * size for seed, size in ((0, 1), (1, 0.1))]
    )
    points = codebook[0, rng.integers(1000, size=3000)] + codebook[1, rng.integers(1000, size=3000)]
    exact, by_scann = Assigner(codebook)(points)[0], Assigner(codebook, "scann")(points)[0]
    assert (exact == by_scann).mean() > 0.98
    with pytest.raises(ClusterError, match="search=scann needs 1000 clusters or more, but there are 7"):
        Assigner(codebook[:, :7], "scann")
