"""What a run says at its end: how much the visual features helped, and where the results are."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from courier_tf import schema
from courier_tf.ranking.evaluation import MAIN_SLICES

COLUMNS = ("image feature", "slice", "AUC", "GAUC", "NDCG@10", "log loss", "gain in AUC over none (95 %)")
EXTREMES = 2  # Categories shown at each end of the category gates.


def percent(value: float | None) -> str:
    """A fraction as percentage points; a dash where it is not defined.

    >>> percent(0.5), percent(None)
    ('50.00', '-')
    """
    return "-" if value is None else f"{100 * value:.2f}"


def report(metrics: Mapping[str, Any], workdir: Path) -> None:
    """Prints the table of a run and the places of its results.

    Args:
        metrics: content of `metrics.json`.
        workdir: workdir of the run.
    """
    console = Console(markup=False, emoji=False)  # Categories may hold what looks like markup.
    split = "test" if "test" in metrics["gain_over_none"] else "valid"
    console.print(_table(metrics, split))
    for line in _lines(metrics, split):
        console.print(line)
    console.print(f"Rankers, embeddings and clusters: {workdir}; SavedModels for TF Serving: {workdir / 'models'}")
    card = workdir / schema.BUNDLE_FOLDER / schema.MODEL_CARD
    console.print(f"All figures: {workdir / 'metrics.json'}; model card: {card}")


def _table(metrics: Mapping[str, Any], split: str) -> Table:
    table = Table(title=f"Click prediction, {split} span (AUC, GAUC and NDCG in points)")
    for column in COLUMNS:
        table.add_column(column, overflow="fold")  # Names that are cut short cannot be told apart.
    for mode, by_split in metrics["ranking"].items():
        figures = {"all": by_split[split], **{name: by_split[split]["slices"][name] for name in MAIN_SLICES}}
        gains = metrics["gain_over_none"][split].get(mode, {})
        for name, part in figures.items():
            scores = [percent(part[key]) + _interval_of(part, key) for key in ("auc", "gauc", "ndcg@10")]
            loss = "-" if part["logloss"] is None else f"{part['logloss']:.4f}"
            table.add_row(mode, name, *scores, loss, _gain(gains.get(name)))
    return table


def _lines(metrics: Mapping[str, Any], split: str) -> Iterator[str]:
    for mode, openness in metrics["category_gates"].items():
        categories = sorted(openness, key=openness.__getitem__)
        if len(categories) > 2 * EXTREMES:
            categories = [*categories[:EXTREMES], *categories[-EXTREMES:]]
        shown = ", ".join(f"{category} {openness[category]:.2f}" for category in categories)
        yield f"category gate of {mode} (0 closed, 1 open), the extremes of {len(openness)} categories: {shown}"
    for stage, scores in metrics["held_out"].items():
        best, mean = percent(scores["best_new_to_user"]), percent(scores["mean_new_to_user"])
        yield f"AUC of the similarity to the history alone, {stage}: {best} (largest cosine), {mean} (mean cosine)"
    yield f"AUC of the popularity in the train span alone: {percent(metrics['popularity'][split]['auc'])}"


def _interval_of(part: Mapping[str, float], key: str) -> str:
    """The interval of a figure, where it has one."""
    if f"{key}_low" not in part:
        return ""
    return f" ({percent(part[f'{key}_low'])} to {percent(part[f'{key}_high'])})"


def _gain(gain: Mapping[str, float] | None) -> str:
    if gain is None:
        return ""
    return f"{100 * gain['gain']:+.2f}  ({100 * gain['low']:+.2f} to {100 * gain['high']:+.2f})"
