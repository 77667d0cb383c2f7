"""`report.txt` of a workdir: the table of all slices, and what stands beside the verdict."""

import io
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from courier_tf.escaping import printable
from courier_tf.ranking.evaluation import MAIN_SLICES
from courier_tf.ranking.soundness import spread_of
from courier_tf.ranking.verdict import WIDEST, verdict
from courier_tf.report import encoder_scores
from courier_tf.report.figures import gain, interval, percent
from courier_tf.workdir.atomic import write_file

REPORT_FILE = "report.txt"
COLUMNS = ("visual feature", "slice", "clicks", "AUC", "GAUC", "NDCG@10", "log loss", "gain in AUC over none (95 %)")
WIDTH = 160  # Characters of a line of the table.
EXTREMES = 2  # Categories shown at each end of the category gates.


def write_report(metrics: Mapping[str, Any], workdir: Path) -> Path:
    """Writes `REPORT_FILE` into a workdir; returns its path.

    Args:
        metrics: content of `metrics.json`.
        workdir: workdir of the run.
    """
    split = "test" if "test" in metrics["gain_over_none"] else "valid"
    judged, stream = verdict(metrics), io.StringIO()
    console = Console(file=stream, width=WIDTH, markup=False, emoji=False, highlight=False)
    sentence = textwrap.wrap(judged.sentence, WIDEST, break_on_hyphens=False)
    for line in (*sentence, *judged.rows, "", *_lines(metrics, split), ""):
        console.print(line)
    console.print(_table(metrics, split))
    write_file(workdir / REPORT_FILE, stream.getvalue())
    return workdir / REPORT_FILE


def _table(metrics: Mapping[str, Any], split: str) -> Table:
    table = Table(title=f"Click prediction, {split} span (AUC, GAUC and NDCG in points)")
    for column in COLUMNS:
        table.add_column(column, overflow="fold")  # Names that are cut short cannot be told apart.
    for mode, by_split in metrics["ranking"].items():
        figures = {"all": by_split[split], **{name: by_split[split]["slices"][name] for name in MAIN_SLICES}}
        gains = metrics["gain_over_none"][split].get(mode, {})
        for name, part in figures.items():
            scores = [percent(part[key]) + interval(part, key) for key in ("auc", "gauc", "ndcg@10")]
            loss = "-" if part["logloss"] is None else f"{part['logloss']:.4f}"
            table.add_row(mode, name, f"{part['positives']:,}", *scores, loss, gain(gains.get(name)))
    return table


def _lines(metrics: Mapping[str, Any], split: str) -> Iterator[str]:
    data = metrics["data"]
    chosen = "test, which no ranker was chosen on" if split == "test" else "valid, on which the rankers were chosen too"
    yield f"Figures of {chosen}. Valid begins on {data['valid_from']}, test on {data['test_from']} (UTC)."
    for mode, by_split in metrics["ranking"].items():
        if (calibration := by_split[split]["calibration"]) is not None:
            yield f"Predicted clicks by clicks, {mode}: {calibration:.3f}"
    if spread := spread_of(metrics["clusters"]["quality"]):
        yield f"Spread of the embeddings: {spread}"
    for mode, openness in metrics["category_gates"].items():
        categories = sorted(openness, key=openness.__getitem__)
        if len(categories) > 2 * EXTREMES:
            categories = [*categories[:EXTREMES], *categories[-EXTREMES:]]
        shown = ", ".join(f"{printable(category)} {openness[category]:.2f}" for category in categories)
        yield f"Category gate of {mode} (0 closed, 1 open), the extremes of {len(openness)} categories: {shown}"
    yield f"{encoder_scores.TITLE}:"
    for name, *figures in encoder_scores.rows(metrics["held_out"]):
        named = (f"{figure} ({what})" for figure, what in zip(figures, encoder_scores.COLUMNS, strict=True))
        yield f"  {name}: {', '.join(named)}"
    yield f"AUC of the popularity in the train span alone: {percent(metrics['popularity'][split]['auc'])}"
