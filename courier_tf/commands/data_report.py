"""`courier data-report`: what the data of a run hold, and what has drifted since the previous run."""

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from courier_tf.commands.skew import DRIFTED
from courier_tf.monitoring.data_drift import Data, DataDriftReport, report_of
from courier_tf.monitoring.report_files import markdown_table, write_report
from courier_tf.settings.monitoring import DataDriftSettings

FIGURES, CHECKS = ("figure", "this run", "previous run"), ("drift of", "change", "limit", "")


def data_report(workdir: Path, previous: Path | None, limits: DataDriftSettings, out: Path | None) -> None:
    """Prints the figures of the data and what has drifted, and ends the program with `DRIFTED` where something has.

    Args:
        workdir: with a finished ingest.
        previous: the same of the previous run; None where nothing is compared.
        limits: how far the data may be from those of the previous run.
        out: folder for data_report.json and data_report.md; None for no files.

    Raises:
        StatisticsError: a workdir has no statistics of its data.
        DataSchemaError: after the tables, the schema is not that of the previous run.
    """
    report = report_of(Data.read(workdir), Data.read(previous) if previous else None, limits)
    console = Console(markup=False, emoji=False, highlight=False)
    tables: list[tuple[Sequence[str], Sequence[Sequence[str]], str]] = [
        (FIGURES, _figures(report), f"Data of {workdir}")
    ]
    if previous:
        tables.append((CHECKS, _checks(report), "Drift"))
    for columns, rows, title in tables:
        table = Table(*columns, title=title)
        for row in rows:
            table.add_row(*row)
        console.print(table)
    outcome = _outcome(report, previous)
    console.print(outcome)
    if out:
        lines = [line for columns, rows, _ in tables for line in ("", *markdown_table(columns, rows))]
        write_report(out, "data_report", report, [f"**{outcome}**", *(f"\n{line}." for line in report.broken), *lines])
    report.require_one_schema()
    if report.drifted:
        sys.stdout.flush()
        sys.exit(DRIFTED)


def _outcome(report: DataDriftReport, previous: Path | None) -> str:
    if previous is None:
        return "nothing is compared: --previous names the workdir of the previous run"
    if report.broken:
        return "the schema is broken"
    if not report.judged:
        return f"drift is not judged: {report.limits.drift_min_events:,} events are needed in both runs"
    return f"drift: {', '.join(map(_words, report.drifted))}" if report.drifted else "no drift"


def _figures(report: DataDriftReport) -> list[tuple[str, ...]]:
    names = dict.fromkeys([*report.figures, *report.previous_figures])
    both = (report.figures, report.previous_figures)
    return [(_words(name), *(_figure(figures.get(name)) for figures in both)) for name in names]


def _checks(report: DataDriftReport) -> list[tuple[str, ...]]:
    return [
        (_words(check.name), f"{check.change:,.4f}", f"{check.limit:g}", "exceeded" if check.exceeded else "within")
        for check in report.checks
    ]


def _words(name: str) -> str:
    return name if "'" in name else name.replace("_", " ")


def _figure(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.4f}" if isinstance(value, float) else f"{value:,}"
