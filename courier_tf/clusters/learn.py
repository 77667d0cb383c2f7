"""Embeddings to a codebook, by the algorithm of the settings. A codebook is [levels, clusters, D]; most have one level.

With several levels each embedding gets a code per level, coarse to fine: the first names the nearest centroid, each
next one the centroid nearest to what is left over (residual quantisation, as semantic IDs have it: arXiv 2305.05065).
"""

from collections.abc import Iterable, Iterator
from typing import Literal

import numpy as np
from rich.progress import Progress, TaskID

from courier_tf.clusters.comparison import LARGEST_SAMPLE, agglomerative, hdbscan
from courier_tf.clusters.embedding_files import EmbeddingFiles
from courier_tf.clusters.kmeans import kmeans
from courier_tf.clusters.nearest import nearest
from courier_tf.clusters.online import SEEN_AT_START, Online, single_pass, start
from courier_tf.clusters.scann_nearest import FEWEST_CENTROIDS, ScannNearest
from courier_tf.clusters.seeding import ClusterError, Clustering
from courier_tf.settings import ClusterSettings

SAMPLE_PER_CLUSTER = 256  # Embeddings that k-means learns from, for each centroid: more change next to nothing.
SAMPLES = {"agglomerative": LARGEST_SAMPLE, "hdbscan": LARGEST_SAMPLE}  # Of those that look at all pairs.


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
            return _followed(_online(files, settings, rng), progress.add_task("online", total=None), progress)[None]
        left = files.train_sample(SAMPLES.get(settings.algorithm, settings.clusters * SAMPLE_PER_CLUSTER))
        levels = []
        for level in range(settings.levels):
            name = settings.algorithm + (f", level {level + 1} of {settings.levels}" if settings.levels > 1 else "")
            match settings.algorithm:
                case "agglomerative":
                    centroids = agglomerative(left, settings.clusters)
                case "hdbscan":
                    centroids = hdbscan(left)
                case "kmeans" | "residual":
                    task = progress.add_task(name, total=settings.cluster_steps + 1)
                    rounds = kmeans(left, settings.clusters, rng, settings.cluster_steps)
                    centroids = _followed(rounds, task, progress)
                    progress.update(task, completed=settings.cluster_steps + 1)  # It may end early.
            levels.append(centroids)
            if level + 1 < settings.levels:
                left = left - centroids[nearest(left, centroids)[0]]
    return np.stack(levels)


def codes_of(
    embeddings: np.ndarray, codebook: np.ndarray, search: Literal["exact", "scann"] = "exact"
) -> tuple[np.ndarray, np.ndarray]:
    """([N, L] int32 codes, [N] float32 squared length of what they leave over) of embeddings [N, D].

    Raises:
        ClusterError: ScaNN is asked for, but there are too few clusters for it.
    """
    if search == "scann" and codebook.shape[1] < FEWEST_CENTROIDS:
        raise ClusterError(f"search=scann needs {FEWEST_CENTROIDS} clusters or more, but there are {codebook.shape[1]}")
    if not len(embeddings):
        return np.zeros([0, len(codebook)], np.int32), np.zeros(0, np.float32)
    codes = []
    for centroids in codebook:
        code, distance = ScannNearest(centroids)(embeddings) if search == "scann" else nearest(embeddings, centroids)
        codes.append(code)
        if len(codes) < len(codebook):
            embeddings = embeddings - centroids[code]
    return np.stack(codes, axis=1), distance


def _followed(rounds: Iterable[Online | Clustering], task: TaskID, progress: Progress) -> np.ndarray:
    for found in rounds:
        centroids = found.centroids
        progress.advance(task)
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
