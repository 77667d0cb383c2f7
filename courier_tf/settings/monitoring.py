"""The limits by which a canary and drift are judged."""

import dataclasses

from courier_tf.settings.checked import Checked


@dataclasses.dataclass(frozen=True)
class CanarySettings(Checked):
    """How much worse a canary may be than the stable version."""

    canary_min_requests: int = 1000
    """Requests to each of both labels, below which a model is not judged. The share of slow calls needs that many."""
    max_error_increase: float = 0.005
    """Most by which the share of failed calls may be higher."""
    max_latency_factor: float = 1.2
    """Most by which p50 and p99 of the latency may be longer, as a factor."""
    max_score_shift: float = 0.2
    """Most that the population stability index of the scores may be. A ranker that is meant to score otherwise needs
    more."""
    max_click_loss: float = 0.1
    """Most by which clicks per request may be fewer, as a share of those of the stable version."""
    max_calibration_loss: float = 0.1
    """Most by which |log(predicted clicks / clicks)| may be larger."""
    max_auc_loss: float = 0.02
    """Most by which the AUC may be lower."""


@dataclasses.dataclass(frozen=True)
class DriftSettings(Checked):
    """How far the requests of a log may be from the train span."""

    drift_min_users: int = 500
    """Users of a log below which drift is not judged."""
    max_score_drift: float = 0.2
    """Most that the population stability index of the trained ranker's scores may be."""
    max_category_drift: float = 0.2
    """Most that the population stability index of the candidates' categories may be."""
    max_unknown_item_increase: float = 0.05
    """Most by which the share of candidates that the catalogue does not have may be higher."""
    max_unknown_user_increase: float = 0.3
    """Most by which the share of pairs whose user the ranker does not know may be higher."""
    max_without_history_increase: float = 0.2
    """Most by which the share of pairs without a history may be higher."""
    max_history_factor: float = 2.0
    """Most by which the mean length of a history may differ, as a factor."""
    max_click_rate_factor: float = 1.5
    """Most by which the share of clicks may differ, as a factor. It is compared where clicks are given, and where the
    train span was a log of impressions."""
