"""The checks of a canary against the stable version: pure functions of what both have answered.

Users are told apart by a hash of their id, so both sides have had the same kinds of users, requests and minutes: a
randomised comparison. Each check gives a difference over users, above 0 where the canary is worse, and a tolerance.
"""

import dataclasses
from typing import NamedTuple

import numpy as np

from courier_tf.monitoring.anytime import Difference, clustered_variance, harmonic
from courier_tf.monitoring.distributions import (
    bin_borders,
    bin_counts,
    largest_distance,
    stability_index,
    stability_influence,
)
from courier_tf.ranking.metrics import auc, logloss
from courier_tf.ranking.soundness import auc_with_error
from courier_tf.settings.monitoring import CanarySettings


@dataclasses.dataclass(frozen=True)
class Calls:
    """The calls of one label to one model.

    Attributes:
        user: [n] int from 0, the user of each; a call without a user is a user of its own.
        failed: [n] bool.
        seconds: [n] float, from the first attempt to the answer.
        scores: [a, V] float, V quantiles of the scores of each answered call; V is 0 for models without scores.
    """

    user: np.ndarray
    failed: np.ndarray
    seconds: np.ndarray
    scores: np.ndarray

    @property
    def users(self) -> int:
        """How many there are."""
        return len(np.unique(self.user))


@dataclasses.dataclass(frozen=True)
class Clicks:
    """The items shown after the calls of one label.

    Attributes:
        user: [m] any sortable ids.
        request: [m] int, numbers of the requests.
        clicked: [m] 0 or 1.
        probability: [m] float, as served.
    """

    user: np.ndarray
    request: np.ndarray
    clicked: np.ndarray
    probability: np.ndarray


class Check(NamedTuple):
    """One comparison.

    Attributes:
        name: what is compared.
        stable, canary: the figure of each side, for people; None where it is that of both together.
        difference: what is judged.
        tolerance: most that it may be.
    """

    name: str
    stable: float | None
    canary: float | None
    difference: Difference
    tolerance: float


def checks_of_calls(stable: Calls, canary: Calls, limits: CanarySettings) -> list[Check]:
    """Errors, latencies and, where there are some, scores."""
    checks = [errors(stable, canary, limits.max_error_increase)]
    if not stable.failed.all() and not canary.failed.all():
        checks += [latency(stable, canary, quantile, limits.max_latency_factor) for quantile in (0.5, 0.99)]
        if stable.scores.shape[1]:
            checks.append(score_shift(stable, canary, limits.max_score_shift))
    return checks


def checks_of_clicks(stable: Clicks, canary: Clicks, limits: CanarySettings) -> list[Check]:
    """Clicks per request, calibration and AUC, as far as they are defined: both sides need clicks, and no clicks."""
    sides = (stable, canary)
    if not all(0 < side.clicked.sum() < len(side.clicked) for side in sides):
        return []
    return [
        click_loss(stable, canary, limits.max_click_loss),
        calibration_loss(stable, canary, limits.max_calibration_loss),
        auc_loss(stable, canary, limits.max_auc_loss),
    ]


def errors(stable: Calls, canary: Calls, tolerance: float) -> Check:
    """The share of failed calls."""
    shares = float(stable.failed.mean()), float(canary.failed.mean())
    variance = sum(_share_variance(side.user, side.failed) for side in (stable, canary))
    return Check("errors", *shares, _difference(shares[1] - shares[0], variance, stable, canary), tolerance)


def latency(stable: Calls, canary: Calls, quantile: float, factor: float) -> Check:
    """A quantile of the latency, which may be longer by a factor.

    Compared are shares of calls, not times: of the canary's beyond `factor` times the stable version's quantile, less
    of the stable version's beyond its quantile. Above 0 the canary's quantile is too long. So no density has to be
    estimated, as in the precedence tests on quantiles (Mood 1950).
    """
    times = [side.seconds[~side.failed] for side in (stable, canary)]
    border = float(np.quantile(times[0], quantile))
    slow = [times[0] > border, times[1] > factor * border]
    users = [side.user[~side.failed] for side in (stable, canary)]
    variance = sum(_share_variance(user, beyond) for user, beyond in zip(users, slow, strict=True))
    difference = _difference(float(slow[1].mean() - slow[0].mean()), variance, stable, canary)
    return Check(f"p{100 * quantile:g}_seconds", border, float(np.quantile(times[1], quantile)), difference, 0.0)


