"""Intervals over users, for figures that are sums of ratios: what one log tells of all users.

Requests of a user are alike, so the users are the independent draws, not the requests. The jackknife (Efron and
Tibshirani, An Introduction to the Bootstrap, 1993, chapter 11) leaves out one user at a time, as in
`courier_tf.ranking.intervals`. There is one served ranker, so no other random start enters.
"""

from typing import NamedTuple

import numpy as np
from scipy import stats

from courier_tf.ranking.intervals import LEVEL


class Figure(NamedTuple):
    """A figure of a log.

    Attributes:
        value: the figure.
        without: [U] the figure without each of the users.
    """

    value: float
    without: np.ndarray

    def minus(self, other: "Figure") -> "Figure":
        """The difference of two figures of the same users: what they share cancels."""
        return Figure(self.value - other.value, self.without - other.without)

    @property
    def error(self) -> float:
        """The standard error over users; infinite for one user, or where a figure without one is not defined."""
        users = len(self.without)
        if users < 2 or not np.isfinite(self.without).all():
            return float("inf")
        deviation = self.without - self.without.mean()
        return float(np.sqrt((users - 1) / users * np.square(deviation).sum()))

    def half_width(self, level: float = LEVEL) -> float:
        """Half of the width of the interval that covers in a share `level` of the logs (Student's t)."""
        error, users = self.error, len(self.without)
        return float(stats.t.ppf((1 + level) / 2, users - 1) * error) if np.isfinite(error) else error


def sum_of_ratios(user: np.ndarray, above: np.ndarray, below: np.ndarray) -> Figure:
    """The sum over K columns of (sum of `above`) / (sum of `below`); a column whose `below` is 0 counts as 0.

    Args:
        user: [R] int, each number from 0 to U - 1 at least once.
        above, below: [R, K].

    >>> sum_of_ratios(np.array([0, 0, 1]), np.array([[1.0], [2.0], [6.0]]), np.ones([3, 1]))
    Figure(value=3.0, without=array([6. , 1.5]))
    """
    of_user = [_per_user(user, side) for side in (above, below)]
    total_above, total_below = (side.sum(axis=0) for side in of_user)
    value = _ratios(total_above, total_below).sum()
    return Figure(float(value), _ratios(total_above - of_user[0], total_below - of_user[1]).sum(axis=1))


def mean_per_request(user: np.ndarray, value: np.ndarray) -> Figure:
    """The mean of [R] values of requests; `user` is that of `sum_of_ratios`."""
    return sum_of_ratios(user, value[:, None], np.ones([len(value), 1]))


def _per_user(user: np.ndarray, values: np.ndarray) -> np.ndarray:
    """[U, K] sums of [R, K] values."""
    users = int(user.max()) + 1
    return np.stack([np.bincount(user, column, users) for column in values.T], axis=1)


def _ratios(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    # What is left after a subtraction is no exact 0.
    return np.divide(above, below, out=np.zeros(np.shape(above)), where=below > 1e-12)
