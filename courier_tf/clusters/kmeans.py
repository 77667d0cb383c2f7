"""k-means on a sample in memory: k-means|| seeding, then Lloyd's steps among near centroids.

After the first step an embedding that changes its centroid goes to one nearby. So each step compares it with the
`CANDIDATES` centroids nearest to its own, not with all of them: 300 times fewer with 20,000 centroids. Up to
`CANDIDATES` clusters this is Lloyd's algorithm.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from scipy import sparse

from courier_tf.clusters.nearest import nearest, with_half_norms, with_ones
from courier_tf.clusters.seeding import plus_plus

CANDIDATES = 64
SETTLED = 1e-4  # Learning ends when no larger share of the embeddings changes its centroid.
Settle = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
LISTS_LAST = 5  # Steps after which each centroid's neighbours are looked up anew.


class KMeans(NamedTuple):
    """The state between two steps: all that the next one needs."""

    centroids: np.ndarray  # [K, D] float32
    nearest: np.ndarray  # [N] int32, of the sample.
    distance: np.ndarray  # [N] float32, squared.
    lists: np.ndarray  # [K, CANDIDATES] int32, the centroids near each one; [K, 0] where all are candidates.
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

    >>> sample = np.array([[0.0], [1.0], [10.0], [11.0]], np.float32)
    >>> state = begin(sample, clusters=2, rng=np.random.default_rng(0))
    >>> for state in lloyd(sample, state, steps=5):
    ...     pass
    >>> sorted(state.centroids.ravel().tolist())
    [0.5, 10.5]

    Args:
        sample: [N, D] float32.
        clusters: number of centroids.
        rng: decides the draws of the seeding.
        start: [clusters, D] centroids to start from, instead of the seeding.
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
    """Yields the state after each further step.

    Of equally near centroids an embedding takes the first. Before the next step, a centroid without embeddings moves to
    the embedding that is farthest from its own centroid. After the last step a few clusters may be empty.

    Args:
        sample: [N, D] float32.
        state: to go on from.
        steps: the most steps, with those before `state`. It ends earlier where next to nothing moves.
        settle: a function that changes the assignment, from ([K, D] centroids, [N] nearest centroid) to ([N] centroid,
            [N] squared distance).
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
    """The assignment [N] after each empty cluster has taken a farthest embedding from another cluster."""
    assignment = state.nearest.copy()
    empty = np.flatnonzero(np.bincount(assignment, minlength=len(state.centroids)) == 0)
    assignment[np.argsort(-state.distance, kind="stable")[: len(empty)]] = empty
    return assignment


def _means(sample: np.ndarray, assignment: np.ndarray, previous: np.ndarray) -> np.ndarray:
    """The mean of each cluster, [K, D]. A cluster that lost its only embedding keeps its centroid of `previous`."""
    ones, rows = np.ones(len(sample), np.float32), np.arange(len(sample))
    sums = sparse.csr_matrix((ones, (assignment, rows)), shape=(len(previous), len(sample))) @ sample
    sizes = np.bincount(assignment, minlength=len(previous))[:, None]
    return np.where(sizes > 0, sums / np.maximum(sizes, 1), previous).astype(np.float32)


def _neighbours(centroids: np.ndarray) -> np.ndarray:
    """The centroids nearest to each centroid, in order of their numbers: [K, CANDIDATES] int."""
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
    """`nearest` among the neighbours of each embedding's previous centroid."""
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
