"""Sequential k-means (MacQueen 1967), block by block: every embedding is looked at once.

k-means on the first embeddings of the stream gives the start. From then on each block moves its nearest centroids
towards its mean. They move the less, the more embeddings they have seen, so that a centroid is the mean of all that
chose it. Only the first embeddings, the centroids and their counts are held. So the memory does not depend on the
length of the stream.

The paper of COURIER clusters in a single pass, too, but with the algorithm of Yi et al. (ICML 2014), which this is not.
Theirs recovers *sparse* centres: those with few coordinates other than zero, in a space that may have more dimensions
than there are samples. Embeddings meet neither condition. All coordinates of a centroid are in use, and a shop has many
more items than an embedding has dimensions. So the assumption of that algorithm would cost accuracy, and buy nothing.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from courier_tf.clusters.kmeans import Settle, begin, lloyd
from courier_tf.clusters.nearest import nearest

SEEN_AT_START = 64  # Embeddings per centroid from which the start is learned.
START_STEPS = 5  # Steps of k-means at the start.
DEAD_AFTER = 40  # Embeddings per centroid after which a centroid that none of them chose is dead.


class Online(NamedTuple):
    """Centroids, and the number of embeddings that have moved each."""

    centroids: np.ndarray  # [K, D] float32
    counts: np.ndarray  # [K] float64
    idle: np.ndarray  # [K] int: embeddings of the stream since it was last chosen.
    seen: int  # Embeddings of the stream.


def start(
    sample: np.ndarray,
    clusters: int,
    rng: np.random.Generator,
    centroids: np.ndarray | None = None,
    settle: Settle | None = None,
) -> Online:
    """The state before the rest of the stream: a few steps of k-means on its first embeddings.

    Args:
        sample: [N, D] float32.
        clusters: number of centroids.
        rng: decides the draws of the seeding.
        centroids: [clusters, D] to start from, instead of the seeding.
        settle: as in `lloyd`.
    """
    state = begin(sample, clusters, rng, centroids, settle)
    for further in lloyd(sample, state, START_STEPS, settle):
        state = further
    counts = np.bincount(state.nearest, minlength=clusters).astype(np.float64)
    return Online(state.centroids, np.maximum(counts, 1), np.zeros(clusters, int), len(sample))


def single_pass(state: Online, blocks: Iterable[np.ndarray]) -> Iterator[Online]:
    """Yields the state after each block [B, D] of the stream.

    A centroid is dead when `DEAD_AFTER` times as many embeddings as there are centroids have gone to others. It then
    moves to the embedding of the block that is farthest from its centroid.
    """
    clusters = len(state.centroids)
    for block in blocks:
        assignment, distance = nearest(block, state.centroids)
        given = np.bincount(assignment, minlength=clusters)
        moved = np.flatnonzero(given)
        centroids, counts = state.centroids.copy(), state.counts + given
        sums = np.zeros_like(centroids)
        np.add.at(sums, assignment, block)
        rate = (given[moved] / counts[moved])[:, None].astype(np.float32)
        centroids[moved] += rate * (sums[moved] / given[moved, None] - centroids[moved])
        idle = np.where(given > 0, 0, state.idle + len(block))
        dead = np.flatnonzero(idle > DEAD_AFTER * clusters)[: len(block)]
        if len(dead):
            worst = np.argsort(-distance, kind="stable")[: len(dead)]
            centroids[dead], counts[dead], idle[dead] = block[worst], 1, 0
        state = Online(centroids, counts, idle, state.seen + len(block))
        yield state
