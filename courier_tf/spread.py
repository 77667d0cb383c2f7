"""How far embeddings are spread over the unit sphere."""

import numpy as np


def uniformity(embeddings: np.ndarray) -> float:
    """Logarithm of the mean of exp(-2 d^2) over all pairs of different rows (arXiv 2005.10242).

    Args:
        embeddings: [N, D] unit vectors, N at least 2. Dead embeddings, which are zero, are the same.

    Returns:
        0 where all rows are the same; -4 or less where they are spread over the whole sphere.

    >>> round(uniformity(np.array([[1.0, 0.0], [-1.0, 0.0]])), 6)
    -8.0
    """
    number = len(embeddings)
    squares = np.square(embeddings).sum(axis=1)
    kernel = np.exp(4 * (embeddings @ embeddings.T) - 2 * (squares[:, None] + squares))  # d^2 = a^2 - 2 a b + b^2.
    return float(np.log((kernel.sum() - np.trace(kernel)) / (number * (number - 1))))


def effective_rank(embeddings: np.ndarray) -> float:
    """Exponential of the entropy of the singular values (Roy and Vetterli, EUSIPCO 2007): 1 to D.

    NaN where an embedding is not finite, as after a training that diverged; 0 where all are zero.

    >>> round(effective_rank(np.eye(3)), 6)
    3.0
    """
    if not np.isfinite(embeddings).all():
        return float("nan")
    values = np.linalg.svd(embeddings, compute_uv=False)
    values = values[values > 0]
    if not len(values):
        return 0.0
    share = values / values.sum()
    return float(np.exp(-(share * np.log(share)).sum()))
