"""Intervals that hold however often somebody looks: a canary is judged again each hour, and stopped when it is clear.

The interval of a single look covers in 95 % of the cases at that look. Who looks a hundred times and stops at the first
surprise is surprised in far more than 5 % of them. A confidence sequence covers at all looks together, in 95 % of the
cases; its price is a width of about one and a half times. This one is the asymptotic confidence sequence of
Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas (Annals of Statistics 52, 2024, theorem 2.2), which rests on the mixture
of Robbins (1970). It needs that each look knows all that earlier ones knew, and enough users for the central limit.
"""

import math
from typing import NamedTuple

import numpy as np

TIGHTEST_USERS = 1000.0  # Where the sequence is narrowest, compared with the interval of a single look.


class Difference(NamedTuple):
    """A figure of the canary less that of the stable version.

    Attributes:
        value: above 0 the canary is worse.
        error: its standard error at this look, over users.
        users: how many users it rests on, 1 / (1 / those of the canary + 1 / those of the stable version).
    """

    value: float
    error: float
    users: float

    def ends(self, level: float) -> tuple[float, float]:
        """The confidence sequence at this look, which covers at all looks in a share `level` of the cases."""
        half = half_width(self.error, self.users, level)
        return self.value - half, self.value + half


def half_width(error: float, users: float, level: float) -> float:
    """Half of the width of a confidence sequence at a look.

    Args:
        error: the standard error at this look.
        users: how many independent users it rests on.
        level: share of the cases in which all looks are covered.

    >>> round(half_width(0.01, 1000, 0.95), 4)  # A single look: 0.0196.
    0.0304
    """
    if users <= 0 or not math.isfinite(error):
        return math.inf
    log_alpha = math.log(1 - level)
    looked_for = users * (-2 * log_alpha + math.log(-2 * log_alpha + 1)) / TIGHTEST_USERS
    return error * math.sqrt((1 + 1 / looked_for) * (math.log(looked_for + 1) - 2 * log_alpha))


def clustered_variance(unit: np.ndarray, influence: np.ndarray) -> float:
    """The variance of a sum of [n] influences, where those of a unit (a user) are not independent.

    Liang and Zeger (Biometrika 73, 1986), with the correction U / (U - 1) for U units; infinite for one unit.
    """
    units = int(unit.max()) + 1
    if units < 2:
        return math.inf
    return float(units / (units - 1) * np.square(np.bincount(unit, influence, units)).sum())


def harmonic(first: int, second: int) -> float:
    """1 / (1 / first + 1 / second).

    >>> harmonic(20, 20)
    10.0
    """
    return first * second / (first + second) if first and second else 0.0
