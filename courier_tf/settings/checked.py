"""Settings that make no sense are refused."""

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
                    option = name.replace("_", "-")
                    raise SettingsError(
                        f"{name} must lie between {low} and {high}, but is {number} (option --{option})"
                    )


# A number beyond these is a slip of the hand, which would fill memory or disk before it fails; NaN is beyond all.
_COUNT, _BATCH, _POSITIVE, _SHARE = (1, 1_000_000_000), (1, 10_000_000), (1e-12, 1e9), (0.0, 1.0)
_LIMIT, _FACTOR = (0.0, 1e6), (1.0, 1e6)

HIGHEST_SEED = 2**31  # NumPy takes 2^32; rankers add to it.

#: Setting -> the lowest and the highest value that makes sense, be it of each of several.
BOUNDS: dict[str, tuple[float, float]] = {
    "negatives_seed": (0, HIGHEST_SEED),
    "negatives_per_positive": (1, 1000),
    "image_size": (8, 1024),
    "page_view_size": (2, 1000),
    "history_kept": (1, 10_000),
    "shards": (1, 10_000),
    "shard_megabytes": (1, 100_000),
    "max_inline_gigabytes": _POSITIVE,
    "negatives_pool_events": _COUNT,
    "page_view_gap": _COUNT,
    "max_reject_fraction": _SHARE,
    "max_unknown_item_fraction": _SHARE,
    "max_anonymous_fraction": _SHARE,
    "max_missing_photo_fraction": _SHARE,
    "max_merged_fraction": _SHARE,
    "embedding_dim": (1, 16_384),
    "history_length": (1, 10_000),
    "temperature": _POSITIVE,
    "attention_scale": (0.0, 1e6),
    "drop_path": (0.0, 0.99),
    "supervised_steps": _COUNT,
    "supervised_batch_size": _BATCH,
    "supervised_learning_rate": _POSITIVE,
    "pretrain_steps": _COUNT,
    "pretrain_passes": (0, 1_000_000),
    "pretrain_batch_rows": _BATCH,
    "pretrain_learning_rate": _POSITIVE,
    "weight_decay": (0.0, 1e9),
    "backbone_learning_rate_factor": (0.0, 100.0),
    "head_first_steps": (0, 1_000_000_000),
    "checkpoint_every": _COUNT,
    "encode_chunk": (0, 10_000_000),
    "replicas": (0, 1024),
    "embed_batch_size": _BATCH,
    "clusters": (1, 1_000_000),
    "cluster_batch_size": _BATCH,
    "cluster_steps": _COUNT,
    "levels": (2, 16),
    "stay": _SHARE,
    "auc_tolerance": (0.0, 1.0),
    "calibration_tolerance": (0.0, 1e9),
    "canary_min_requests": (30, 1_000_000_000),
    "max_error_increase": _SHARE,
    "max_latency_factor": _FACTOR,
    "max_score_shift": _LIMIT,
    "max_click_loss": (0.0, 0.99),
    "max_calibration_loss": _LIMIT,
    "max_auc_loss": _SHARE,
    "drift_min_users": _COUNT,
    "max_score_drift": _LIMIT,
    "max_category_drift": _LIMIT,
    "max_unknown_item_increase": _SHARE,
    "max_unknown_user_increase": _SHARE,
    "max_without_history_increase": _SHARE,
    "max_history_factor": _FACTOR,
    "max_click_rate_factor": _FACTOR,
    "drift_min_events": _COUNT,
    "max_page_view_factor": _FACTOR,
    "max_volume_factor": _FACTOR,
    "max_column_drift": _LIMIT,
    "max_popularity_shift": _SHARE,
    "max_missing_increase": _SHARE,
    "max_reject_increase": _SHARE,
    "max_photo_size_factor": _FACTOR,
    "max_days_back": (0, 36_500),
    "rank_history_length": (1, 10_000),
    "rank_nearest_items": (0, 10_000),
    "rank_dim": (1, 16_384),
    "rank_epochs": _COUNT,
    "rank_batch_size": _BATCH,
    "rank_starts": (1, 1000),
    "rank_listwise_weight": (0.0, 0.99),
    "rank_learning_rates": _POSITIVE,
    "rank_cross_layers": (0, 16),
    "rank_hash_buckets": (0, 1_000_000_000),
    "rank_hash_above": (0, 1_000_000_000),
    "rank_min_item_impressions": _COUNT,
    "rank_min_user_page_views": _COUNT,
    "rank_checkpoint_every": _COUNT,
    "rank_replicas": (0, 1024),
}
