"""What the rankers of all modes achieve on a split, and what each gains over the one without photos."""

from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from courier_tf.ranking.evaluation import NEW_TO_USER, Evaluation, read_evaluation
from courier_tf.ranking.fit import predict
from courier_tf.ranking.intervals import auc_intervals, paired_gain
from courier_tf.ranking.metrics import logloss, mean_of
from courier_tf.ranking.ranker_files import load_ranker
from courier_tf.schema import SPLITS
from courier_tf.settings import RankSettings
from courier_tf.settings.rank_modes import NO_IMAGE_FEATURE
from courier_tf.workdir import artefacts, records
from courier_tf.workdir.leakage import require_past_histories
from courier_tf.workdir.stages import INGEST

VALID_FILE = "valid.npy"  # Predictions of a mode on valid, as of `predictions_of`; the rank stage writes it.


class Comparison(TypedDict):
    """What `compare` measures. The fields of `RankFacts` with these names say what they hold."""

    metrics: dict[str, Any]
    gain_over_none: dict[str, Any]
    gauc_gain_over_none: dict[str, Any]
    popularity: dict[str, Any]


def measure(ingest: Path, ranked: Path, settings: RankSettings, split: str) -> Comparison:
    """The metrics of the rankers of a finished rank stage on another split, as `compare` gives them.

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
    """Measures the predictions of all modes, each [starts, N], on one split of N impressions.

    Returns:
        {"metrics": {mode: means over the starts; of AUC and GAUC, overall and in the headline, with intervals},
        "gain_over_none": {mode: {slice: gain with interval}}, "gauc_gain_over_none": the same of GAUC, overall and in
        the headline, "popularity": the guard}.
    """
    everywhere = {"all": np.ones(len(evaluation.clicked), bool), **evaluation.slices}
    main = {name: everywhere[name] for name in ("all", NEW_TO_USER)}
    others = [mode for mode in predictions if mode != NO_IMAGE_FEATURE] if NO_IMAGE_FEATURE in predictions else []

    def gains(mode: str, parts: dict[str, np.ndarray], figure: str) -> dict[str, dict[str, float] | None]:
        sides = [predictions[side][:, None] for side in (mode, NO_IMAGE_FEATURE)]
        return {
            name: paired_gain(
                evaluation.users[rows], evaluation.clicked[rows], *(side[..., rows] for side in sides), figure=figure
            )
            for name, rows in parts.items()
        }

    metrics = {
        mode: mean_of([evaluation.metrics(probability) for probability in starts])
        for mode, starts in predictions.items()
    }
    for mode, starts in predictions.items():
        for name, rows in main.items():
            part = metrics[mode] if name == "all" else metrics[mode]["slices"][name]
            part |= auc_intervals(evaluation.users[rows], evaluation.clicked[rows], starts[:, rows])
    return {
        "metrics": metrics,
        "gain_over_none": {mode: gains(mode, everywhere, "auc") for mode in others},
        "gauc_gain_over_none": {mode: gains(mode, main, "gauc") for mode in others},
        "popularity": evaluation.popularity_guard(),
    }


def predictions_of(ingest: Path, ranked: Path, mode: str, settings: RankSettings, split: str) -> np.ndarray:
    """[starts, N] probabilities of a split by all rankers of a mode."""
    directories = (start_directory(ranked, mode, start) for start in range(settings.rank_starts))
    return np.stack([predict(load_ranker(path), ingest, split, settings.rank_history_length) for path in directories])


def best_start(evaluation: Evaluation, starts: np.ndarray) -> int:
    """The start with the lowest log loss on valid."""
    return int(np.argmin([logloss(evaluation.clicked, probability) for probability in starts]))
