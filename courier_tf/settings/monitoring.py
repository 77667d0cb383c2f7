"""The limits by which a canary is judged."""

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
