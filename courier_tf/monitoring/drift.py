"""Whether the requests of a log have drifted from training by more than is tolerated."""

import dataclasses

from courier_tf.monitoring.pair_features import CLICKS, HISTORY, UNKNOWN_ITEMS, UNKNOWN_USERS, WITHOUT_HISTORY
from courier_tf.monitoring.skew import SkewReport
from courier_tf.settings.monitoring import DriftSettings


@dataclasses.dataclass(frozen=True)
class DriftCheck:
    """One comparison.

    Attributes:
        name: of the feature or distribution.
        change: a population stability index, a difference of shares, or a factor of at least 1.
        limit: most that it may be.
    """

    name: str
    change: float
    limit: float

    @property
    def exceeded(self) -> bool:
        """Whether it has drifted. What is no number has."""
        return not self.change <= self.limit


@dataclasses.dataclass(frozen=True)
class DriftReport:
    """What `courier skew` writes.

    Attributes:
        skew: all figures of the comparison.
        judged: whether there are enough users.
        drifted: names of what has drifted; empty where nothing is judged.
        checks: all comparisons.
        limits: the settings.
    """

    skew: SkewReport
    judged: bool
    drifted: tuple[str, ...]
    checks: tuple[DriftCheck, ...]
    limits: DriftSettings


def drift_of(skew: SkewReport, limits: DriftSettings) -> DriftReport:
    """Judges what was found."""
    checks = tuple(checks_of(skew, limits))
    judged = skew.users >= limits.drift_min_users
    drifted = tuple(check.name for check in checks if check.exceeded) if judged else ()
    return DriftReport(skew, judged, drifted, checks, limits)


def checks_of(skew: SkewReport, limits: DriftSettings) -> list[DriftCheck]:
    """The comparisons of what both the log and training tell."""
    log, train = skew.log_features, skew.train_features
    checks = [
        DriftCheck("scores", skew.distances["scores"], limits.max_score_drift),
        DriftCheck("categories", skew.distances["categories"], limits.max_category_drift),
    ]
    for name, limit in (
        (UNKNOWN_ITEMS, limits.max_unknown_item_increase),
        (UNKNOWN_USERS, limits.max_unknown_user_increase),
        (WITHOUT_HISTORY, limits.max_without_history_increase),
    ):
        if name in log and name in train:
            checks.append(DriftCheck(name, log[name] - train[name], limit))
    for name, limit in ((HISTORY, limits.max_history_factor), (CLICKS, limits.max_click_rate_factor)):
        if name in log and name in train:
            checks.append(DriftCheck(name, factor_between(log[name], train[name]), limit))
    return checks


def factor_between(first: float, second: float) -> float:
    """How many times the larger of two figures is the smaller one; infinite where one of them is 0.

    >>> factor_between(2.0, 3.0), factor_between(0.0, 0.0)
    (1.5, 1.0)
    """
    low, high = sorted((first, second))
    return 1.0 if low == high else high / low if low > 0 else float("inf")
