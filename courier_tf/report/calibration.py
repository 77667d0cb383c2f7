"""The section on calibration: predicted clicks beside clicks."""

from collections.abc import Iterator

import numpy as np

from courier_tf.ranking.comparison import VALID_FILE
from courier_tf.ranking.data import impression_batches
from courier_tf.ranking.predicting import PREDICT_BATCH
from courier_tf.report import charts
from courier_tf.report.blocks import Block, Paragraph, Table
from courier_tf.report.figures import figure
from courier_tf.report.workdir import Missing, Workdir
from courier_tf.settings.rank_modes import NO_VISUAL_FEATURE

BINS = 10


def blocks(work: Workdir) -> Iterator[Block]:
    """A reliability diagram of the served ranker and of that without photos, and the figures of all rankers."""
    split = work.splits[-1]
    rows = [
        (mode, figure(part["calibration"]), figure(part["calibration_error"]), figure(part["normalised_entropy"]))
        for mode, by_split in work.metrics["ranking"].items()
        for part in [by_split[split]]
    ]
    yield Table(
        f"Calibration, {split} span",
        ("ranker", "predicted clicks by clicks", "calibration error", "normalised entropy"),
        rows,
    )
    yield Paragraph(
        "1 predicted click for each click is right. The error is the mean distance of both in ten parts of the "
        "impressions. An entropy of 1 is that of a constant prediction; less is better."
    )
    series, clicked = {}, None
    for mode in dict.fromkeys([NO_VISUAL_FEATURE, work.mode]):
        file = work.rank.path / mode / VALID_FILE
        if not file.exists():
            continue
        probability = np.load(file)[work.rank.facts.best_start[mode]]
        clicked = clicked_of(work) if clicked is None else clicked
        if len(probability) != len(clicked):
            raise Missing("The predictions on the valid span are not those of its impressions.")
        series[mode] = reliability(clicked, probability)
    if series:
        yield charts.lines(
            "Predicted and real click rates, valid span",
            "One point for each tenth of the impressions, by their prediction. On the dotted line both rates are the "
            "same.",
            series,
            "mean prediction",
            "share of clicks",
            diagonal=True,
        )


def clicked_of(work: Workdir) -> np.ndarray:
    """[N] int: the clicks of the valid span, in the order of its predictions."""
    batches = impression_batches(work.ingest.path, "valid", history_length=1, batch_size=PREDICT_BATCH)
    return np.concatenate([batch["clicked"].numpy() for batch in batches])


def reliability(clicked: np.ndarray, probability: np.ndarray, bins: int = BINS) -> list[tuple[float, float]]:
    """(mean prediction, share of clicks) of parts with as many impressions each, in the order of predictions.

    Args:
        clicked: [N] 0 or 1.
        probability: [N] floats.
        bins: number of parts; fewer where there are fewer impressions.

    >>> reliability(np.array([0, 1, 1, 1]), np.array([0.1, 0.3, 0.5, 0.9]), bins=2)
    [(0.2, 0.5), (0.7, 1.0)]
    """
    order = np.argsort(probability, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    return [(float(probability[part].mean()), float(clicked[part].mean())) for part in parts]