def score_shift(stable: Calls, canary: Calls, tolerance: float) -> Check:
    """The population stability index of the scores, less what chance alone makes of it; each call counts alike."""
    borders = bin_borders(stable.scores.ravel())
    counts = [bin_counts(side.scores, borders) for side in (stable, canary)]
    totals = [count.sum(axis=0) for count in counts]
    slopes = stability_influence(*totals)
    shares = [total / total.sum() for total in totals]
    expected = np.maximum(shares[0], 0.5 / totals[0].sum())
    variance, chance = 0.0, np.zeros(len(shares[0]))
    for side, count, share, slope in zip((stable, canary), counts, shares, slopes, strict=True):
        user = _renumbered(side.user[~side.failed])
        influence = (count - count.sum(axis=1, keepdims=True) * share) / count.sum()
        variance += clustered_variance(user, influence @ slope)
        chance += np.array([clustered_variance(user, column) for column in influence.T])
    # Where both are alike the slopes vanish, and what is left is a chi-square (Yurdakul and Naranjo 2020).
    by_chance = chance / expected
    difference = _difference(
        stability_index(*totals) - float(by_chance.sum()),
        variance + 2 * float(np.square(by_chance).sum()),
        stable,
        canary,
    )
    return Check("score_shift", None, None, difference, tolerance)


def click_loss(stable: Clicks, canary: Clicks, tolerance: float) -> Check:
    """Clicks per request: the logarithm of the stable version's by the canary's."""
    rates: dict[bool, float] = {}
    variance = 0.0
    for side in (stable, canary):
        requests = len(np.unique(side.request))
        clicks = side.clicked.sum()
        rates[side is canary] = float(clicks / requests)
        first = np.zeros(len(side.request))
        first[np.unique(side.request, return_index=True)[1]] = 1.0
        variance += clustered_variance(_renumbered(side.user), side.clicked / clicks - first / requests)
    difference = _difference(float(np.log(rates[False] / rates[True])), variance, stable, canary)
    return Check("clicks_per_request", rates[False], rates[True], difference, float(-np.log1p(-tolerance)))


def calibration_loss(stable: Clicks, canary: Clicks, tolerance: float) -> Check:
    """How far predicted clicks are from clicks, whichever are more: |log(predicted clicks / clicks)|."""
    figures: dict[bool, float] = {}
    variance = 0.0
    for side in (stable, canary):
        predicted, clicks = side.probability.sum(), side.clicked.sum()
        figures[side is canary] = float(predicted / clicks)
        influence = side.probability / predicted - side.clicked / clicks
        variance += clustered_variance(_renumbered(side.user), influence)
    farther = abs(np.log(figures[True])) - abs(np.log(figures[False]))
    difference = _difference(float(farther), variance, stable, canary)
    return Check("calibration", figures[False], figures[True], difference, tolerance)


def auc_loss(stable: Clicks, canary: Clicks, tolerance: float) -> Check:
    """The AUC over shown items. Each side shows its own: a better ranker may show items that are harder to tell."""
    sides = [auc_with_error(side.user, side.clicked, side.probability) for side in (stable, canary)]
    difference = _difference(sides[0][0] - sides[1][0], sides[0][1] ** 2 + sides[1][1] ** 2, stable, canary)
    return Check("auc", sides[0][0], sides[1][0], difference, tolerance)


def score_figures(stable: Calls, canary: Calls) -> dict[str, float]:
    """What is shown beside the checks of the scores, and not judged."""
    return {"score_distance": largest_distance(stable.scores.ravel(), canary.scores.ravel())}


def click_figures(clicks: Clicks) -> dict[str, float | None]:
    """What is shown beside the checks of clicks, and not judged."""
    return {
        "shown": len(clicks.clicked),
        "clicks": int(clicks.clicked.sum()),
        "auc": auc(clicks.clicked, clicks.probability),
        "logloss": logloss(clicks.clicked, clicks.probability),
    }


def _share_variance(user: np.ndarray, happened: np.ndarray) -> float:
    """The variance of a share, over users; at least that of Agresti and Caffo (2000), who add a yes and a no.

    Without that, a share of 0 would have no error at all.
    """
    number = len(happened)
    clustered = clustered_variance(_renumbered(user), (happened - happened.mean()) / number)
    raised = (happened.sum() + 1) / (number + 2)
    return max(clustered, float(raised * (1 - raised) / (number + 2)))


def _difference(value: float, variance: float, stable: Calls | Clicks, canary: Calls | Clicks) -> Difference:
    users = (len(np.unique(side.user)) for side in (stable, canary))
    return Difference(value, float(np.sqrt(variance)), harmonic(*users))


def _renumbered(user: np.ndarray) -> np.ndarray:
    number: np.ndarray = np.unique(user, return_inverse=True)[1]
    return number
