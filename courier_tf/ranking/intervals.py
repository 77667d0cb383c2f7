"""How sure the figures are, and whether one set of predictions is better than another: bootstrap over users."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from courier_tf.ranking.metrics import auc_per_user

DRAWS = 300  # Of the bootstrap.


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
    draws: int = DRAWS,
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


def auc_intervals(
    users: np.ndarray, clicked: np.ndarray, scores: np.ndarray, *, draws: int = DRAWS, seed: int = 0
) -> dict[str, float]:
    """95 % intervals of AUC and GAUC by bootstrap over users and starts.

    Args:
        users, clicked: [N].
        scores: [S, N], a row for each start of the ranker.
        draws, seed: of the bootstrap.

    Returns:
        {"auc_low", "auc_high", "gauc_low", "gauc_high"}; empty where the AUC is not defined.
    """
    if not 0 < clicked.sum() < len(clicked):
        return {}
    _, user = np.unique(users, return_inverse=True)
    rankings = [_WeightedAuc(clicked, score) for score in scores]
    grouped = np.array([auc_per_user(users, clicked, score)[0] for score in scores])
    both = ~np.isnan(grouped[0])
    size, found = np.bincount(user)[both], {"auc": [], "gauc": []}
    for drawn, starts in _drawn(user.max() + 1, len(scores), draws, seed):
        weight = drawn[user].astype(float)
        if 0 < (weight * clicked).sum() < weight.sum():
            found["auc"].append(_mean_auc(rankings, weight, starts))
        if (drawn[both] * size).any():
            found["gauc"].append(np.average(grouped[starts][:, both].mean(axis=0), weights=drawn[both] * size))
    ends = {name: np.percentile(values, [2.5, 97.5]) for name, values in found.items() if values}
    return {
        f"{name}_{end}": float(v) for name, pair in ends.items() for end, v in zip(("low", "high"), pair, strict=True)
    }


def _drawn(users: int, starts: int, draws: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """([users] how often each is drawn, [starts] which starts are) for each draw."""
    rng = np.random.default_rng(seed)
    for _ in range(draws):
        yield np.bincount(rng.integers(users, size=users), minlength=users), rng.integers(starts, size=starts)


def _mean_auc(rankings: Sequence[_WeightedAuc], weight: np.ndarray, starts: Iterable[int]) -> float:
    """Over the starts named, one of them perhaps several times: each is measured once."""
    times = Counter(starts)
    return sum(count * rankings[start](weight) for start, count in times.items()) / times.total()
