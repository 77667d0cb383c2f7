"""What a new ranker would have done: all estimates of one log, and how far they can be trusted."""

import dataclasses
import math

import numpy as np

from courier_tf.monitoring.estimators import (
    Lists,
    PropensityError,
    Weights,
    doubly_robust,
    expected_clicks,
    ips,
    logged_value,
    snips,
)
from courier_tf.monitoring.over_users import Figure
from courier_tf.monitoring.policies import Policy, log_odds
from courier_tf.monitoring.reward_model import cross_fitted

LEAST_EFFECTIVE = 100.0  # Requests. With less, intervals cover in fewer cases than they say (docs/log/off-policy.md).
LEAST_EFFECTIVE_SHARE = 0.05  # Of the requests.
MOST_OF_ONE = 0.05  # Share of one request in the weights.
LEAST_USERS = 30


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Clicks per request of the new policy, and how many more than the logged policy got.

    Attributes:
        clicks_per_request: the estimate.
        low, high: its 95 % interval over users; None with one user.
        gain: less the clicks per request that were counted.
        gain_low, gain_high: the 95 % interval of the gain, paired over the users.
    """

    clicks_per_request: float
    low: float | None
    high: float | None
    gain: float
    gain_low: float | None
    gain_high: float | None

    @classmethod
    def of(cls, figure: Figure, logged: Figure) -> "Estimate":
        """The estimate beside what was counted."""
        gain = figure.minus(logged)
        return cls(figure.value, *_ends(figure), gain.value, *_ends(gain))


@dataclasses.dataclass(frozen=True)
class PolicyReport:
    """What a log tells of a new policy.

    Attributes:
        requests, users, positions: of the log; positions of the longest list.
        logged: clicks per request that were counted, with the gain 0.
        estimates: ips, snips and doubly_robust.
        effective_size: requests of the new policy that would tell as much, at the position that tells least.
        largest_share: of one request in the weights of a position.
        warnings: why the figures should not be trusted.
    """

    requests: int
    users: int
    positions: int
    logged: Estimate
    estimates: dict[str, Estimate]
    effective_size: float
    largest_share: float
    warnings: tuple[str, ...]


def evaluate_policy(lists: Lists, policy: Policy, scores: np.ndarray) -> PolicyReport:
    """Estimates what a new policy would have got.

    Args:
        lists: what was shown, and clicked.
        policy: how the new ranker's scores become lists.
        scores: [R, N] of the new ranker; NaN where there is no candidate.

    Raises:
        PropensityError: the logged propensities cannot be right. Where the overlap is low, that is a warning.
    """
    weights = Weights.of(lists, policy, scores)
    requests, positions = lists.shown.shape
    users = int(lists.user.max()) + 1
    warnings = warnings_of(requests, users, weights)
    if objections := weights.objections(lists):
        reason = (
            f"{'; '.join(objections)}: the logged propensities are wrong, or some items that the new policy would show "
            "could never be shown"
        )
        if weights.effective_size() >= LEAST_EFFECTIVE:
            raise PropensityError(reason)
        warnings.append(f"{reason}; with so little overlap it may be chance, too")
    features = np.stack([log_odds(scores), log_odds(lists.scores)], axis=2)
    model = cross_fitted(lists.user, lists.shown, lists.clicked, features)
    expected = expected_clicks(lists, policy, scores, model)
    logged = logged_value(lists)
    figures = {
        "ips": ips(lists, weights),
        "snips": snips(lists, weights),
        "doubly_robust": doubly_robust(lists, weights, expected, model),
    }
    return PolicyReport(
        requests,
        users,
        positions,
        Estimate.of(logged, logged),
        {name: Estimate.of(figure, logged) for name, figure in figures.items()},
        weights.effective_size(),
        weights.largest_share(),
        tuple(warnings),
    )


def warnings_of(requests: int, users: int, weights: Weights) -> list[str]:
    """Why the estimates of a log should not be trusted: too little of it is like what the new policy shows."""
    effective, share = weights.effective_size(), weights.largest_share()
    warnings = []
    if effective < max(LEAST_EFFECTIVE, LEAST_EFFECTIVE_SHARE * requests):
        warnings.append(
            f"low overlap: {requests:,} requests tell as much as {effective:,.0f} of the new policy would; the limits "
            f"are {LEAST_EFFECTIVE:g} and {100 * LEAST_EFFECTIVE_SHARE:g} %. Intervals may be too narrow; fewer "
            "positions, or a policy nearer to the logged one, overlap more"
        )
    if share > MOST_OF_ONE:
        warnings.append(f"one request has {100 * share:.0f} % of the weight: the estimate hangs on single clicks")
    if users < LEAST_USERS:
        warnings.append(f"{users} users are few: the intervals are over users, and {LEAST_USERS} is the limit")
    return warnings


def _ends(figure: Figure) -> tuple[float | None, float | None]:
    half = figure.half_width()
    return (figure.value - half, figure.value + half) if math.isfinite(half) else (None, None)
