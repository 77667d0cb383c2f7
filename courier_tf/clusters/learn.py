"""Embeddings to a codebook, by the algorithm of the settings. A codebook is [levels, clusters, D]; most have one level.

With several levels each embedding gets a code per level, coarse to fine: the first names the nearest centroid, each
next one the centroid nearest to what is left over (residual quantisation, as semantic IDs have it: arXiv 2305.05065).
"""

import functools
from collections.abc import Iterable, Iterator
from typing import Literal

import numpy as np
from rich.progress import Progress

from courier_tf.clusters.comparison import LARGEST_SAMPLE, agglomerative, hdbscan
from courier_tf.clusters.embedding_files import EmbeddingFiles
from courier_tf.clusters.kmeans import kmeans
from courier_tf.clusters.nearest import nearest
from courier_tf.clusters.online import SEEN_AT_START, Online, single_pass, start
from courier_tf.clusters.scann_nearest import FEWEST_CENTROIDS, ScannNearest
from courier_tf.clusters.seeding import ClusterError, Clustering
from courier_tf.settings import ClusterSettings

SAMPLE_PER_CLUSTER = 256  # Embeddings that k-means learns from, for each centroid: more change next to nothing.


def learn(files: EmbeddingFiles, settings: ClusterSettings, rng: np.random.Generator) -> np.ndarray:
    """The codebook [L, K, D] float32 of the embeddings of the train span.

    Args:
        files: the embeddings. `online` reads all of them, once; the others learn from a sample in memory.
        settings: algorithm, clusters and so on.
        rng: of seeding.

    Raises:
        ClusterError: fewer different embeddings (or, on a further level, residuals) than clusters.
    """
    with Progress() as progress:
        if settings.algorithm == "online":
            # The length of the stream is not known before its end.
            return _followed(_online(files, settings, rng), progress, "online", None)[None]
        if settings.algorithm == "agglomerative":
            return agglomerative(files.train_sample(LARGEST_SAMPLE), settings.clusters)[None]
        if settings.algorithm == "hdbscan":
            return hdbscan(files.train_sample(LARGEST_SAMPLE))[None]
        left = files.train_sample(settings.clusters * SAMPLE_PER_CLUSTER)
        number = settings.levels if settings.algorithm == "residual" else 1
        levels = []
        for level in range(number):
            rounds = kmeans(left, settings.clusters, rng, settings.cluster_steps)
            name = f"{settings.algorithm}, level {level + 1} of {number}"
            levels.append(_followed(rounds, progress, name, settings.cluster_steps + 1))
            left = left - levels[-1][nearest(left, levels[-1])[0]]
    return np.stack(levels)


class Assigner:
    """Embeddings to codes.

    Args:
        codebook: [L, K, D] float32.
        search: "exact", or "scann" for many clusters.

    Call: [N, D] to ([N, L] int32 codes, [N] float32 squared length of what they leave over).

    Raises:
        ClusterError: ScaNN is asked for, but there are too few clusters for it.
    """

    def __init__(self, codebook: np.ndarray, search: Literal["exact", "scann"] = "exact") -> None:
        clusters = codebook.shape[1]
        if search == "scann" and clusters < FEWEST_CENTROIDS:
            raise ClusterError(f"search=scann needs {FEWEST_CENTROIDS} clusters or more, but there are {clusters}")
        self.codebook = codebook
        self._searches = [
            ScannNearest(level) if search == "scann" else functools.partial(nearest, centroids=level)
            for level in codebook
        ]

    def __call__(self, embeddings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        codes = np.zeros([len(embeddings), len(self.codebook)], np.int32)
        distance = np.zeros(len(embeddings), np.float32)
        if len(embeddings):
            for level, search in enumerate(self._searches):
                codes[:, level], distance = search(embeddings)
                embeddings = embeddings - self.codebook[level, codes[:, level]]
        return codes, distance


def _followed(rounds: Iterable[Online | Clustering], progress: Progress, name: str, total: int | None) -> np.ndarray:
    task = progress.add_task(name, total=total)
    for found in rounds:
        centroids = found.centroids
        progress.advance(task)
    progress.update(task, completed=total)  # k-means may end early.
    return centroids


def _online(files: EmbeddingFiles, settings: ClusterSettings, rng: np.random.Generator) -> Iterator[Online]:
    """The start from the first embeddings of the stream, then the pass over the rest of it."""
    seen = settings.clusters * SEEN_AT_START
    state = start(files.train_sample(seen), settings.clusters, rng)
    yield state
    yield from single_pass(state, _rest(files.train_blocks(settings.cluster_batch_size), seen))


def _rest(blocks: Iterable[np.ndarray], seen: int) -> Iterator[np.ndarray]:
    """The blocks without their first `seen` rows."""
    for block in blocks:
        if len(block) > seen:
            yield block[seen:]
        seen = max(seen - len(block), 0)
