"""Settings that make no sense are refused."""

import math
from typing import Any

from courier_tf.typed_json import JsonError, require_kind


class SettingsError(ValueError):
    """A setting has a value that makes no sense; the message names both."""


def require_type(what: str, value: Any, kind: Any) -> None:
    """Refuses a value, named `what`, of another type than `kind`, with all that it holds.

    Raises:
        SettingsError: it is of another.
    """
    try:
        require_kind(what, value, kind)
    except JsonError as error:
        raise SettingsError(str(error)) from error


class Checked:
    """Refuses values outside their bounds when a settings object is made."""

    def __post_init__(self) -> None:
        for name, (low, high) in BOUNDS.items():
            value = getattr(self, name, None)
            for number in value if isinstance(value, tuple) else (value,):
                if number is not None and not low <= number <= high:
                    raise SettingsError(f"{name} must lie between {low} and {high}, but is {number}")


_AT_LEAST_ONE, _POSITIVE, _SHARE = (1, math.inf), (1e-12, math.inf), (0.0, 1.0)

#: Setting -> the lowest and the highest value that makes sense, be it of each of several.
BOUNDS: dict[str, tuple[float, float]] = {
    "negatives_per_positive": _AT_LEAST_ONE,
    "image_size": (8, 1024),
    "page_view_size": (2, 1000),
    "history_kept": _AT_LEAST_ONE,
    "shards": _AT_LEAST_ONE,
    "negatives_pool_events": _AT_LEAST_ONE,
    "page_view_gap": _AT_LEAST_ONE,
    "max_reject_fraction": _SHARE,
    "max_unknown_item_fraction": _SHARE,
    "max_anonymous_fraction": _SHARE,
    "max_missing_photo_fraction": _SHARE,
    "max_merged_fraction": _SHARE,
    "embedding_dim": _AT_LEAST_ONE,
    "history_length": _AT_LEAST_ONE,
    "temperature": _POSITIVE,
    "drop_path": (0.0, 0.99),
    "supervised_steps": _AT_LEAST_ONE,
    "supervised_batch_size": _AT_LEAST_ONE,
    "supervised_learning_rate": _POSITIVE,
    "pretrain_steps": _AT_LEAST_ONE,
    "pretrain_batch_rows": _AT_LEAST_ONE,
    "pretrain_learning_rate": _POSITIVE,
    "weight_decay": (0.0, math.inf),
    "checkpoint_every": _AT_LEAST_ONE,
    "encode_chunk": (0, math.inf),
    "replicas": (0, math.inf),
    "embed_batch_size": _AT_LEAST_ONE,
    "clusters": _AT_LEAST_ONE,
    "cluster_batch_size": _AT_LEAST_ONE,
    "cluster_steps": _AT_LEAST_ONE,
    "levels": (2, 16),
    "stay": _SHARE,
    "auc_tolerance": (0.0, 1.0),
    "calibration_tolerance": (0.0, math.inf),
    "rank_history_length": _AT_LEAST_ONE,
    "rank_dim": _AT_LEAST_ONE,
    "rank_epochs": _AT_LEAST_ONE,
    "rank_batch_size": _AT_LEAST_ONE,
    "rank_starts": _AT_LEAST_ONE,
    "rank_learning_rates": _POSITIVE,
    "rank_cross_layers": (0, 16),
    "rank_hash_buckets": (0, math.inf),
    "rank_min_item_impressions": _AT_LEAST_ONE,
    "rank_min_user_page_views": _AT_LEAST_ONE,
    "rank_checkpoint_every": _AT_LEAST_ONE,
    "rank_replicas": (0, math.inf),
}
