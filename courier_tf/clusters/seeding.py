"""Where k-means starts: k-means++ (Arthur and Vassilvitskii 2007), many centroids at a time."""

from typing import NamedTuple

import numpy as np

from courier_tf.clusters.nearest import nearest

ROUNDS = 32  # Rounds in which more centroids than these are drawn, with one matrix product each.


class ClusterError(ValueError):
    """The embeddings cannot be clustered as asked."""


class Seeds(NamedTuple):
    """Centroids, and the assignment of the embeddings they were chosen from."""

    centroids: np.ndarray  # [K, D] float32
    nearest: np.ndarray  # [N] int32
    distance: np.ndarray  # [N] float32, squared


def plus_plus(sample: np.ndarray, clusters: int, rng: np.random.Generator) -> Seeds:
    """k-means++ seeding: draws each next centroid far from those before.

    Up to `ROUNDS` clusters this is the published algorithm in its greedy form: it draws a few embeddings and takes the
    one that reduces the distances of the others most. Above, each round draws `clusters / ROUNDS` embeddings at once
    with the same probabilities, as k-means|| does (Bahmani et al., VLDB 2012).

    Args:
        sample: [N, D] float32.
        clusters: number of centroids.
        rng: decides the draws.

    Returns:
        Different rows of the sample as centroids, and the sample's assignment to them.

    Raises:
        ClusterError: fewer different rows than clusters.
    """
    at_once = -(-clusters // ROUNDS)
    chosen = [int(rng.integers(len(sample)))]
    assignment = np.zeros(len(sample), np.int32)
    distance = np.full(len(sample), np.inf, np.float32)
    _take(sample, chosen, 0, assignment, distance)
    while len(chosen) < clusters:
        if not distance.any():
            raise ClusterError(f"clusters={clusters}, but there are only {len(chosen)} different embeddings")
        if at_once == 1:
            rows = _best(sample, _draw(distance, 2 + int(np.log(clusters)), rng), distance)
        else:
            rows = _draw(distance, min(at_once, clusters - len(chosen)), rng)
        # Of two equal rows the second would be an empty cluster.
        _, first = np.unique(sample[rows], axis=0, return_index=True)
        before, rows = len(chosen), rows[np.sort(first)]
        chosen += rows.tolist()
        _take(sample, rows, before, assignment, distance)
    return Seeds(sample[chosen].astype(np.float32), assignment, distance)


def _draw(distance: np.ndarray, number: int, rng: np.random.Generator) -> np.ndarray:
    """Draws different rows with probabilities proportional to `distance`."""
    weights = np.cumsum(distance, dtype=np.float64)
    rows = np.searchsorted(weights, rng.random(number) * weights[-1], side="right")
    return np.unique(np.minimum(rows, np.flatnonzero(distance)[-1]))


def _best(sample: np.ndarray, rows: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """The one of `rows` that makes the sum of all distances smallest, [1]."""
    left = [np.minimum(distance, ((sample - sample[row]) ** 2).sum(axis=1)).sum() for row in rows]
    return rows[[int(np.argmin(left))]]


def _take(sample: np.ndarray, rows: list[int], before: int, assignment: np.ndarray, distance: np.ndarray) -> None:
    """Updates the assignment with new centroids, numbered from `before` on."""
    new, apart = nearest(sample, sample[rows])
    nearer = apart < distance
    assignment[nearer], distance[nearer] = new[nearer] + before, apart[nearer]
    distance[rows] = 0.0
