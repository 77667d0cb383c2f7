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


@dataclasses.dataclass(frozen=True)
class DataDriftSettings(Checked):
    """How far the data of an ingest may be from those of the previous run."""

    drift_min_events: int = 1000
    """Events of either run below which drift is not judged."""
    max_click_rate_factor: float = 1.5
    """Most by which the share of clicks may differ, as a factor. It is compared between logs of impressions."""
    max_history_factor: float = 2.0
    """Most by which the mean length of a history may differ, as a factor."""
    max_page_view_factor: float = 2.0
    """Most by which the mean number of items of a page view may differ, as a factor."""
    max_volume_factor: float = 2.0
    """Most by which events per day, and the number of items, may differ, as a factor."""
    max_category_drift: float = 0.2
    """Most that the population stability index of the categories of the events may be."""
    max_column_drift: float = 0.25
    """Most that the population stability index of the values of an item column may be, over the items. Columns with
    more than 100 values are not compared by it."""
    max_popularity_shift: float = 0.1
    """Most by which the share of the events that the most popular tenth of the items has may differ."""
    max_missing_increase: float = 0.05
    """Most by which the share of items without a photo, or without a value of a column, may be higher."""
    max_reject_increase: float = 0.02
    """Most by which the share of each kind of loss may be higher, such as events of items that are not in the
    catalogue."""
    max_photo_size_factor: float = 2.0
    """Most by which the mean width or height of the photos may differ, as a factor."""
    max_days_back: int = 0
    """Most days by which the log may end earlier than that of the previous run."""
