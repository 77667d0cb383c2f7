"""Embeddings to a codebook, by the algorithm of the settings. A codebook is [levels, clusters, D]; most have one level.

With several levels each embedding gets a code per level, coarse to fine: the first names the nearest centroid, each
next one the centroid nearest to what is left over (residual quantisation, as semantic IDs have it: arXiv 2305.05065).
"""

import itertools
from collections.abc import Iterator
from typing import Literal

import numpy as np
from rich.progress import Progress

from courier_tf.clusters.comparison import LARGEST_SAMPLE, agglomerative, hdbscan
from courier_tf.clusters.kmeans import kmeans
from courier_tf.clusters.nearest import nearest
from courier_tf.clusters.online import SEEN_AT_START, Online, single_pass, start
from courier_tf.clusters.scann_nearest import FEWEST_CENTROIDS, ScannNearest
from courier_tf.clusters.seeding import ClusterError, Clustering
from courier_tf.settings import ClusterSettings

SAMPLE_PER_CLUSTER = 256  # Embeddings that k-means learns from, for each centroid: more change next to nothing.


def learn(embeddings: np.ndarray, settings: ClusterSettings, rng: np.random.Generator) -> np.ndarray:
    """The codebook [L, K, D] float32 of embeddings [N, D].

    Args:
        embeddings: checked by `seeding.check`.
        settings: algorithm, clusters and so on.
        rng: of order and seeding.

    Raises:
        ClusterError: fewer different embeddings (or, on a further level, residuals) than clusters.
    """
    left = embeddings[rng.permutation(len(embeddings))]
    levels = []
    with Progress() as progress:
        for level in range(settings.levels):
            name = settings.algorithm + (f", level {level + 1} of {settings.levels}" if settings.levels > 1 else "")
            centroids = _one_level(left, settings, rng, progress, name)
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
    codes = []
    for centroids in codebook:
        code, distance = ScannNearest(centroids)(embeddings) if search == "scann" else nearest(embeddings, centroids)
        codes.append(code)
        if len(codes) < len(codebook):
            embeddings = embeddings - centroids[code]
    return np.stack(codes, axis=1), distance


def _one_level(
    embeddings: np.ndarray, settings: ClusterSettings, rng: np.random.Generator, progress: Progress, name: str
) -> np.ndarray:
    match settings.algorithm:
        case "agglomerative":
            return agglomerative(embeddings[:LARGEST_SAMPLE], settings.clusters)
        case "hdbscan":
            return hdbscan(embeddings[:LARGEST_SAMPLE])
        case "online":
            rounds, total = _online(embeddings, settings, rng)
        case "kmeans" | "residual":
            sample = embeddings[: settings.clusters * SAMPLE_PER_CLUSTER]
            rounds, total = kmeans(sample, settings.clusters, rng, settings.cluster_steps), settings.cluster_steps + 1
    task = progress.add_task(name, total=total)
    for found in rounds:
        centroids = found.centroids
        progress.advance(task)
    progress.update(task, completed=total)  # k-means may end early.
    return centroids


def _online(
    embeddings: np.ndarray, settings: ClusterSettings, rng: np.random.Generator
) -> tuple[Iterator[Online | Clustering], int]:
    first = settings.clusters * SEEN_AT_START
    state = start(embeddings[:first], settings.clusters, rng)
    borders = range(first, len(embeddings), settings.cluster_batch_size)
    blocks = (embeddings[border : border + settings.cluster_batch_size] for border in borders)
    return itertools.chain([state], single_pass(state, blocks)), len(borders) + 1
