"""What stands in `metrics.json`, as far as the verdict reads it; a test names only what matters to it."""

from collections.abc import Mapping, Sequence
from typing import Any

SOUND = {"effective_rank": 18.0, "neighbours_cosine": 0.95, "pairs_cosine": 0.3}


def gain_of(gain: float, low: float, high: float) -> dict[str, float]:
    """A gain with its interval."""
    return {"gain": gain, "low": low, "high": high, "error": (high - low) / 4}


def metrics_of(
    over_none: Mapping[str, Any] | None = None,
    over_control: Mapping[str, Any] | None = None,
    *,
    over_none_all: Mapping[str, Any] | None = None,
    over_control_all: Mapping[str, Any] | None = None,
    modes: Sequence[str] = ("none", "cluster_id", "cluster_id_permuted"),
    splits: Sequence[str] = ("valid",),
    auc: float = 0.65,
    auc_none: float = 0.6,
    calibration: float = 1.02,
    clicks: int = 800,
    clicks_all: int = 1000,
    quality: Mapping[str, float] = SOUND,
) -> dict[str, Any]:
    """The metrics of a run.

    Args:
        over_none, over_control: gains of every mode on candidates new to the user; the others on all impressions.
        modes, splits: of the run.
        auc, auc_none, calibration: on all impressions.
        clicks, clicks_all: on candidates new to the user, and on all impressions; a fifth of these is clicked.
        quality: of the clusters.
    """

    def part(mode: str, positives: int) -> dict[str, Any]:
        area = auc_none if mode == "none" else auc
        figures = {"auc": area, "gauc": area, "ndcg@10": 0.5, "logloss": 0.4, "calibration": calibration}
        return {**figures, "positives": positives, "impressions": 5 * positives}

    return {
        "ranking": {
            mode: {split: {**part(mode, clicks_all), "slices": {"new_to_user": part(mode, clicks)}} for split in splits}
            for mode in modes
        },
        "gain_over_none": {
            split: {mode: {"all": over_none_all, "new_to_user": over_none} for mode in modes if mode != "none"}
            for split in splits
        },
        "gain_over_control": {
            split: {
                mode: {"all": over_control_all, "new_to_user": over_control}
                for mode in modes
                if f"{mode}_permuted" in modes
            }
            for split in splits
        },
        "clusters": {"quality": quality, "embedding_dim": 256},
        "popularity": {split: {"auc": 0.5} for split in splits},
        "data": {"negatives": None, "valid_from": "2026-01-01", "test_from": "2026-01-08"},
    }
