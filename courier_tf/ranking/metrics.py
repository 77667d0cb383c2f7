"""The ranking metrics: exact, offline, one definition each. A metric that is not defined is None, never NaN."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from sklearn.metrics import log_loss, roc_auc_score


def auc(clicked: np.ndarray, score: np.ndarray) -> float | None:
    """Area under the ROC curve; None where only one class is there."""
    return float(roc_auc_score(clicked, score)) if 0 < clicked.sum() < len(clicked) else None


def gauc(users: np.ndarray, clicked: np.ndarray, score: np.ndarray) -> tuple[float | None, float | None]:
    """AUC per user, averaged with the user's impressions as weight.

    Args:
        users: [N] any sortable ids.
        clicked: [N] 0 or 1.
        score: [N] floats.

    Returns:
        (GAUC over the users with both classes, share of impressions of the users left out).
    """
    if not len(users):
        return None, None
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
    negatives = size - positives
    rank_sum = np.bincount(user, label * (rank - start[user] + 1))
    both = (positives > 0) & (negatives > 0)
    if not both.any():
        return None, 1.0
    per_user = (rank_sum - positives * (positives + 1) / 2)[both] / (positives * negatives)[both]
    return float(np.average(per_user, weights=size[both])), float(1 - size[both].sum() / size.sum())


def ndcg(page_views: np.ndarray, clicked: np.ndarray, score: np.ndarray, depth: int = 10) -> float | None:
    """NDCG at `depth`, averaged over the page views with a click.

    Of equal scores the unclicked item stands first, so that a constant score gains nothing from the order of the log.
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


def evaluate(
    users: np.ndarray, page_views: np.ndarray, clicked: np.ndarray, probability: np.ndarray
) -> dict[str, float | int | None]:
    """All metrics of one set of impressions: auc, gauc, ndcg@10, logloss, and what they were measured on."""
    grouped, skipped = gauc(users, clicked, probability)
    clipped = np.clip(probability.astype(float), 1e-7, 1 - 1e-7)
    return {
        "auc": auc(clicked, probability),
        "gauc": grouped,
        "ndcg@10": ndcg(page_views, clicked, probability),
        "logloss": float(log_loss(clicked, clipped, labels=[0, 1])) if len(clicked) else None,
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
) -> dict:
    """The metrics over all impressions, and under "slices" those of each slice ([N] bool masks)."""
    parts = {
        name: evaluate(users[rows], page_views[rows], clicked[rows], probability[rows]) for name, rows in slices.items()
    }
    return {**evaluate(users, page_views, clicked, probability), "slices": parts}


def mean_of(found: Sequence[dict]) -> dict:
    """The mean of results of `evaluate_slices` on the same impressions; None where one of them is not defined."""
    mean: dict = {}
    for name, value in found[0].items():
        values = [one[name] for one in found]
        if isinstance(value, dict):
            mean[name] = mean_of(values)
        else:  # Counts are the same for all, and stay what they are.
            mean[name] = (
                value if values.count(value) == len(values) else None if None in values else float(np.mean(values))
            )
    return mean


class _WeightedAuc:
    """AUC under changing weights of the impressions: sorted once, then linear in their number."""

    def __init__(self, clicked: np.ndarray, score: np.ndarray) -> None:
        self.order = np.argsort(score, kind="stable")
        ordered = score[self.order]
        self.groups = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
        self.positive = clicked[self.order].astype(float)

    def __call__(self, weight: np.ndarray) -> float:
        weight = weight[self.order]
        positive = np.add.reduceat(weight * self.positive, self.groups)
        negative = np.add.reduceat(weight * (1 - self.positive), self.groups)
        below = np.cumsum(negative) - negative / 2
        return float(positive @ below / (positive.sum() * negative.sum()))


def paired_gain(
    users: np.ndarray,
    clicked: np.ndarray,
    scores: np.ndarray,
    baselines: np.ndarray,
    *,
    draws: int = 300,
    seed: int = 0,
) -> dict[str, float] | None:
    """Mean AUC of `scores` less that of `baselines`, with a 95 % interval by bootstrap over users and starts.

    Args:
        users, clicked: [N].
        scores, baselines: [S, N], a row for each start of the ranker. With one start the interval knows of the users
            alone: what another start would have changed is not in it.
        draws: of the bootstrap.
        seed: of the bootstrap.

    Returns:
        {"gain", "low", "high"}, or None where the AUC is not defined.
    """
    if not 0 < clicked.sum() < len(clicked):
        return None
    _, user = np.unique(users, return_inverse=True)
    first, second = ([_WeightedAuc(clicked, score) for score in rows] for rows in (scores, baselines))
    rng, count, gains = np.random.default_rng(seed), user.max() + 1, []
    for _ in range(draws):
        weight = np.bincount(rng.integers(count, size=count), minlength=count)[user].astype(float)
        if 0 < (weight * clicked).sum() < weight.sum():
            drawn = (rng.integers(len(rows), size=len(rows)) for rows in (first, second))
            means = [_mean_auc(rows, weight, starts) for rows, starts in zip((first, second), drawn, strict=True)]
            gains.append(means[0] - means[1])
    everyone = np.ones(len(user))
    gain = _mean_auc(first, everyone, range(len(first))) - _mean_auc(second, everyone, range(len(second)))
    low, high = np.percentile(gains, [2.5, 97.5])
    return {"gain": gain, "low": float(low), "high": float(high)}


def _mean_auc(rankings: Sequence[_WeightedAuc], weight: np.ndarray, starts: Iterable[int]) -> float:
    """Over the starts named, one of them perhaps several times: each is measured once."""
    times = Counter(starts)
    return sum(count * rankings[start](weight) for start, count in times.items()) / times.total()
