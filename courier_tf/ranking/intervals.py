"""Confidence intervals of the metrics, and of the difference between two sets of predictions.

Chance enters in two ways: which users were there, and from which random weights a ranker started. All starts are
measured on the same users, so the two are crossed, and they interact: a start is better for some users than for
others. This is a two-way analysis of variance with random users and random starts:

- Users: a jackknife (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 11), which leaves out one
  user at a time. It needs no draws, and it also covers with a dozen users.
- Starts: the variance of their mean. It holds the interaction, so the jackknife's share of the interaction is taken out
  of the variance over users: otherwise it would count twice.
- Spans: rankers of several spans (a rolling origin) are measured each on their own span, and the figures are averaged.
  A user of several spans is one user, who is left out of all of them at once.
- The two variances are added. Each has a Student's t with its own degrees of freedom; the interval takes their mean,
  weighted by the variances (Cochran and Cox, Experimental Designs, 1957, section 4.14).

One start tells nothing about the others. It has no interval, because one over users alone excludes a true 0 in most
cases (docs/log/intervals.md). `tests/ranking/test_coverage.py` and `make benchmark-coverage` measure how often the
intervals cover.
"""

from collections.abc import Callable
from typing import NamedTuple, TypedDict

import numpy as np
from scipy import stats

from courier_tf.ranking.metrics import auc_per_user

LEVEL = 0.95  # Share of cases that an interval covers.
NO_INTERVAL = "no interval: one start or one user"  # What tables say in its place.


class Gain(TypedDict):
    """The difference of a figure between two rankers, with its interval.

    `low`, `high` and `error` are None where there is no interval: with one start, or one user.
    """

    gain: float
    low: float | None
    high: float | None
    error: float | None
    """Standard error over users and starts."""


#: (users [N] int from 0, clicked [N], score [N]) -> (figure; [U] figure without each user who counts).
LeaveOneOut = Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[float, np.ndarray]]


def auc_without_each(user: np.ndarray, clicked: np.ndarray, score: np.ndarray) -> tuple[float, np.ndarray]:
    """The AUC, and that of all impressions but those of one user, for each user.

    An AUC is the share of pairs (positive, negative) in which the positive has the higher score, equal scores counting
    half. Leaving out a user removes the pairs of the user's positives and those of the user's negatives, and adds the
    pairs within the user, which were removed twice.

    Args:
        user: [N] int, each number from 0 to U - 1 at least once.
        clicked: [N] 0 or 1, both there.
        score: [N].

    Returns:
        (AUC, [U] AUC without the user; NaN where no positive or no negative is left).
    """
    users, positive = user.max() + 1, clicked > 0
    won = np.zeros(len(score))
    for ours, others in ((positive, np.sort(score[~positive])), (~positive, np.sort(score[positive]))):
        # For a positive: negatives below it. For a negative: positives below it, to be turned around.
        won[ours] = (np.searchsorted(others, score[ours], "left") + np.searchsorted(others, score[ours], "right")) / 2
    positives = np.bincount(user, positive, users)
    negatives = np.bincount(user, ~positive, users)
    won[~positive] = positives.sum() - won[~positive]
    within, _ = auc_per_user(user, clicked, score)
    total = won[positive].sum()
    left = total - np.bincount(user, won, users) + np.nan_to_num(within) * positives * negatives
    pairs = (positives.sum() - positives) * (negatives.sum() - negatives)
    without = np.divide(left, pairs, out=np.full(users, np.nan), where=pairs > 0)
    return float(total / (positives.sum() * negatives.sum())), without


def gauc_without_each(user: np.ndarray, clicked: np.ndarray, score: np.ndarray) -> tuple[float, np.ndarray]:
    """The GAUC, and that of all users but one, for each user who has both classes.

    The arguments are those of `auc_without_each`.

    Returns:
        (GAUC, [users with both classes] GAUC without the user); (NaN, []) where nobody has both.
    """
    aucs, size = auc_per_user(user, clicked, score)
    both = ~np.isnan(aucs)
    aucs, size = aucs[both], size[both]
    if not both.any():
        return np.nan, np.zeros(0)
    total, weight = aucs @ size, size.sum()
    left = weight - size
    without = np.divide(total - aucs * size, left, out=np.full(len(size), np.nan), where=left > 0)
    return float(total / weight), without


#: Figure -> how it is computed, with and without each user.
FIGURES: dict[str, LeaveOneOut] = {"auc": auc_without_each, "gauc": gauc_without_each}


