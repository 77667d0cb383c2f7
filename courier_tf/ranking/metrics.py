"""The ranking metrics: exact, offline, with one definition each. A metric that is not defined is None, never NaN."""

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict, cast

import numpy as np
from sklearn.metrics import log_loss, roc_auc_score

Metrics = TypedDict(
    "Metrics",
    {
        "auc": float | None,
        "gauc": float | None,
        "ndcg@10": float | None,
        "logloss": float | None,
        "normalised_entropy": float | None,
        "calibration": float | None,
        "calibration_error": float | None,
        "impressions": int,
        "positives": int,
        "gauc_skipped_share": float | None,
    },
)
"""All metrics of a set of impressions, and how many these are."""


class SlicedMetrics(Metrics):
    """The metrics of all impressions, and those of each slice."""

    slices: dict[str, Metrics]


def auc(clicked: np.ndarray, score: np.ndarray) -> float | None:
    """Area under the ROC curve; None where all impressions have one class.

    >>> auc(np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.35, 0.8]))
    0.75
    """
    return float(roc_auc_score(clicked, score)) if 0 < clicked.sum() < len(clicked) else None


def auc_per_user(users: np.ndarray, clicked: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The AUC within each of the U different users, in their sorted order.

    Args:
        users: [N] any sortable ids.
        clicked: [N] 0 or 1.
        score: [N] floats.

    Returns:
        ([U] AUC, NaN for a user whose impressions all have one class; [U] number of impressions).
    """
    _, user = np.unique(users, return_inverse=True)
    order = np.lexsort((score, user))
    user, label, value = user[order], clicked[order].astype(float), score[order]
    # Ranks within a user, equal scores sharing the mean of their ranks.
    new_tie = np.r_[True, (user[1:] != user[:-1]) | (value[1:] != value[:-1])]
    tie = np.cumsum(new_tie) - 1
    position = np.arange(len(user), dtype=float)
    rank = (np.bincount(tie, position) / np.bincount(tie))[tie]
    size = np.bincount(user).astype(float)
    start = np.cumsum(size) - size
    positives = np.bincount(user, label)
    pairs = positives * (size - positives)
    above = np.bincount(user, label * (rank - start[user] + 1)) - positives * (positives + 1) / 2
    return np.divide(above, pairs, out=np.full(len(size), np.nan), where=pairs > 0), size


def gauc(users: np.ndarray, clicked: np.ndarray, score: np.ndarray) -> tuple[float | None, float | None]:
    """AUC per user, averaged with the user's impressions as weight.

    Args:
        users, clicked, score: as of `auc_per_user`.

    Returns:
        (GAUC over the users with both classes, share of impressions of the users left out).
    """
    if not len(users):
        return None, None
    per_user, size = auc_per_user(users, clicked, score)
    both = ~np.isnan(per_user)
    if not both.any():
        return None, 1.0
    return float(np.average(per_user[both], weights=size[both])), float(1 - size[both].sum() / size.sum())


def ndcg(page_views: np.ndarray, clicked: np.ndarray, score: np.ndarray, depth: int = 10) -> float | None:
    """NDCG at `depth`, averaged over the page views with a click.

    Among equal scores the unclicked item stands first: a constant score gains nothing from the order of the log.
    """
    if not clicked.any():
        return None
    _, view = np.unique(page_views, return_inverse=True)
    order = np.lexsort((clicked, -score, view))
    view, label = view[order], clicked[order].astype(float)
    size = np.bincount(view)
    place = np.arange(len(view)) - (np.cumsum(size) - size)[view]
    discount = np.where(place < depth, 1 / np.log2(place + 2), 0.0)
    gain = np.bincount(view, label * discount)
    positives = np.bincount(view, label).astype(int)
    ideal = np.r_[0.0, np.cumsum(1 / np.log2(np.arange(2, depth + 2)))][np.minimum(positives, depth)]
    return float((gain[positives > 0] / ideal[positives > 0]).mean())


def logloss(clicked: np.ndarray, probability: np.ndarray) -> float | None:
    """Mean negative log likelihood, probabilities clipped to [1e-7, 1 - 1e-7]."""
    clipped = np.clip(probability.astype(float), 1e-7, 1 - 1e-7)
    return float(log_loss(clicked, clipped, labels=[0, 1])) if len(clicked) else None


def normalised_entropy(clicked: np.ndarray, probability: np.ndarray) -> float | None:
    """Log loss divided by that of a constant prediction, the share of clicks (He et al. 2014). Lower is better.

    A constant prediction has 1.
    """
    loss = logloss(clicked, probability)
    if loss is None or not 0 < clicked.sum() < len(clicked):
        return None
    share = clicked.mean()
    return loss / float(-share * np.log(share) - (1 - share) * np.log(1 - share))


def calibration(clicked: np.ndarray, probability: np.ndarray) -> float | None:
    """Number of predicted clicks divided by the number of clicks. 1 is right; more means too many predicted clicks."""
    return float(probability.astype(float).sum() / clicked.sum()) if clicked.any() else None


def calibration_error(clicked: np.ndarray, probability: np.ndarray, bins: int = 10) -> float | None:
    """Expected calibration error: |mean prediction - share of clicks| in bins, weighted by their impressions.

    The borders of the bins are quantiles, because click probabilities crowd near 0. Equal predictions share a bin.
    """
    if not len(clicked):
        return None
    value = probability.astype(float)
    borders = np.quantile(value, np.linspace(0, 1, bins + 1)[1:-1])
    excess = np.bincount(np.searchsorted(borders, value), value - clicked)
    return float(np.abs(excess).sum() / len(clicked))


def evaluate(users: np.ndarray, page_views: np.ndarray, clicked: np.ndarray, probability: np.ndarray) -> Metrics:
    """All metrics of a set of N impressions.

    Args:
        users, page_views: [N] any sortable ids.
        clicked: [N] 0 or 1.
        probability: [N] floats.
    """
    grouped, skipped = gauc(users, clicked, probability)
    return {
        "auc": auc(clicked, probability),
        "gauc": grouped,
        "ndcg@10": ndcg(page_views, clicked, probability),
        "logloss": logloss(clicked, probability),
        "normalised_entropy": normalised_entropy(clicked, probability),
        "calibration": calibration(clicked, probability),
        "calibration_error": calibration_error(clicked, probability),
        "impressions": len(clicked),
        "positives": int(clicked.sum()),
        "gauc_skipped_share": skipped,
    }


def evaluate_slices(
    users: np.ndarray,
    page_views: np.ndarray,
    clicked: np.ndarray,
    probability: np.ndarray,
    slices: Mapping[str, np.ndarray],
) -> SlicedMetrics:
    """All metrics of N impressions, and under "slices" those of each slice ([N] bool masks).

    Args:
        users, page_views, clicked, probability: those of `evaluate`.
        slices: name -> [N] bool.
    """
    parts = {
        name: evaluate(users[rows], page_views[rows], clicked[rows], probability[rows]) for name, rows in slices.items()
    }
    return {**evaluate(users, page_views, clicked, probability), "slices": parts}


def mean_of(results: Sequence[SlicedMetrics]) -> SlicedMetrics:
    """The mean of each metric over several predictions of the same impressions; None where one is not defined."""
    return cast(SlicedMetrics, _mean([dict(result) for result in results]))


def _mean(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    mean: dict[str, Any] = {}
    for name, value in results[0].items():
        values = [result[name] for result in results]
        if isinstance(value, dict):
            mean[name] = _mean(values)
        elif values.count(value) == len(values):  # Counts are the same for all, and stay integers.
            mean[name] = value
        else:
            mean[name] = None if None in values else float(np.mean(values))
    return mean
