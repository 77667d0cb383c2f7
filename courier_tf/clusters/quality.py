"""Figures of a clustering's quality, as functions of arrays, for the report of the cluster stage."""

import numpy as np
from sklearn.metrics import normalized_mutual_info_score

NEIGHBOURS = 10


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


def neighbours_kept(embeddings: np.ndarray, cluster: np.ndarray, queries: int, rng: np.random.Generator) -> float:
    """Share of the exact nearest neighbours that lie in the cluster of their query.

    Args:
        embeddings: [N, D], more than `NEIGHBOURS`.
        cluster: [N] int.
        queries: number of items whose neighbours are looked up.
        rng: draws these items.
    """
    chosen = rng.permutation(len(embeddings))[:queries]
    half_norms = 0.5 * np.einsum("nd,nd->n", embeddings, embeddings)
    score = embeddings[chosen] @ embeddings.T - half_norms
    score[np.arange(len(chosen)), chosen] = -np.inf  # An item is no neighbour of itself.
    nearest = np.argpartition(-score, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
    return float((cluster[nearest] == cluster[chosen][:, None]).mean())


def collisions(codes: np.ndarray) -> float:
    """Share of the items that have all their codes in common with another item; codes [N, L] int."""
    _, place, count = np.unique(codes, axis=0, return_inverse=True, return_counts=True)
    return float((count[place.reshape(-1)] > 1).mean())
