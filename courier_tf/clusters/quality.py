"""Figures of a clustering's quality, as functions of arrays, for the report of the cluster stage."""

import numpy as np
from sklearn.metrics import normalized_mutual_info_score

from courier_tf.clusters.nearest import nearest
from courier_tf.spread import effective_rank

NEIGHBOURS = 10
RANK_ITEMS = 10_000  # The first embeddings, over which the effective rank is measured.


def use(sizes: np.ndarray) -> dict[str, float]:
    """How evenly items are spread over the clusters.

    Args:
        sizes: [K] items of each cluster, zeros among them.

    Returns:
        "utilisation": share of clusters that hold an item; "entropy" in nats, and its exponential, "perplexity";
        "gini": 0 where all clusters are equally large, near 1 where one holds everything; "largest": the share of the
        items in the largest cluster.

    >>> use(np.array([5, 5, 0, 0]))["utilisation"], round(use(np.array([5, 5]))["perplexity"], 6)
    (0.5, 2.0)
    """
    share = sizes / sizes.sum()
    present = share[share > 0]
    entropy = float(-(present * np.log(present)).sum())
    ranks, clusters = np.arange(1, len(sizes) + 1), len(sizes)
    gini = float((2 * ranks - clusters - 1) @ np.sort(share) / clusters)
    return {
        "utilisation": float((sizes > 0).mean()),
        "entropy": entropy,
        "perplexity": float(np.exp(entropy)),
        "gini": gini,
        "largest": float(share.max()),
    }


def agreement(cluster: np.ndarray, label: np.ndarray) -> dict[str, float]:
    """How well clusters agree with labels.

    Returns:
        "purity": share of items whose label is the most frequent of their cluster; "nmi": normalised mutual
        information.
    """
    _, label = np.unique(label, return_inverse=True)
    _, cluster = np.unique(cluster, return_inverse=True)
    # Only pairs that occur: a table of all would be as large as the product of both numbers.
    pairs, counts = np.unique(np.stack([cluster, label]), axis=1, return_counts=True)
    most = np.zeros(cluster.max() + 1, int)
    np.maximum.at(most, pairs[0], counts)
    return {
        "purity": float(most.sum() / len(label)),
        "nmi": float(normalized_mutual_info_score(label, cluster)),
    }


def neighbours_of(embeddings: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """The exact nearest neighbours of some items, by Euclidean distance. An item is no neighbour of itself.

    Args:
        embeddings: [N, D], more than `NEIGHBOURS`.
        queries: [Q] int, rows of `embeddings`.

    Returns:
        [Q, NEIGHBOURS] int, rows of `embeddings`, in no order.
    """
    half_norms = 0.5 * np.einsum("nd,nd->n", embeddings, embeddings)
    score = embeddings[queries] @ embeddings.T - half_norms
    score[np.arange(len(queries)), queries] = -np.inf
    return np.argpartition(-score, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]


def neighbours_kept(cluster: np.ndarray, queries: np.ndarray, neighbours: np.ndarray) -> float:
    """Share of the nearest neighbours that lie in the cluster of their query.

    Args:
        cluster: [N] int.
        queries, neighbours: as in `neighbours_of`.
    """
    return float((cluster[neighbours] == cluster[queries][:, None]).mean())


def collapse(embeddings: np.ndarray, queries: np.ndarray, neighbours: np.ndarray) -> dict[str, float]:
    """How near the embeddings are to a collapse, in which all photos have the same embedding.

    Args:
        embeddings: [N, D], no row of zeros.
        queries, neighbours: as in `neighbours_of`.

    Returns:
        "effective_rank": of the embeddings at length 1 (`courier_tf.spread`), 1 to D; "neighbours_cosine": mean cosine
        of an item and its nearest neighbours; "pairs_cosine": mean cosine of two different items. Neighbours are near
        1 also where photos are near duplicates. After a collapse the pairs are, too.
    """
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    number, total = len(unit), unit.sum(axis=0, dtype=np.float64)
    return {
        "effective_rank": effective_rank(unit[:RANK_ITEMS]),
        "neighbours_cosine": float(np.einsum("qd,qnd->qn", unit[queries], unit[neighbours]).mean(dtype=np.float64)),
        # The sum over all pairs, without those of an item with itself.
        "pairs_cosine": float((total @ total - number) / (number * (number - 1))),
    }


def search_missed(embeddings: np.ndarray, assignment: np.ndarray, centroids: np.ndarray) -> float:
    """Share of the embeddings for which a search has missed the nearest centroid. It is 0 for exact search.

    Args:
        embeddings: [N, D] float32.
        assignment: [N] int, the centroid that the search found.
        centroids: [K, D] float32.
    """
    distance = np.square(embeddings - centroids[assignment]).sum(axis=1)
    # A centroid that is as near as the nearest, up to rounding, is as good.
    return float((distance > nearest(embeddings, centroids)[1] * (1 + 1e-5) + 1e-6).mean())


def collisions(codes: np.ndarray) -> float:
    """Share of the items that have all their codes in common with another item; codes [N, L] int."""
    _, place, count = np.unique(codes, axis=0, return_inverse=True, return_counts=True)
    return float((count[place.reshape(-1)] > 1).mean())
