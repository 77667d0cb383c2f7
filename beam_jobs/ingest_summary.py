"""What the ingest job tells its driver, above all why it failed."""

import json
from collections.abc import Iterable
from typing import Any

from beam_jobs import catalogue, splits
from beam_jobs.items import Trace
from beam_jobs.rejects import Kinds, line_of
from beam_jobs.useful_columns import Counted
from courier_tf.files import transfer
from courier_tf.files.places import place_of

SUMMARY_FILE = "summary.json"


def write_summary(
    path: str,
    attempt: tuple[splits.Splits | None, str],
    rejects: Kinds,
    written: int,
    days: list[tuple[int, int, int]],
    unknown: catalogue.UnknownIds,
    largest: list[tuple[int, str]],
    columns: Counted,
    traces: Trace,
    first: tuple[int, list[tuple[str, int]]],
    broken: Iterable[str],
    counted: Iterable[tuple[str, int]],
    log_rows: Iterable[tuple[str, int]],
    log_counts: Iterable[tuple[tuple[str, str], int]],
    log_traces: Iterable[tuple[tuple[str, int], int]],
) -> None:
    """Writes the summary. `written`, the number of reject files, only makes it wait for them."""
    counts: dict[str, int] = {}
    for name, number in counted:
        counts[name] = counts.get(name, 0) + number
    cut, error = attempt
    summary: dict[str, Any] = {"splits": cut, "splits_error": error, "broken_files": sorted(broken)}
    summary |= {"counts": counts, "days": sorted(days), "unknown": unknown, "columns": columns, "traces": traces}
    summary["rejects"] = {kind: (number, [line_of(row) for row in first]) for kind, (number, first) in rejects.items()}
    summary["largest_user"] = largest[0] if largest else (0, "")
    summary["first"] = first
    summary |= {"log_rows": list(log_rows), "log_counts": list(log_counts), "log_traces": list(log_traces)}
    transfer.write_bytes(place_of(path), json.dumps(summary).encode())
