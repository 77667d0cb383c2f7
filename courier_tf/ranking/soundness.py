"""Whether figures can be believed at all: a collapsed encoder, a ranker worse than chance, probabilities that are off.

The verdict of a run and the promotion checks share these limits.
"""

import math
from collections.abc import Mapping

import numpy as np

LEAST_EFFECTIVE_RANK = 3.0  # Encoders that told what users like had 18 or more (docs/log/objectives.md).
MOST_PAIRS_COSINE = 0.999  # Mean cosine of two items.
POPULARITY_AUC = (0.45, 0.55)  # Outside, sampled negatives are told from clicks by their popularity.
MOST_MISCALIBRATION = 1.5  # Factor between predicted and real clicks.


def is_collapsed(quality: Mapping[str, float | None], dim: int) -> bool:
    """Whether an encoder gives all photos nearly the same embedding.

    Args:
        quality: of `ClusterFacts`. Figures that it lacks, or that are not defined, tell nothing.
        dim: D, the width of the embeddings. The effective rank cannot exceed it: narrow ones have a lower limit.

    >>> is_collapsed({"effective_rank": 1.95, "pairs_cosine": 0.99}, dim=256)
    True
    """
    rank, cosine = quality.get("effective_rank"), quality.get("pairs_cosine")
    flat = rank is not None and not rank >= min(LEAST_EFFECTIVE_RANK, dim / 4)  # NaN is no rank, either.
    return flat or (cosine is not None and cosine > MOST_PAIRS_COSINE)


def spread_of(quality: Mapping[str, float | None]) -> str:
    """The figures behind `is_collapsed` in words, as far as they are defined.

    >>> spread_of({"effective_rank": 1.95, "neighbours_cosine": 0.99991, "pairs_cosine": 0.9971})
    "effective rank 1.95, neighbours' cosine 0.9999, cosine of all pairs 0.9971"
    """
    named = (
        ("effective rank", quality.get("effective_rank"), 2),
        ("neighbours' cosine", quality.get("neighbours_cosine"), 4),
        ("cosine of all pairs", quality.get("pairs_cosine"), 4),
    )
    return ", ".join(f"{name} {value:.{digits}f}" for name, value, digits in named if value is not None)


def factor_of(calibration: float) -> float:
    """How far predicted clicks are from real ones, as a factor of at least 1, whichever are more.

    >>> factor_of(0.5), factor_of(2.4)
    (2.0, 2.4)
    """
    return math.inf if calibration <= 0 else max(calibration, 1 / calibration)


def is_miscalibrated(calibration: float, clicks: int) -> bool:
    """Whether predicted clicks differ from real ones by more than `MOST_MISCALIBRATION` and chance.

    The logarithm of a number of n clicks has the standard error 1 / sqrt(n); two of them are allowed for.

    Args:
        calibration: predicted clicks divided by clicks.
        clicks: their number.

    >>> is_miscalibrated(2.4, clicks=400), is_miscalibrated(2.4, clicks=9)
    (True, False)
    """
    chance = 2 / math.sqrt(clicks) if clicks > 0 else math.inf
    return math.log(factor_of(calibration)) > math.log(MOST_MISCALIBRATION) + chance


def chance_error(positives: int, negatives: int) -> float:
    """The standard error of the AUC of scores that tell nothing (Mann and Whitney 1947); infinite without both classes.

    >>> round(chance_error(100, 400), 4)
    0.0323
    """
    if min(positives, negatives) < 1:
        return math.inf
    return math.sqrt((positives + negatives + 1) / (12 * positives * negatives))


def auc_with_error(users: np.ndarray, clicked: np.ndarray, score: np.ndarray) -> tuple[float, float]:
    """The AUC of one ranker and its standard error, where the impressions of a user are not independent.

    The variance is that of clustered ROC data (Obuchowski, Biometrics 53, 1997, section 2).

    Args:
        users: [N] any sortable ids. The error of a single user is infinite.
        clicked: [N] 0 or 1, both of them.
        score: [N] floats.
    """
    _, user = np.unique(users, return_inverse=True)
    positive, number = clicked > 0, int(user.max()) + 1
    ours, theirs = score[positive], score[~positive]
    below, above = np.sort(theirs), np.sort(ours)
    # The share of the other class that each impression beats, or is beaten by. Equal scores count half.
    won = (np.searchsorted(below, ours, "left") + np.searchsorted(below, ours, "right")) / (2 * len(theirs))
    lost = 1 - (np.searchsorted(above, theirs, "left") + np.searchsorted(above, theirs, "right")) / (2 * len(ours))
    auc = float(won.mean())
    of_positives = np.bincount(user[positive], won - auc, minlength=number) / len(ours)
    of_negatives = np.bincount(user[~positive], lost - auc, minlength=number) / len(theirs)
    with_positives, with_negatives = (len(np.unique(user[rows])) for rows in (positive, ~positive))
    variance = (
        with_positives / max(with_positives - 1, 1) * np.square(of_positives).sum()
        + with_negatives / max(with_negatives - 1, 1) * np.square(of_negatives).sum()
        + 2 * number / max(number - 1, 1) * (of_positives @ of_negatives)
    )
    return auc, float(np.sqrt(max(variance, 0.0))) if number > 1 else math.inf


def popularity_warning(
    auc: float | None, split: str, negatives: str | None, pool_days: int | None = None
) -> str | None:
    """Why popularity alone tells clicks from sampled negatives, and what helps; None where it does not.

    Args:
        auc: of the popularity in the train span as the score (`Evaluation.popularity_guard`).
        split: on which it was measured.
        negatives: how they were sampled (`IngestFacts`); None for a log of impressions, whose negatives are real.
        pool_days: days that popularity negatives reach back (`IngestFacts`).

    >>> popularity_warning(0.51, "valid", "4 per positive, popularity") is None
    True
    """
    if negatives is None or auc is None or POPULARITY_AUC[0] <= auc <= POPULARITY_AUC[1]:
        return None
    told = f"popularity alone has AUC {100 * auc:.2f} on {split}, so sampled negatives differ from clicks in it"
    if "uniform" in negatives:
        return f"{told}: they are drawn from all items alike. --negatives popularity draws them as clicks are."
    reach = "reach back" if pool_days is None else f"reach {pool_days} days back (median)"
    return (
        f"{told}: on days with few events they {reach}, to what was popular then. A lower --negatives-pool-events "
        "keeps them near their day."
    )
