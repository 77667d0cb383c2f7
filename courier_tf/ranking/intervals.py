"""How sure the figures are, and whether one set of predictions is better than another.

Two things could have come out otherwise: which users there were (bootstrap over users, all starts of a ranker
averaged), and how a ranker started (Student's t over the starts, as three of them are too few to draw from). They are
independent, so the two ways from a figure to the ends of its intervals are added as the sides of a right angle are.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from scipy import stats

from courier_tf.ranking.metrics import auc_per_user

DRAWS = 300  # Of the bootstrap.
LEVEL = 0.95


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
    """Mean AUC of `scores` less that of `baselines`, with a 95 % interval over users and starts.

    Args:
        users, clicked: [N].
        scores, baselines: [S, N], a row for each start of the two rankers; what stands in the same row belongs
            together. With one start the interval knows of the users alone: what another start would have changed is not
            in it.
        draws: of the bootstrap.
        seed: of the bootstrap.

    Returns:
        {"gain", "low", "high"}, or None where the AUC is not defined.
    """
    if not 0 < clicked.sum() < len(clicked):
        return None
    _, user = np.unique(users, return_inverse=True)
    pairs = [
        (_WeightedAuc(clicked, ours), _WeightedAuc(clicked, theirs))
        for ours, theirs in zip(scores, baselines, strict=True)
    ]

    def gains(weight: np.ndarray) -> list[float]:
        return [ours(weight) - theirs(weight) for ours, theirs in pairs]

    drawn = []
    for times in _drawn(user.max() + 1, draws, seed):
        weight = times[user]
        if 0 < (weight * clicked).sum() < weight.sum():
            drawn.append(np.mean(gains(weight)))
    found = gains(np.ones(len(user)))
    low, high = _interval(found, drawn)
    return {"gain": float(np.mean(found)), "low": low, "high": high}


def auc_intervals(
    users: np.ndarray, clicked: np.ndarray, scores: np.ndarray, *, draws: int = DRAWS, seed: int = 0
) -> dict[str, float]:
    """95 % intervals of AUC and GAUC over users and starts.

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
    grouped, size = grouped[:, both], np.bincount(user)[both].astype(float)
    everyone, drawn = np.ones(len(user)), {"auc": [], "gauc": []}
    found = {"auc": [ranking(everyone) for ranking in rankings]}
    if both.any():
        found["gauc"] = np.average(grouped, axis=1, weights=size)
    for times in _drawn(user.max() + 1, draws, seed):
        weight = times[user]
        if 0 < (weight * clicked).sum() < weight.sum():
            drawn["auc"].append(np.mean([ranking(weight) for ranking in rankings]))
        if (times[both] * size).any():
            drawn["gauc"].append(np.average(grouped.mean(axis=0), weights=times[both] * size))
    ends = {name: _interval(values, drawn[name]) for name, values in found.items()}
    return {f"{name}_{end}": v for name, pair in ends.items() for end, v in zip(("low", "high"), pair, strict=True)}


def _drawn(users: int, draws: int, seed: int) -> Iterator[np.ndarray]:
    """[users] float, how often each is drawn, for each draw."""
    rng = np.random.default_rng(seed)
    for _ in range(draws):
        yield np.bincount(rng.integers(users, size=users), minlength=users).astype(float)


def _interval(of_starts: Sequence[float], of_draws: Sequence[float]) -> tuple[float, float]:
    """The ends of the interval of a mean over starts.

    Args:
        of_starts: [S] the figure of each start, over all users.
        of_draws: the mean over the starts for each draw of the users.
    """
    value, starts = float(np.mean(of_starts)), len(of_starts)
    low, high = np.quantile(of_draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    way = stats.t.ppf((1 + LEVEL) / 2, starts - 1) * stats.sem(of_starts) if starts > 1 else 0.0
    return value - float(np.hypot(value - low, way)), value + float(np.hypot(high - value, way))
