"""The section on gains: what each ranker scores on each slice, and what visual features add."""

from collections.abc import Iterator, Mapping
from typing import Any

from courier_tf.ranking.evaluation import MAIN_SLICES, NEW_TO_USER
from courier_tf.report import charts
from courier_tf.report.blocks import Block, Paragraph, Table
from courier_tf.report.figures import figure, gain, interval, percent
from courier_tf.report.workdir import Workdir

COLUMNS = ("slice", "impressions", "clicks", "AUC", "GAUC", "NDCG@10", "log loss", "gain over none", "over the control")


def blocks(work: Workdir) -> Iterator[Block]:
    """A chart of the gains, and a table for each ranker."""
    metrics = work.metrics
    for split in reversed(work.splits):
        gains = metrics["gain_over_none"][split]
        bars = [
            (f"{mode}, {name.replace('_', ' ')}", *_points(gains[mode][name]))
            for mode in gains
            for name in (NEW_TO_USER, "all")
            if gains[mode].get(name)
        ]
        if bars:
            yield charts.intervals(
                f"Gains over none, {split} span",
                "For each ranker a point and its 95 % interval, on candidates new to the user and on all. Right of the "
                "line at 0, visual features help.",
                bars,
                "gain in AUC, points",
            )
        else:
            yield Paragraph(f"Nothing is compared on the {split} span: the gain over none needs a second rank mode.")
    split = work.splits[-1]
    for mode, by_split in metrics["ranking"].items():
        yield Table(f"Ranker {mode}, {split} span", COLUMNS, list(_rows(metrics, mode, by_split[split], split)))
    yield Paragraph(
        "AUC, GAUC, NDCG and gains are in points: times 100. new_to_user: the user has a history, and the item is not "
        "in it. train_events: clicks of the item in the train span; with 0 it is cold, with up to 4 rare."
    )


def _points(part: Mapping[str, Any]) -> tuple[float, float | None, float | None]:
    low, high = part.get("low"), part.get("high")
    if low is None or high is None:
        return 100 * part["gain"], None, None
    return 100 * part["gain"], 100 * low, 100 * high


def _rows(metrics: Mapping[str, Any], mode: str, measured: Mapping[str, Any], split: str) -> Iterator[tuple[str, ...]]:
    over_none = metrics["gain_over_none"][split].get(mode, {})
    over_control = metrics["gain_over_control"][split].get(mode, {})
    slices = measured["slices"]
    for name, part in {"all": measured, **{name: slices[name] for name in MAIN_SLICES if name in slices}}.items():
        yield (
            name,
            figure(part["impressions"]),
            figure(part["positives"]),
            *(percent(part[key]) + interval(part, key) for key in ("auc", "gauc", "ndcg@10")),
            figure(part["logloss"]),
            gain(over_none.get(name)),
            gain(over_control.get(name)),
        )