def paired_gain(
    users: np.ndarray,
    clicked: np.ndarray,
    scores: np.ndarray,
    baselines: np.ndarray,
    *,
    figure: str = "auc",
    spans: np.ndarray | None = None,
) -> Gain | None:
    """The mean AUC of `scores` minus that of `baselines`, with a 95 % interval over users and repetitions.

    Args:
        users, clicked: [N].
        scores, baselines: [S, K, N], the predictions of K rankers in each of S independent repetitions. Both sides
            have the same repetitions; K may differ. With one repetition there is no interval.
        figure: of `FIGURES`; "gauc" replaces the AUC.
        spans: [N] any sortable names of the spans, each with rankers of its own; None for one span. Scores of different
            spans are not compared: the figure is the mean over the spans, weighted by their clicks (GAUC: by the
            impressions that count). A span in which it is not defined does not count.

    Returns:
        None where the figure is not defined.
    """
    pooled = _Spans(users, clicked, np.zeros(len(users), int) if spans is None else spans, figure)
    if not pooled.parts:
        return None

    def of_side(side: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        measured = [[pooled.figure(score) for score in rankers] for rankers in side]
        figures = np.array([np.mean([value for value, _ in rankers]) for rankers in measured])
        return figures, np.array([np.mean([without for _, without in rankers], axis=0) for rankers in measured])

    (ours, ours_without), (theirs, theirs_without) = of_side(scores), of_side(baselines)
    gains, without = ours - theirs, ours_without - theirs_without
    gain = float(np.mean(gains))
    spread = spread_of(gains, without)
    if spread is None:
        return {"gain": gain, "low": None, "high": None, "error": None}
    half, error = spread
    return {"gain": gain, "low": gain - half, "high": gain + half, "error": error}


class _Part(NamedTuple):
    """A span, as far as its figure is defined.

    Attributes:
        rows: [n] int, its impressions.
        user: [n] int, numbers of its users from 0.
        counted: [C] int, those of all users who count in it.
        weight: [U] float, what each of all users adds to the weight of the span.
    """

    rows: np.ndarray
    user: np.ndarray
    counted: np.ndarray
    weight: np.ndarray


class _Spans:
    """The mean of a figure over spans, with and without each user.

    Args:
        users, clicked, spans: [N].
        figure: of `FIGURES`.

    Attributes:
        parts: the spans in which the figure is defined.
    """

    def __init__(self, users: np.ndarray, clicked: np.ndarray, spans: np.ndarray, figure: str) -> None:
        self._clicked, self._figure = clicked, FIGURES[figure]
        everybody, user = np.unique(users, return_inverse=True)
        self.parts: list[_Part] = []
        for span in np.unique(spans):
            rows = np.flatnonzero(spans == span)
            here, local = np.unique(user[rows], return_inverse=True)
            size, positives = np.bincount(local), np.bincount(local, clicked[rows])
            both = (positives > 0) & (positives < size)
            counts = both if figure == "gauc" else np.ones(len(here), bool)
            defined = both.any() if figure == "gauc" else 0 < positives.sum() < size.sum()
            if not defined:
                continue
            weight = np.zeros(len(everybody))
            weight[here[counts]] = (size if figure == "gauc" else positives)[counts]
            self.parts.append(_Part(rows, local, here[counts], weight))
        self._users = np.unique(np.concatenate([part.counted for part in self.parts])) if self.parts else user[:0]

    def figure(self, score: np.ndarray) -> tuple[float, np.ndarray]:
        """(Figure of [N] scores; [U] figure without each user who counts in a span, NaN where it is not defined)."""
        values, withouts, weights, weights_without = [], [], [], []
        for part in self.parts:
            value, without_counted = self._figure(part.user, self._clicked[part.rows], score[part.rows])
            without = np.full(len(part.weight), value)  # Who does not count in a span does not change it.
            without[part.counted] = without_counted
            values.append(value)
            withouts.append(without[self._users])
            weights.append(part.weight.sum())
            weights_without.append(part.weight.sum() - part.weight[self._users])
        left = np.where(np.isnan(withouts), 0, weights_without)  # Without some user, a span may not be defined.
        total = left.sum(axis=0)
        summed = (np.nan_to_num(withouts) * left).sum(axis=0)
        mean = np.divide(summed, total, out=np.full(len(total), np.nan), where=total > 0)
        return float(np.average(values, weights=weights)), mean


def auc_intervals(users: np.ndarray, clicked: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    """95 % intervals of AUC and GAUC over users and starts.

    Args:
        users, clicked: [N].
        scores: [S, N], a row for each start of the ranker.

    Returns:
        {"auc_low", "auc_high", "gauc_low", "gauc_high"}, as far as they are defined; empty for one user or one start.
    """
    if not 0 < clicked.sum() < len(clicked):
        return {}
    _, user = np.unique(users, return_inverse=True)
    ends: dict[str, float] = {}
    for name, figure in FIGURES.items():
        values, without = zip(*(figure(user, clicked, score) for score in scores), strict=True)
        spread = spread_of(np.array(values), np.array(without))
        if spread is not None:
            value, half = float(np.mean(values)), spread[0]
            ends[f"{name}_low"], ends[f"{name}_high"] = max(0.0, value - half), min(1.0, value + half)
    return ends


def spread_of(of_starts: np.ndarray, without: np.ndarray) -> tuple[float, float] | None:
    """How far the mean of a figure over S starts may be from that over all users and all starts.

    Args:
        of_starts: [S], the figure of each start.
        without: [S, U], the same without each of the U users.

    Returns:
        (half of the width of the 95 % interval, standard error). None for one start, for one user, or where the figure
        is not defined without one of the users.

    Example:
        >>> half, error = spread_of(np.array([0.1, 0.2, 0.3]), np.array([[0.1] * 9, [0.2] * 9, [0.3] * 9]))
        >>> round(half, 3), round(error, 3)  # Users make no difference: Student's t with 2 degrees of freedom.
        (0.248, 0.058)
    """
    starts, users = without.shape
    if starts < 2 or users < 2 or np.isnan(without).any() or np.isnan(of_starts).any():
        return None
    # [S, U]: the part of each user in the deviation of a start's figure.
    part = np.sqrt((users - 1) / users) * (without - without.mean(axis=1, keepdims=True))
    of_mean = part.mean(axis=0)
    interaction = np.square(part - of_mean).sum() / (starts * (starts - 1))
    over_users = max(float(np.square(of_mean).sum() - interaction), 0.0)
    over_starts = float(np.var(of_starts, ddof=1)) / starts
    variance = over_users + over_starts
    if variance == 0:
        return 0.0, 0.0
    of_users, of_starts_alone = stats.t.ppf((1 + LEVEL) / 2, [users - 1, starts - 1])
    t = (of_users * over_users + of_starts_alone * over_starts) / variance
    return float(t * np.sqrt(variance)), float(np.sqrt(variance))
