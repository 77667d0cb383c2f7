"""How far two distributions are apart: the population stability index and the distance of Kolmogorov and Smirnov."""

import numpy as np

BINS = 10  # Deciles of the distribution that is expected, as usual in credit scoring.


def bin_borders(expected: np.ndarray, bins: int = BINS) -> np.ndarray:
    """The inner borders of bins that hold equal shares of [n] values; fewer where many values are equal."""
    borders: np.ndarray = np.unique(np.quantile(expected, np.linspace(0, 1, bins + 1)[1:-1]))
    return borders


def bin_counts(values: np.ndarray, borders: np.ndarray) -> np.ndarray:
    """[n, B] how many of the values of each of n requests lie in each bin; `values` is [n, V]."""
    place = np.searchsorted(borders, values, side="left")
    bins = len(borders) + 1
    rows = np.arange(len(values))[:, None]
    return np.bincount((rows * bins + place).ravel(), minlength=len(values) * bins).reshape(-1, bins)


def stability_index(expected: np.ndarray, actual: np.ndarray) -> float:
    """The population stability index of counts in bins (Siddiqi, Credit Risk Scorecards, 2006; a Jeffreys divergence).

    By the usual rule of thumb, 0.1 is little and 0.25 is much. Each count is raised by a half, as an empty bin would be
    infinitely far.

    Args:
        expected, actual: [B] counts.

    >>> round(stability_index(np.array([500, 500]), np.array([700, 300])), 2)
    0.17
    """
    p, q = ((count + 0.5) / (count + 0.5).sum() for count in (actual, expected))
    return float(((p - q) * np.log(p / q)).sum())


def stability_influence(expected: np.ndarray, actual: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The derivatives of the stability index by the shares of the bins: ([B] of expected, [B] of actual)."""
    p, q = ((count + 0.5) / (count + 0.5).sum() for count in (actual, expected))
    ratio = np.log(p / q)
    return -ratio + 1 - p / q, ratio + 1 - q / p


def largest_distance(expected: np.ndarray, actual: np.ndarray) -> float:
    """The largest distance of two empirical distribution functions (Kolmogorov and Smirnov), 0 to 1.

    >>> largest_distance(np.array([1.0, 2.0]), np.array([2.0, 3.0]))
    0.5
    """
    values = np.concatenate([expected, actual])
    below = [np.searchsorted(np.sort(side), values, side="right") / len(side) for side in (expected, actual)]
    return float(np.abs(below[0] - below[1]).max())
