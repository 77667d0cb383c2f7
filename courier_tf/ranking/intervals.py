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
    """AUC where each user counts as often as a draw says: sorted once, then linear in the number of impressions.

    Args:
        user: [N] int, numbers of the users.
        clicked: [N] 0 or 1.
        score: [N].
    """

    def __init__(self, user: np.ndarray, clicked: np.ndarray, score: np.ndarray) -> None:
        negative = clicked == 0
        order = np.argsort(score[negative], kind="stable")
        self.negatives, self.positives = user[negative][order], user[~negative]
        ordered = score[negative][order]
        self.below = np.searchsorted(ordered, score[~negative], "left")
        self.up_to = np.searchsorted(ordered, score[~negative], "right")

    def __call__(self, times: np.ndarray) -> float:
        """With `times` [users] float; NaN where no positive or no negative is left."""
        negatives = np.concatenate([[0.0], np.cumsum(times[self.negatives])])
        positives = times[self.positives]
        won = positives @ (negatives[self.below] + negatives[self.up_to]) / 2  # Of equal scores half.
        pairs = positives.sum() * negatives[-1]
        return float(won / pairs) if pairs else np.nan


class _WeightedGauc:
    """GAUC in the same way; the arguments are those of `_WeightedAuc`."""

    def __init__(self, user: np.ndarray, clicked: np.ndarray, score: np.ndarray) -> None:
        self.aucs, size = auc_per_user(user, clicked, score)
        self.both = ~np.isnan(self.aucs)
        self.aucs, self.size = self.aucs[self.both], size[self.both]

    def __call__(self, times: np.ndarray) -> float:
        """With `times` [users] float; NaN where no user with both classes is left."""
        weights = times[self.both] * self.size
        return float(np.average(self.aucs, weights=weights)) if weights.any() else np.nan


FIGURES = {"auc": _WeightedAuc, "gauc": _WeightedGauc}


def paired_gain(
    users: np.ndarray,
    clicked: np.ndarray,
    scores: np.ndarray,
    baselines: np.ndarray,
    *,
    figure: str = "auc",
    draws: int = DRAWS,
    seed: int = 0,
) -> dict[str, float] | None:
    """Mean AUC of `scores` less that of `baselines`, with a 95 % interval over users and repetitions.

    Args:
        users, clicked: [N].
        scores, baselines: [S, K, N], the predictions of K rankers in each of S repetitions that are independent of
            each other, for both sides the same ones; K may differ. With one repetition the interval knows of the users
            alone: what another start would have changed is not in it.
        figure: of `FIGURES`; "gauc" in place of the AUC.
        draws: of the bootstrap.
        seed: of the bootstrap.

    Returns:
        {"gain", "low", "high", "error": its standard error}, or None where the figure is not defined, or one user alone
        and one repetition tell nothing of an interval.
    """
    _, user = np.unique(users, return_inverse=True)
    count = user.max(initial=-1) + 1
    if not 0 < clicked.sum() < len(clicked) or count == len(scores) == 1:
        return None
    kind = FIGURES[figure]
    ours, theirs = ([[kind(user, clicked, one) for one in part] for part in side] for side in (scores, baselines))

    def gains(times: np.ndarray) -> np.ndarray:
        means = ([np.mean([one(times) for one in repetition]) for repetition in side] for side in (ours, theirs))
        return np.subtract(*map(np.array, means))

    found = gains(np.ones(count))
    if np.isnan(found).any():
        return None
    drawn = [np.mean(gains(times)) for times in _drawn(count, draws, seed)]
    low, high = _interval(found, drawn)
    error = float(np.hypot(np.nanstd(drawn), stats.sem(found) if len(found) > 1 else 0.0))
    return {"gain": float(np.mean(found)), "low": low, "high": high, "error": error}


def auc_intervals(
    users: np.ndarray, clicked: np.ndarray, scores: np.ndarray, *, draws: int = DRAWS, seed: int = 0
) -> dict[str, float]:
    """95 % intervals of AUC and GAUC over users and starts.

    Args:
        users, clicked: [N].
        scores: [S, N], a row for each start of the ranker.
        draws, seed: of the bootstrap.

    Returns:
        {"auc_low", "auc_high", "gauc_low", "gauc_high"}, as far as they are defined; none of one user and one start.
    """
    _, user = np.unique(users, return_inverse=True)
    count = user.max(initial=-1) + 1
    if not 0 < clicked.sum() < len(clicked) or count == len(scores) == 1:
        return {}
    ends = {}
    for name, kind in FIGURES.items():
        rankings = [kind(user, clicked, score) for score in scores]
        found = [ranking(np.ones(count)) for ranking in rankings]
        if not np.isnan(found).any():
            drawn = [np.mean([ranking(times) for ranking in rankings]) for times in _drawn(count, draws, seed)]
            ends[f"{name}_low"], ends[f"{name}_high"] = _interval(found, drawn)
    return ends


def _drawn(users: int, draws: int, seed: int) -> Iterator[np.ndarray]:
    """[users] float, how often each is drawn, for each draw."""
    rng = np.random.default_rng(seed)
    for _ in range(draws):
        yield np.bincount(rng.integers(users, size=users), minlength=users).astype(float)


def _interval(of_starts: Sequence[float], of_draws: Sequence[float]) -> tuple[float, float]:
    """The ends of the interval of a mean over starts.

    Args:
        of_starts: [S] the figure of each start, over all users.
        of_draws: the mean over the starts for each draw of the users; NaN where it is not defined for one.
    """
    value, starts = float(np.mean(of_starts)), len(of_starts)
    low, high = np.nanquantile(of_draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    way = stats.t.ppf((1 + LEVEL) / 2, starts - 1) * stats.sem(of_starts) if starts > 1 else 0.0
    return value - float(np.hypot(value - low, way)), value + float(np.hypot(high - value, way))
