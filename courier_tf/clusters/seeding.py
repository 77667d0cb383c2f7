"""Where k-means starts: k-means|| (Bahmani et al., VLDB 2012), whose candidates greedy k-means++ narrows down.

k-means|| draws far more candidates than centroids, in a few rounds, each far from those before. Each candidate has the
weight of the rows that it is nearest to. Greedy k-means++ (Arthur and Vassilvitskii 2007), with these weights, chooses
the centroids among them. Where there are few rows, all of them are candidates.
"""

from typing import NamedTuple

import numpy as np

from courier_tf.clusters.nearest import nearest

ROUNDS = 5  # Rounds of k-means||; the paper finds that more change next to nothing.
FEWEST_AT_ONCE = 200  # Candidates of a round: as many as centroids, or these where the centroids are fewer.
FEW_ROWS = 4096  # Up to so many rows, all of them are candidates.
ROWS_PER_CENTROID, FEWEST_ROWS = 32, 16_384  # Rows that are looked at: more of them find no better candidates.
TRIALS = 4  # Of greedy k-means++, as a multiple of the 2 + log K of its authors.


class ClusterError(ValueError):
    """The embeddings cannot be clustered as asked."""


class Seeds(NamedTuple):
    """Centroids, and the assignment of the embeddings they were chosen from."""

    centroids: np.ndarray  # [K, D] float32
    nearest: np.ndarray  # [N] int32
    distance: np.ndarray  # [N] float32, squared


def plus_plus(sample: np.ndarray, clusters: int, rng: np.random.Generator) -> Seeds:
    """Chooses rows of a sample as centroids, each far from the others and near to many rows.

    >>> sample = np.float32([[0, 0], [0, 1], [8, 0], [8, 1]])
    >>> seeds = plus_plus(sample, 2, np.random.default_rng(0))
    >>> sorted(seeds.centroids[:, 0].tolist()), float(seeds.distance.sum())
    ([0.0, 8.0], 2.0)

    Args:
        sample: [N, D] float32.
        clusters: number of centroids, K.
        rng: decides the draws.

    Returns:
        Different rows of the sample as centroids, and the sample's assignment to them.

    Raises:
        ClusterError: fewer different rows than clusters.
    """
    looked_at = max(ROWS_PER_CENTROID * clusters, FEWEST_ROWS)
    rows = np.arange(len(sample))
    if len(sample) > looked_at:
        rows = np.sort(rng.choice(len(sample), looked_at, replace=False))
    at_once = max(clusters, FEWEST_AT_ONCE)
    if len(rows) > max(FEW_ROWS, ROUNDS * at_once):
        rows, weights = over_sampled(sample, rows, at_once, rng)
    else:
        weights = np.ones(len(rows))
    # Equal rows are one candidate, as the second of them would be an empty cluster.
    candidates, first, place = np.unique(sample[rows], axis=0, return_index=True, return_inverse=True)
    chosen = rows[first[greedy(candidates, np.bincount(place.reshape(-1), weights), clusters, rng)]]
    return _filled(sample, chosen, clusters, rng)


def over_sampled(
    sample: np.ndarray, rows: np.ndarray, at_once: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """The candidates of k-means||: in each round, about `at_once` rows with probabilities by their squared distances.

    Args:
        sample: [N, D] float32.
        rows: [M] int, the rows of the sample that are looked at.
        at_once: expected number of candidates of a round.
        rng: decides the draws.

    Returns:
        ([C] int rows of the sample, [C] number of the rows looked at that are nearest to each).
    """
    looked_at = sample[rows]
    candidates = rng.integers(len(rows), size=1)
    assignment, distance = nearest(looked_at, looked_at[candidates])
    for _ in range(ROUNDS):
        total = distance.sum(dtype=np.float64)
        if not total:
            break
        further = np.flatnonzero(rng.random(len(rows)) * total < at_once * distance)
        if len(further):
            new, apart = nearest(looked_at, looked_at[further])
            nearer = apart < distance
            assignment[nearer], distance[nearer] = new[nearer] + len(candidates), apart[nearer]
            candidates = np.concatenate([candidates, further])
    weights = np.bincount(assignment, minlength=len(candidates))
    return rows[candidates[weights > 0]], weights[weights > 0]


def greedy(points: np.ndarray, weights: np.ndarray, clusters: int, rng: np.random.Generator) -> np.ndarray:
    """Greedy k-means++: of a few rows drawn, takes the one that makes the sum of all squared distances smallest.

    Args:
        points: [C, D] float32, different rows.
        weights: [C] above zero.
        clusters: the most rows to choose.
        rng: decides the draws.

    Returns:
        The rows, in the order in which they were chosen: [clusters] int, fewer where none is left that is apart.
    """
    centred = points - points.mean(axis=0)  # Products of what lies around zero are the most exact.
    norms = np.einsum("cd,cd->c", centred, centred)
    weights = weights.astype(np.float32)
    trials = TRIALS * (2 + int(np.log(clusters)))
    distance = np.full(len(points), np.inf, np.float32)
    rows = _draw(weights, 1, rng)
    chosen: list[int] = []
    while True:
        apart = centred @ (-2 * centred[rows].T)
        apart += norms[:, None] + norms[rows]
        np.clip(apart, 0, distance[:, None], out=apart)
        best = int(np.argmin(weights @ apart))
        chosen.append(int(rows[best]))
        distance = apart[:, best].copy()
        distance[chosen[-1]] = 0
        if len(chosen) == clusters or not distance.any():
            return np.array(chosen)
        rows = _draw(weights * distance, trials, rng)


def _filled(sample: np.ndarray, chosen: np.ndarray, clusters: int, rng: np.random.Generator) -> Seeds:
    """The seeds of the chosen rows, with further ones of the whole sample where they are too few."""
    assignment, distance = nearest(sample, sample[chosen])
    while True:
        assignment[chosen], distance[chosen] = np.arange(len(chosen)), 0
        if len(chosen) == clusters:
            return Seeds(sample[chosen].astype(np.float32), assignment, distance)
        if not distance.any():
            raise ClusterError(f"clusters={clusters}, but there are only {len(chosen)} different embeddings")
        rows = _draw(distance, clusters - len(chosen), rng)
        _, first = np.unique(sample[rows], axis=0, return_index=True)
        rows = rows[np.sort(first)]
        new, apart = nearest(sample, sample[rows])
        nearer = apart < distance
        assignment[nearer], distance[nearer] = new[nearer] + len(chosen), apart[nearer]
        chosen = np.concatenate([chosen, rows])


def _draw(weights: np.ndarray, number: int, rng: np.random.Generator) -> np.ndarray:
    """Draws rows with probabilities proportional to `weights`, each once; at most `number`."""
    sums = np.cumsum(weights, dtype=np.float64)
    rows = np.searchsorted(sums, rng.random(number) * sums[-1], side="right")
    return np.unique(np.minimum(rows, np.flatnonzero(weights)[-1]))
