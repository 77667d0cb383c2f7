"""Scores of rankers that do not differ, with known parts of users, starts and both in what a ranker is worth."""

from typing import NamedTuple

import numpy as np

from courier_tf.ranking import intervals


class Parts(NamedTuple):
    """Deviations of the strength of the signal in a score: over users, over starts, over both together."""

    user: float
    start: float
    both: float


MIXED = Parts(0.4, 0.1, 0.4)


def null_scores(
    rng: np.random.Generator, users: int, rows: int, starts: int, parts: Parts = MIXED, skew: float = 1.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A data set on which two rankers with several starts differ by chance alone.

    Args:
        rng: source of all that is drawn.
        users: most users there are.
        rows: impressions.
        starts: of each ranker.
        parts: where the difference comes from.
        skew: deviation of the logarithm of a user's share of the impressions.

    Returns:
        ([rows] users, [rows] clicked, [2, starts, 1, rows] scores of both rankers).
    """
    weight = rng.lognormal(0, skew, users)
    user = np.unique(rng.choice(users, rows, p=weight / weight.sum()), return_inverse=True)[1]
    signal, size = rng.normal(size=rows), user.max() + 1
    clicked = (rng.random(rows) < 1 / (1 + np.exp(1.2 - signal))).astype(int)
    strength = 1 + parts.user * rng.normal(size=[2, 1, size])[..., user] + parts.start * rng.normal(size=[2, starts, 1])
    strength = strength + parts.both * rng.normal(size=[2, starts, size])[..., user]
    scores = strength * signal + rng.normal(size=[2, 1, rows])
    return user, clicked, scores[:, :, None]


def coverage_of_scores(
    users: int, rows: int, starts: int, figure: str, data_sets: int, seed: int, parts: Parts = MIXED, skew: float = 1.0
) -> tuple[float, int]:
    """(Share of the data sets with an interval whose interval holds 0, number of these data sets)."""
    rng, held = np.random.default_rng(seed), []
    for _ in range(data_sets):
        user, clicked, (ours, theirs) = null_scores(rng, users, rows, starts, parts, skew)
        gain = intervals.paired_gain(user, clicked, ours, theirs, figure=figure)
        if gain is not None and gain["low"] is not None and gain["high"] is not None:
            held.append(gain["low"] <= 0 <= gain["high"])
    return (float(np.mean(held)) if held else float("nan")), len(held)
