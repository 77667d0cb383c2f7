"""Codes of several levels against loops."""

import numpy as np
import pytest

from courier_tf.clusters import learn as module
from courier_tf.clusters.embedding_files import EmbeddingFiles
from courier_tf.clusters.learn import Assigner, learn
from courier_tf.clusters.seeding import ClusterError
from courier_tf.settings import ClusterSettings

from .planted import planted, write_embeddings


def test_codes_equal_a_loop():
    rng = np.random.default_rng(0)
    points, codebook = rng.normal(size=[30, 4]).astype(np.float32), rng.normal(size=[3, 5, 4]).astype(np.float32)
    codes, left_over = Assigner(codebook)(points)
    for point, code, rest in zip(points, codes, left_over, strict=True):
        for level, centroids in enumerate(codebook):
            assert code[level] == ((point - centroids) ** 2).sum(axis=1).argmin()
            point = point - centroids[code[level]]
        assert rest == pytest.approx((point**2).sum(), rel=1e-4)


def test_each_level_explains_more(tmp_path):
    points, _ = planted()
    files = EmbeddingFiles(write_embeddings(tmp_path / "embed", points))
    settings = ClusterSettings(clusters=4, algorithm="residual", levels=4)
    codebook = learn(files, settings, np.random.default_rng(0))
    assert codebook.shape == (4, 4, 16)
    distortion = [Assigner(codebook[:levels])(points)[1].mean() for levels in (1, 2, 3, 4)]
    assert (np.diff(distortion) < 0).all() and distortion[-1] < 0.5 * distortion[0]
    first = learn(files, ClusterSettings(clusters=4), np.random.default_rng(0))
    np.testing.assert_array_equal(codebook[:1], first)


def test_codes_by_scann_are_nearly_those_of_exact_search():
    rng = np.random.default_rng(0)
    codebook = np.stack(
        [planted(clusters=100, each=10, dim=32, seed=seed)[0] * size for seed, size in ((0, 1), (1, 0.1))]
    )
    points = codebook[0, rng.integers(1000, size=3000)] + codebook[1, rng.integers(1000, size=3000)]
    exact, found = Assigner(codebook)(points)[0], Assigner(codebook, "scann")(points)[0]
    assert (exact == found).mean() > 0.98
    with pytest.raises(ClusterError, match="search=scann needs 1000 clusters or more, but there are 7"):
        Assigner(codebook[:, :7], "scann")


def test_online_looks_at_each_train_embedding_once(tmp_path):
    """The counts of the last state are those of the stream, whatever the blocks."""
    points, _ = planted(clusters=3, each=70)
    files = EmbeddingFiles(write_embeddings(tmp_path / "embed", points))
    for block in (7, 1000):
        settings = ClusterSettings(clusters=3, algorithm="online", cluster_batch_size=block)
        *_, last = module._online(files, settings, np.random.default_rng(0))
        assert last.counts.sum() == np.count_nonzero(np.arange(len(points)) % 10)
