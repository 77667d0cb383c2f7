"""`courier evaluate-policy`: what an exported ranker would have got, by logged requests, shown items and clicks."""

from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from courier_tf import schema
from courier_tf.exporting.versions import newest_versions, version_directory
from courier_tf.monitoring.logged_lists import read_lists
from courier_tf.monitoring.off_policy import Estimate, PolicyReport, evaluate_policy
from courier_tf.monitoring.policies import Policy, PolicyError
from courier_tf.monitoring.ranked import with_context
from courier_tf.monitoring.report_files import markdown_table, write_report
from courier_tf.monitoring.shown import read_shown
from serving.bundle.graph_model import GraphModel
from serving.client.contract import CTR_RANKER, Request

COLUMNS = ("estimate", "clicks per request", "gain over the logged policy")


def show_policy(
    workdir: Path,
    log: Path,
    shown: Path,
    *,
    policy: Policy,
    logged_policy: Policy | None,
    positions: int,
    version: int | None,
    out: Path | None,
) -> PolicyReport:
    """Prints the estimates, and writes them where asked.

    Args:
        workdir: workdir of the new ranker.
        log: file or folder of a `RequestLog`.
        shown: table of `courier_tf.monitoring.shown`.
        policy: what the new ranker's scores become.
        logged_policy: what has shown the lists; None where the table has propensities.
        positions: how many count, from the top; 0 for all.
        version: of `ctr_ranker`; None for the newest.
        out: folder for evaluate_policy.json and evaluate_policy.md; None for no files.

    Raises:
        PolicyError: there is no such version.
        ShownError: the table is broken, or does not fit the log.
        PropensityError: propensities are missing or wrong.
    """
    models = workdir / schema.MODELS_FOLDER
    number = version or newest_versions(models, [CTR_RANKER]).get(CTR_RANKER)
    directory = version_directory(models, CTR_RANKER, number or 0)
    if number is None or not directory.is_dir():
        raise PolicyError(f"{models} holds no version {number or ''} of {CTR_RANKER}: run 'courier export' first")
    ranker = GraphModel(directory)

    def scores(request: Request) -> np.ndarray:
        names = ranker.signatures[request.signature].inputs  # The logged ranker may have had other context columns.
        inputs = with_context({name: request.inputs.get(name) for name in names}, len(request.inputs["user_id"]))
        return ranker.run(request.signature, inputs)["probability"]

    lists = read_lists(log, read_shown(shown), scores, positions, logged_policy)
    report = evaluate_policy(lists.lists, policy, lists.scores)
    title = f"Version {number} of {CTR_RANKER} with {policy}, on {report.requests:,} requests of {report.users:,} users"
    _print(report, title)
    if out:
        write_report(out, "evaluate_policy", report, _markdown(report, title))
    return report


def _rows(report: PolicyReport) -> list[tuple[str, str, str]]:
    rows = [("logged", _with_ends(report.logged.clicks_per_request, report.logged.low, report.logged.high), "")]
    for name, estimate in report.estimates.items():
        rows.append((name.replace("_", " "), *_figures(estimate)))
    return rows


def _figures(estimate: Estimate) -> tuple[str, str]:
    return (
        _with_ends(estimate.clicks_per_request, estimate.low, estimate.high),
        _with_ends(estimate.gain, estimate.gain_low, estimate.gain_high, "+"),
    )


def _with_ends(value: float, low: float | None, high: float | None, sign: str = "") -> str:
    ends = "no interval" if low is None or high is None else f"{low:{sign}.4f} to {high:{sign}.4f}"
    return f"{value:{sign}.4f} ({ends})"


def _overlap(report: PolicyReport) -> str:
    return (
        f"effective sample size {report.effective_size:,.0f} of {report.requests:,} requests; largest weight "
        f"{100 * report.largest_share:.1f} % of all"
    )


def _print(report: PolicyReport, title: str) -> None:
    table = Table(*COLUMNS, title=title)
    for row in _rows(report):
        table.add_row(*row)
    console = Console(markup=False, emoji=False)
    console.print(table)
    console.print(_overlap(report))
    for warning in report.warnings:
        console.print(f"warning: {warning}")


def _markdown(report: PolicyReport, title: str) -> list[str]:
    lines = [title, "", *markdown_table(COLUMNS, _rows(report)), "", f"Overlap: {_overlap(report)}.", ""]
    return [*lines, *(f"- **Warning:** {warning}." for warning in report.warnings)]
