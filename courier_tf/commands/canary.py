"""`courier canary`: says of a canary whether to promote it, to wait or to withdraw it."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from courier_tf.monitoring.canary import CanaryReport, Decision, JudgedCheck, judge_log
from courier_tf.monitoring.prometheus import canary_samples, write_samples
from courier_tf.monitoring.report_files import markdown_table, write_report
from courier_tf.monitoring.shown import read_shown
from courier_tf.settings.monitoring import CanarySettings

#: Decision -> exit code. 1 and 2 say that the command itself failed.
EXIT_CODES: Mapping[Decision, int] = {"promote": 0, "wait": 3, "withdraw": 4}
COLUMNS = ("model", "check", "stable", "canary", "difference", "from", "to", "tolerated", "")


def canary(
    log: Path, shown: Path | None, models: Sequence[str], limits: CanarySettings, out: Path | None
) -> CanaryReport:
    """Prints the checks and the decision, and ends the program with its exit code where that is not 0.

    Args:
        log: file or folder of a `RequestLog`.
        shown: table of what was shown; None where it is not known.
        models: to judge; none for all.
        limits: the tolerances.
        out: folder for canary.json, canary.md and canary.prom; None for no files.

    Raises:
        CanaryError: the log cannot be judged.
        ShownError: the table is broken.
    """
    report = judge_log(log, read_shown(shown) if shown else {}, models, limits)
    rows = [_row(model, check) for model, judged in report.models.items() for check in judged.checks]
    console = Console(markup=False, emoji=False, highlight=False)
    if rows:
        table = Table(*COLUMNS, title="Canary against stable, over all requests of the log")
        for row in rows:
            table.add_row(*row)
        console.print(table)
    console.print(f"{report.decision}:")
    for reason in report.reasons:
        console.print(f"- {reason}")
    if out:
        reasons = [f"- {reason}" for reason in report.reasons]
        write_report(
            out, "canary", report, [f"**{report.decision}**", "", *reasons, "", *markdown_table(COLUMNS, rows)]
        )
        write_samples(out, "canary", canary_samples(report))
    if EXIT_CODES[report.decision]:
        sys.stdout.flush()
        sys.exit(EXIT_CODES[report.decision])
    return report


def _row(model: str, check: JudgedCheck) -> list[str]:
    sides = ["" if figure is None else f"{figure:.4g}" for figure in (check.stable, check.canary)]
    numbers = [f"{number:+.3g}" for number in (check.difference, check.low, check.high)]
    return [model, check.name.replace("_", " "), *sides, *numbers, f"{check.tolerance:.3g}", check.state]
