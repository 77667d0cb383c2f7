"""k-means on a sample that fits into memory: k-means++ seeding, then Lloyd's steps among near centroids alone.

After the first step an embedding that changes its centroid goes to one nearby. So each step compares it with the
`CANDIDATES` centroids nearest to the one it has, not with all of them: with 20,000 centroids 300 times fewer. With no
more than `CANDIDATES` clusters this is Lloyd's algorithm.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from scipy import sparse

from courier_tf.clusters.nearest import nearest, with_half_norms, with_ones
from courier_tf.clusters.seeding import plus_plus

CANDIDATES = 64
SETTLED = 1e-4  # Share of embeddings that change their centroid at which nothing more is to be had.
Settle = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
LISTS_LAST = 5  # Steps after which each centroid's neighbours are looked up anew.


class KMeans(NamedTuple):
    """The state between two steps: all that the next one needs."""

    centroids: np.ndarray  # [K, D] float32
    nearest: np.ndarray  # [N] int32, of the sample.
    distance: np.ndarray  # [N] float32, squared.
    lists: np.ndarray  # [K, CANDIDATES] int32, the centroids near each one; of no length where all are looked at.
    step: int  # Steps done.
    settled: bool


def begin(
    sample: np.ndarray,
    clusters: int,
    rng: np.random.Generator,
    start: np.ndarray | None = None,
    settle: Settle | None = None,
) -> KMeans:
    """The state before the first step.

    Args:
        sample: [N, D] float32.
        clusters: number of centroids.
        rng: of k-means++.
        start: [clusters, D] centroids to start from in place of k-means++.
        settle: as in `lloyd`.

    Raises:
        ClusterError: fewer different embeddings than clusters.
    """
    if start is None:
        start, assignment, distance = plus_plus(sample, clusters, rng)
    else:
        assignment, distance = nearest(sample, start)
    if settle:
        assignment, distance = settle(start, assignment)
    return KMeans(start, assignment, distance, np.empty([clusters, 0], np.int32), 0, False)


def lloyd(sample: np.ndarray, state: KMeans, steps: int, settle: Settle | None = None) -> Iterator[KMeans]:
    """Yields the state after each further step (the caller shows progress, and keeps the last).

    Of equally near centroids an embedding goes to the first. One that lost all its embeddings is put on the embedding
    that is worst served before the next step; after the last step a few may be empty.

    Args:
        sample: [N, D] float32.
        state: to go on from.
        steps: at most, those before `state` among them; fewer where next to nothing moves any more.
        settle: ([K, D] centroids, [N] the nearest of each embedding) to ([N] centroid, [N] squared distance), for a
            caller with more to heed than what is nearest.
    """
    clusters = len(state.centroids)
    while state.step < steps and not state.settled:
        given = _without_empty(state)
        centroids, lists = _means(sample, given, state.centroids), state.lists
        if clusters <= CANDIDATES:
            assignment, distance = nearest(sample, centroids)
        else:
            lists = _neighbours(centroids) if state.step % LISTS_LAST == 0 else lists
            assignment, distance = _nearest_of_lists(sample, centroids, given, lists)
        if settle:
            assignment, distance = settle(centroids, assignment)
        moved = np.count_nonzero(assignment != state.nearest)
        state = KMeans(centroids, assignment, distance, lists, state.step + 1, bool(moved <= SETTLED * len(sample)))
        yield state


def _without_empty(state: KMeans) -> np.ndarray:
    """[N] the assignment, in which each empty cluster takes the worst served embedding out of another."""
    assignment = state.nearest.copy()
    empty = np.flatnonzero(np.bincount(assignment, minlength=len(state.centroids)) == 0)
    assignment[np.argsort(-state.distance, kind="stable")[: len(empty)]] = empty
    return assignment


def _means(sample: np.ndarray, assignment: np.ndarray, previous: np.ndarray) -> np.ndarray:
    """[K, D] the mean of each cluster; one whose only embedding went to an empty one stays as it was in `previous`."""
    ones, rows = np.ones(len(sample), np.float32), np.arange(len(sample))
    sums = sparse.csr_matrix((ones, (assignment, rows)), shape=(len(previous), len(sample))) @ sample
    sizes = np.bincount(assignment, minlength=len(previous))[:, None]
    return np.where(sizes > 0, sums / np.maximum(sizes, 1), previous).astype(np.float32)


def _neighbours(centroids: np.ndarray) -> np.ndarray:
    """[K, CANDIDATES] int: the centroids nearest to each one, in order of their numbers."""
    wide = with_half_norms(centroids)
    lists = np.empty([len(centroids), CANDIDATES], np.int32)
    rows = max(1, 2**22 // len(centroids))
    for start in range(0, len(centroids), rows):
        score = with_ones(centroids[start : start + rows]) @ wide
        lists[start : start + rows] = np.argpartition(-score, CANDIDATES - 1, axis=1)[:, :CANDIDATES]
    return np.sort(lists, axis=1)


def _nearest_of_lists(
    sample: np.ndarray, centroids: np.ndarray, previous: np.ndarray, lists: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """`nearest` among the neighbours of the centroid that each embedding has had."""
    order = np.argsort(previous, kind="stable")
    borders = np.searchsorted(previous[order], np.arange(len(centroids) + 1))
    wide = with_half_norms(centroids).T
    assignment, distance = np.empty(len(sample), np.int32), np.empty(len(sample), np.float32)
    for cluster, (start, end) in enumerate(zip(borders[:-1], borders[1:], strict=True)):
        if start == end:
            continue
        rows, candidates = order[start:end], lists[cluster]
        members = sample[rows]
        score = members @ wide[candidates, :-1].T + wide[candidates, -1]
        assignment[rows] = candidates[score.argmax(axis=1)]
        difference = members - centroids[assignment[rows]]
        distance[rows] = np.einsum("nd,nd->n", difference, difference)
    return assignment, distance
