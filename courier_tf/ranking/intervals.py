"""Confidence intervals of the metrics, and of the difference between two sets of predictions.

Chance enters in two ways: which users were there, and from which random weights a ranker started. A bootstrap over
users, with all starts of a ranker averaged, gives the first interval. Student's t over the starts gives the second, as
three starts are too few to draw from. The two are independent, so their half-widths are added in quadrature.
"""

from collections.abc import Iterator
from typing import TypedDict

import numpy as np
from scipy import stats

from courier_tf.ranking.metrics import auc_per_user

DRAWS = 300  # Draws of the bootstrap.
LEVEL = 0.95  # Share of cases that an interval covers.


class Gain(TypedDict):
    """The difference of a figure between two rankers, with its interval."""

    gain: float
    low: float
    high: float
    error: float
    """Standard error."""


class _WeightedAuc:
    """AUC where each user counts as often as a draw of the bootstrap says.

    The scores are sorted once. After that, a draw takes time linear in the number of impressions.

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
        """The AUC where user u counts `times[u]` times; NaN where no positive or no negative is left."""
        negatives = np.concatenate([[0.0], np.cumsum(times[self.negatives])])
        positives = times[self.positives]
        won = positives @ (negatives[self.below] + negatives[self.up_to]) / 2  # Equal scores count half.
        pairs = positives.sum() * negatives[-1]
        return float(won / pairs) if pairs else np.nan


class _WeightedGauc:
    """GAUC where each user counts as often as a draw says. The arguments are those of `_WeightedAuc`."""

    def __init__(self, user: np.ndarray, clicked: np.ndarray, score: np.ndarray) -> None:
        self.aucs, size = auc_per_user(user, clicked, score)
        self.both = ~np.isnan(self.aucs)
        self.aucs, self.size = self.aucs[self.both], size[self.both]

    def __call__(self, times: np.ndarray) -> float:
        """The GAUC where user u counts `times[u]` times; NaN where no user with both classes is left."""
        weights = times[self.both] * self.size
        return float(np.average(self.aucs, weights=weights)) if weights.any() else np.nan


#: Figure -> how it is computed on a draw.
FIGURES: dict[str, type[_WeightedAuc] | type[_WeightedGauc]] = {"auc": _WeightedAuc, "gauc": _WeightedGauc}


def paired_gain(
    users: np.ndarray,
    clicked: np.ndarray,
    scores: np.ndarray,
    baselines: np.ndarray,
    *,
    figure: str = "auc",
    draws: int = DRAWS,
    seed: int = 0,
) -> Gain | None:
    """The mean AUC of `scores` minus that of `baselines`, with a 95 % interval over users and repetitions.

    Args:
        users, clicked: [N].
        scores, baselines: [S, K, N], the predictions of K rankers in each of S independent repetitions. Both sides
            have the same repetitions; K may differ. With one repetition the interval covers the users only, not the
            random starts.
        figure: of `FIGURES`; "gauc" replaces the AUC.
        draws: of the bootstrap.
        seed: of the bootstrap.

    Returns:
        None where the figure is not defined, or where one user and one repetition give no interval.
    """
    _, user = np.unique(users, return_inverse=True)
    count = user.max(initial=-1) + 1
    if not 0 < clicked.sum() < len(clicked) or count == len(scores) == 1:
        return None
    kind = FIGURES[figure]
    ours, theirs = ([[kind(user, clicked, score) for score in part] for part in side] for side in (scores, baselines))

    def gains(times: np.ndarray) -> np.ndarray:
        """[S]: the gain of each repetition."""
        means = ([np.mean([ranking(times) for ranking in rankings]) for rankings in side] for side in (ours, theirs))
        return np.array(np.subtract(*map(np.array, means)))

    of_repetitions = gains(np.ones(count))
    if np.isnan(of_repetitions).any():
        return None
    of_draws = np.array([np.mean(gains(times)) for times in _drawn(count, draws, seed)])
    low, high = _interval(of_repetitions, of_draws)
    error = float(np.hypot(np.nanstd(of_draws), stats.sem(of_repetitions) if len(of_repetitions) > 1 else 0.0))
    return {"gain": float(np.mean(of_repetitions)), "low": low, "high": high, "error": error}


def auc_intervals(
    users: np.ndarray, clicked: np.ndarray, scores: np.ndarray, *, draws: int = DRAWS, seed: int = 0
) -> dict[str, float]:
    """95 % intervals of AUC and GAUC over users and starts.

    Args:
        users, clicked: [N].
        scores: [S, N], a row for each start of the ranker.
        draws, seed: of the bootstrap.

    Returns:
        {"auc_low", "auc_high", "gauc_low", "gauc_high"}, as far as they are defined; empty for one user and one start.
    """
    _, user = np.unique(users, return_inverse=True)
    count = user.max(initial=-1) + 1
    if not 0 < clicked.sum() < len(clicked) or count == len(scores) == 1:
        return {}
    ends: dict[str, float] = {}
    for name, kind in FIGURES.items():
        rankings = [kind(user, clicked, score) for score in scores]
        of_starts = np.array([ranking(np.ones(count)) for ranking in rankings])
        if not np.isnan(of_starts).any():
            of_draws = [np.mean([ranking(times) for ranking in rankings]) for times in _drawn(count, draws, seed)]
            ends[f"{name}_low"], ends[f"{name}_high"] = _interval(of_starts, np.array(of_draws))
    return ends


def _drawn(users: int, draws: int, seed: int) -> Iterator[np.ndarray]:
    """For each draw, [users] float: how often each user is drawn."""
    rng = np.random.default_rng(seed)
    for _ in range(draws):
        yield np.bincount(rng.integers(users, size=users), minlength=users).astype(float)


def _interval(of_starts: np.ndarray, of_draws: np.ndarray) -> tuple[float, float]:
    """The ends of the interval of a mean over starts.

    Args:
        of_starts: [S] the figure of each start, over all users.
        of_draws: [draws] the mean over the starts for each draw of the users; NaN where it is not defined.
    """
    value, starts = float(np.mean(of_starts)), len(of_starts)
    low, high = np.nanquantile(of_draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    width = stats.t.ppf((1 + LEVEL) / 2, starts - 1) * stats.sem(of_starts) if starts > 1 else 0.0
    return value - float(np.hypot(value - low, width)), value + float(np.hypot(high - value, width))
