"""What a run says at its end: what it made, and how much looks helped."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from courier_tf import schema
from courier_tf.ranking.evaluation import MAIN_SLICES


def percent(value: float | None) -> str:
    """A share as percentage points; a dash where it is not defined."""
    return "-" if value is None else f"{100 * value:.2f}"


def report(metrics: dict[str, Any], workdir: Path) -> None:
    """Prints the tables of a run."""
    console = Console(markup=False, emoji=False)  # Categories are the words of the shop.
    split = "test" if "test" in metrics["gain_over_none"] else "valid"
    table = Table(title=f"Click prediction, {split} span (AUC, GAUC and NDCG in points)")
    for column in ("image feature", "slice", "AUC", "GAUC", "NDCG@10", "log loss", "gain in AUC over none (95 %)"):
        table.add_column(column, overflow="fold")  # Names that are cut short cannot be told apart.
    for mode, found in metrics["ranking"].items():
        for name in ("all", *MAIN_SLICES):
            part = found[split] if name == "all" else found[split]["slices"][name]
            gain = metrics["gain_over_none"][split].get(mode, {}).get(name)
            interval = "" if gain is None else f"{100 * gain['gain']:+.2f}  " + _interval(gain)
            loss = "-" if part["logloss"] is None else f"{part['logloss']:.4f}"
            values = [percent(part[key]) + _ends(part, key) for key in ("auc", "gauc", "ndcg@10")]
            table.add_row(mode, name, *values, loss, interval)
    console.print(table)
    for mode, gates in metrics["category_gates"].items():
        ordered = sorted(gates, key=gates.__getitem__)
        ends = ordered if len(ordered) <= 4 else [*ordered[:2], *ordered[-2:]]
        shown = ", ".join(f"{category} {gates[category]:.2f}" for category in ends)
        console.print(f"gate of {mode}, 0 shut to 1 open, the extreme categories of {len(gates)}: {shown}")
    for stage, found in metrics["held_out"].items():
        best, mean = found["best_new_to_user"], found["mean_new_to_user"]
        console.print(f"similarity to the history alone, {stage}: AUC {percent(best)} (best) {percent(mean)} (mean)")
    console.print(f"popularity in the train span alone: AUC {percent(metrics['popularity'][split]['auc'])}")
    console.print(f"Rankers, embeddings and clusters: {workdir}; SavedModels for TF Serving: {workdir / 'models'}")
    card = workdir / schema.BUNDLE_FOLDER / schema.MODEL_CARD
    console.print(f"All figures: {workdir / 'metrics.json'}; model card: {card}")


def _ends(part: dict[str, float], key: str) -> str:
    """Of a figure, where it has some."""
    if f"{key}_low" not in part:
        return ""
    return f" ({percent(part[f'{key}_low'])} to {percent(part[f'{key}_high'])})"


def _interval(gain: dict[str, float]) -> str:
    return f"({100 * gain['low']:+.2f} to {100 * gain['high']:+.2f})"
