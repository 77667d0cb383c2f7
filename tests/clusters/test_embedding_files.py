"""Embeddings are read block by block, and broken ones are refused by name."""

import shutil
import tracemalloc

import numpy as np
import pytest

from courier_tf.clusters.assign import Assigner
from courier_tf.clusters.embedding_files import EmbeddingFiles
from courier_tf.clusters.learn import learn
from courier_tf.clusters.learning_states import LearningStates
from courier_tf.clusters.report import Report
from courier_tf.clusters.seeding import ClusterError
from courier_tf.settings import ClusterSettings

from .planted import planted, write_embeddings


@pytest.mark.parametrize("rows", [7, 1000])
def test_blocks_hold_all_rows_in_order(tmp_path, rows):
    points, _ = planted(clusters=3, each=20)
    files = EmbeddingFiles(write_embeddings(tmp_path / "embed", points, bare=15, files=4))
    blocks = list(files.blocks(rows))
    assert max(len(block.items) for block in blocks) <= rows
    assert [item for block in blocks for item in block.items] == [f"i{number:04d}" for number in range(75)]
    np.testing.assert_array_equal(np.concatenate([b.embeddings for b in blocks if len(b.embeddings)]), points)
    train = points[np.arange(60) % 10 > 0]
    np.testing.assert_array_equal(np.concatenate([block.embeddings for block in files.train_blocks(rows)]), train)
    np.testing.assert_array_equal(files.train_sample(31).embeddings, train[:31])
    assert list(files.train_sample(31).items) == [
        f"i{number:04d}" for number in np.flatnonzero(np.arange(60) % 10)[:31]
    ]
    np.testing.assert_array_equal(files.train_sample(999).embeddings, train)


def test_broken_embeddings_are_refused(tmp_path):
    points, _ = planted(clusters=3, each=20)
    foreign = EmbeddingFiles(write_embeddings(tmp_path / "foreign", points, encoder="xyz"))
    with pytest.raises(ClusterError, match=r"embeddings-0.parquet: embeddings of the encoder \['xyz'\], but abc"):
        list(foreign.blocks())
    uneven = [*points[:40], *points[40:, :5]]
    with pytest.raises(ClusterError, match=r"embeddings-1.parquet: embeddings differ in width: \[5, 16\]"):
        list(EmbeddingFiles(write_embeddings(tmp_path / "uneven", uneven)).blocks())
    points[51, 3] = np.nan
    with pytest.raises(ClusterError, match="embedding of item i0051 holds values that are not finite"):
        list(EmbeddingFiles(write_embeddings(tmp_path / "nan", points)).blocks())
    points[50] = 0
    points[51] = 1
    with pytest.raises(ClusterError, match="embeddings-1.parquet: the embedding of item i0050 is zero"):
        list(EmbeddingFiles(write_embeddings(tmp_path / "zero", points)).blocks())
    with pytest.raises(ClusterError, match="no item of the train span has an embedding"):
        EmbeddingFiles(write_embeddings(tmp_path / "bare", points[:0], bare=5)).train_sample(3)


@pytest.mark.parametrize("algorithm", ["kmeans", "online"])
def test_memory_does_not_grow_with_the_items(tmp_path, monkeypatch, algorithm):
    """Neither that of learning nor that of the report."""
    monkeypatch.setattr("courier_tf.clusters.embedding_files.BLOCK", 256)
    monkeypatch.setattr("courier_tf.clusters.learn.SAMPLE_PER_CLUSTER", 50)
    monkeypatch.setattr("courier_tf.clusters.report.SAMPLE", 300)
    settings = ClusterSettings(clusters=8, algorithm=algorithm, cluster_batch_size=256)

    def work(files):
        shutil.rmtree(tmp_path / "states", ignore_errors=True)
        assign, report = Assigner(learn(files, settings, 0, LearningStates(tmp_path / "states"))), Report(8)
        for block in files.blocks():
            report.add(block, *assign.with_nearest(block.embeddings))
        assert len(report.sample().items) == 300 < report.sizes.sum()

    peaks = []
    for each in (100, 1000):
        points, _ = planted(clusters=8, each=each, dim=64)
        files = EmbeddingFiles(write_embeddings(tmp_path / f"{each}", points, files=1))
        work(files)
        tracemalloc.start()
        work(files)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0]
