"""A codebook of every algorithm that learns by steps: levels, one pass, interruptions."""

import numpy as np
import pytest

from courier_tf.clusters.assign import Assigner
from courier_tf.clusters.embedding_files import EmbeddingFiles
from courier_tf.clusters.learn import learn
from courier_tf.clusters.learning_states import LearningStates
from courier_tf.clusters.online import Online
from courier_tf.settings import ClusterSettings

from .planted import like_embeddings, planted, write_embeddings


class Interrupted(Exception):
    pass


class Saving(LearningStates):
    """Saves every state, and breaks off after some."""

    def __init__(self, folder, until=None):
        super().__init__(folder, seconds=0)
        self.until, self.saves = until, 0

    def save(self, name, state, finished=False):
        super().save(name, state, finished)
        self.saves += 1
        if self.saves == self.until:
            raise Interrupted


def test_each_level_explains_more(tmp_path):
    points, _ = planted()
    files = EmbeddingFiles(write_embeddings(tmp_path / "embed", points))
    settings = ClusterSettings(clusters=4, algorithm="residual", levels=4)
    codebook = learn(files, settings, 0, LearningStates(tmp_path / "states"))
    assert codebook.shape == (4, 4, 16)
    distortion = [Assigner(codebook[:levels])(points)[1].mean() for levels in (1, 2, 3, 4)]
    assert (np.diff(distortion) < 0).all() and distortion[-1] < 0.5 * distortion[0]
    first = learn(files, ClusterSettings(clusters=4), 0, LearningStates(tmp_path / "others"))
    np.testing.assert_array_equal(codebook[:1], first)


def test_online_looks_at_each_train_embedding_once(tmp_path):
    """The counts of the last state are those of the stream, whatever the blocks."""
    points, _ = planted(clusters=3, each=100)
    files = EmbeddingFiles(write_embeddings(tmp_path / "embed", points))
    for block in (7, 1000):
        saved = LearningStates(tmp_path / str(block))
        learn(files, ClusterSettings(clusters=3, algorithm="online", cluster_batch_size=block), 0, saved)
        last = saved.load("online", Online)
        assert last.counts.sum() == last.seen == np.count_nonzero(np.arange(len(points)) % 10)


@pytest.mark.parametrize("algorithm", ["kmeans", "residual", "online"])
def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path, algorithm):
    files = EmbeddingFiles(write_embeddings(tmp_path / "embed", like_embeddings(1200, 16)))
    clusters = {"kmeans": 70, "residual": 20, "online": 10}[algorithm]
    settings = ClusterSettings(clusters=clusters, algorithm=algorithm, cluster_batch_size=32)
    whole = Saving(tmp_path / "whole")
    wanted = learn(files, settings, 0, whole)
    for rounds in (3, 7, 9):
        states = tmp_path / f"{algorithm}-{rounds}"
        with pytest.raises(Interrupted):
            learn(files, settings, 0, Saving(states, until=rounds))
        rest = Saving(states)
        np.testing.assert_array_equal(learn(files, settings, 0, rest), wanted)
        # At most the save that says that a level is finished comes twice.
        assert rest.saves <= whole.saves - rounds + 1
