"""Measures the rankers of all modes on a split, and what each mode gains over the mode `none`, without photos."""

from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from courier_tf.ranking.evaluation import NEW_TO_USER, Evaluation, read_evaluation
from courier_tf.ranking.intervals import Gain, auc_intervals, paired_gain
from courier_tf.ranking.metrics import mean_of
from courier_tf.ranking.predicting import predict
from courier_tf.ranking.ranker_files import load_starts
from courier_tf.schema import SPLITS
from courier_tf.settings import RankSettings
from courier_tf.settings.rank_modes import NO_VISUAL_FEATURE, PERMUTED
from courier_tf.workdir import artefacts, records
from courier_tf.workdir.leakage import require_past_histories
from courier_tf.workdir.stages import INGEST

VALID_FILE = "valid.npy"  # The rank stage writes here what `predictions_of` gives for the valid split.


class Comparison(TypedDict):
    """What `compare` measures on a split. `RankFacts` has fields with the same names."""

    metrics: dict[str, Any]
    """Mode -> `SlicedMetrics`, means over the starts. AUC and GAUC have intervals (`auc_low`, `auc_high`, ...), overall
    and in the slice `new_to_user`."""
    gain_over_none: dict[str, dict[str, Gain | None]]
    """Mode -> slice -> gain in AUC; "all" stands for all impressions."""
    gauc_gain_over_none: dict[str, dict[str, Gain | None]]
    """The same in GAUC, for "all" and `new_to_user`."""
    gain_over_control: dict[str, dict[str, Gain | None]]
    """Mode -> gain in AUC over its permuted control, for "all" and `new_to_user`; empty where there is no control."""
    popularity: dict[str, float | None]
    """`Evaluation.popularity_guard`."""


def measure(ingest: Path, ranked: Path, settings: RankSettings, split: str) -> Comparison:
    """Measures the rankers of a finished rank stage on another split.

    Args:
        ingest: directory of the ingest stage.
        ranked: directory of the rank stage.
        settings: those that the rank stage ran with.
        split: train, valid or test.

    Raises:
        LeakageError: a history of the split holds what comes later.
    """
    facts = artefacts.read(ingest, INGEST).facts
    require_past_histories(ingest, SPLITS[: SPLITS.index(split) + 1])
    items = records.read_items(ingest, facts.all_columns)
    evaluation = read_evaluation(ingest, split, items, facts.repeat_columns, settings.rank_slice_columns)
    predictions = {mode: predictions_of(ingest, ranked, mode, settings, split) for mode in settings.rank_modes}
    return compare(evaluation, predictions)


def start_directory(ranked: Path, mode: str, start: int) -> Path:
    """Where the rank stage keeps the ranker of a mode and a start."""
    return ranked / mode / f"start_{start}"


def compare(evaluation: Evaluation, predictions: dict[str, np.ndarray]) -> Comparison:
    """Measures predictions on a split of N impressions.

    Args:
        evaluation: the split.
        predictions: mode -> [starts, N] probabilities.
    """
    everywhere = {"all": np.ones(len(evaluation.clicked), bool), **evaluation.slices}
    main = {name: everywhere[name] for name in ("all", NEW_TO_USER)}
    others = [mode for mode in predictions if mode != NO_VISUAL_FEATURE] if NO_VISUAL_FEATURE in predictions else []

    controls = {mode: f"{mode}{PERMUTED}" for mode in predictions if f"{mode}{PERMUTED}" in predictions}

    def gains(mode: str, other: str, parts: dict[str, np.ndarray], figure: str) -> dict[str, Gain | None]:
        sides = [predictions[side][:, None] for side in (mode, other)]
        return {
            name: paired_gain(
                evaluation.users[rows], evaluation.clicked[rows], *(side[..., rows] for side in sides), figure=figure
            )
            for name, rows in parts.items()
        }

    metrics: dict[str, Any] = {
        mode: mean_of([evaluation.metrics(probability) for probability in starts])
        for mode, starts in predictions.items()
    }
    for mode, starts in predictions.items():
        for name, rows in main.items():
            part = metrics[mode] if name == "all" else metrics[mode]["slices"][name]
            part |= auc_intervals(evaluation.users[rows], evaluation.clicked[rows], starts[:, rows])
    return {
        "metrics": metrics,
        "gain_over_none": {mode: gains(mode, NO_VISUAL_FEATURE, everywhere, "auc") for mode in others},
        "gauc_gain_over_none": {mode: gains(mode, NO_VISUAL_FEATURE, main, "gauc") for mode in others},
        "gain_over_control": {mode: gains(mode, control, main, "auc") for mode, control in controls.items()},
        "popularity": evaluation.popularity_guard(),
    }


def predictions_of(ingest: Path, ranked: Path, mode: str, settings: RankSettings, split: str) -> np.ndarray:
    """[starts, N] float32: the probabilities that all rankers of a mode give to the N impressions of a split."""
    directories = [start_directory(ranked, mode, start) for start in range(settings.rank_starts)]
    rankers = load_starts(directories)
    return np.stack([predict(ranker, ingest, split, settings.rank_history_length) for ranker in rankers])


def best_start(evaluation: Evaluation, starts: np.ndarray) -> int:
    """The number of the start with the lowest log loss.

    Args:
        evaluation: the valid split, of N impressions.
        starts: [starts, N] probabilities.
    """
    return int(np.argmin([evaluation.logloss(probability) for probability in starts]))
