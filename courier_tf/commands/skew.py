"""`courier skew`: compares a log of requests with the training data and the trained ranker."""

import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from courier_tf.monitoring.drift import DriftReport, drift_of
from courier_tf.monitoring.prometheus import drift_samples, write_samples
from courier_tf.monitoring.report_files import markdown_table, write_report
from courier_tf.monitoring.shown import read_shown
from courier_tf.monitoring.skew import SkewReport, compare_log
from courier_tf.settings.monitoring import DriftSettings

DRIFTED = 3  # Exit code. 1 and 2 say that the command itself failed, or that scores differ.
FEATURES, CHECKS = ("feature", "log", "train"), ("drift of", "change", "limit", "")


def skew(workdir: Path, log: Path, shown: Path | None, limits: DriftSettings, out: Path | None) -> DriftReport:
    """Prints what a log holds and what has drifted, and ends the program with `DRIFTED` where something has.

    Args:
        workdir: workdir of the models that were served.
        log: file or folder of a `RequestLog`.
        shown: table of what was shown; None where it is not known.
        limits: how far the log may be from training.
        out: folder for skew.json, skew.md and skew.prom; None for no files.

    Raises:
        ArtefactError: encoder, codebook and ranker do not belong together.
        ShownError: the table is broken.
        SkewError: the log has nothing to compare; or, after the table, served scores differ from the trained ranker's.
    """
    report = drift_of(compare_log(workdir, log, read_shown(shown) if shown else None), limits)
    console = Console(markup=False, emoji=False, highlight=False)
    for columns, rows, title in (
        (FEATURES, _features(report.skew), "Requests to ctr_ranker against the train span"),
        (CHECKS, _checks(report), "Drift"),
    ):
        table = Table(*columns, title=title)
        for row in rows:
            table.add_row(*row)
        console.print(table)
    lines = _lines(report)
    for line in lines:
        console.print(line)
    if out:
        tables = [*markdown_table(FEATURES, _features(report.skew)), "", *markdown_table(CHECKS, _checks(report))]
        write_report(out, "skew", report, [f"**{lines[0]}**", "", *lines[1:], "", *tables])
        write_samples(out, "skew", drift_samples(report))
    report.skew.scores.require_equal()
    if report.drifted:
        sys.stdout.flush()
        sys.exit(DRIFTED)
    return report


def _lines(report: DriftReport) -> list[str]:
    """What is said beside the tables, the outcome first."""
    scores, limits = report.skew.scores, report.limits
    outcome = f"drift: {', '.join(map(_words, report.drifted))}" if report.drifted else "no drift"
    if not report.judged:
        outcome = f"drift is not judged: {report.skew.users:,} users, and {limits.drift_min_users:,} are needed"
    lines = [
        outcome,
        f"scores compared with the trained ranker: {scores.compared:,}, largest difference "
        f"{scores.largest_difference:.2g}; of other versions: {scores.of_other_versions:,}",
    ]
    if staying := report.skew.items_not_in_nearest:
        lines.append(
            f"items that stay in a cluster which is not the nearest: {staying:,}. Their scores "
            "are those of their own cluster, cluster_id; image_embedder answers nearest_cluster_id of "
            "item_clusters.parquet"
        )
    return lines


def _features(skew: SkewReport) -> list[tuple[str, str, str]]:
    log, train = skew.log_features, skew.train_features
    return [(_words(name), _figure(log.get(name)), _figure(train.get(name))) for name in dict.fromkeys([*log, *train])]


def _checks(report: DriftReport) -> list[tuple[str, str, str, str]]:
    return [
        (_words(check.name), _figure(check.change), f"{check.limit:g}", "exceeded" if check.exceeded else "within")
        for check in report.checks
    ]


def _words(name: str) -> str:
    return name.replace("_", " ")


def _figure(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.4f}" if isinstance(value, float) else f"{value:,}"
