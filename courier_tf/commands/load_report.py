"""What a load test has measured: latencies, errors and throughput, as a table, a file and a plot."""

import dataclasses
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, TypedDict

import numpy as np
from rich.console import Console
from rich.table import Table

from courier_tf.escaping import printable
from courier_tf.workdir.atomic import write_file

REPORT_FILE, PLOT_FILE = "load_test.json", "load_test.png"
ANSWERED = "OK"  # The status code of an answer without an error.


class Sent(NamedTuple):
    """One request of the test. Times in seconds since the start; the latency counts from `due`."""

    kind: str  # From `kind_of` or `signature_of`.
    due: float
    latency: float
    code: str  # The status code of gRPC.


class Summary(TypedDict):
    """Figures of some requests. Latencies are those of answers, in milliseconds; None where there are no answers."""

    requests: int
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    errors: dict[str, int]
    answers_per_second: float


@dataclasses.dataclass(frozen=True)
class LoadReport:
    """What stands in REPORT_FILE.

    Attributes:
        target: host:port of the server.
        server: what answered there.
        rate: requests per second.
        seconds: duration of the test.
        kinds: kind of request, or "all" -> its figures.
    """

    target: str
    server: str
    rate: float
    seconds: float
    kinds: dict[str, Summary]


def summarise(sent: Sequence[Sent], seconds: float) -> dict[str, Summary]:
    """The figures of all requests and of each kind.

    >>> summarise([Sent("rank", 0.0, 0.004, "OK"), Sent("rank", 0.5, 1.0, "UNAVAILABLE")], 2.0)["all"]["errors"]
    {'UNAVAILABLE': 1}
    """
    kinds = sorted({request.kind for request in sent})
    parts = {kind: [request for request in sent if request.kind == kind] for kind in kinds}
    return {kind: _summary(part, seconds) for kind, part in {"all": sent, **parts}.items()}


def report(sent: Sequence[Sent], target: str, server: str, rate: float, seconds: float, out: Path) -> LoadReport:
    """Prints the table, and writes REPORT_FILE and PLOT_FILE.

    Args:
        sent: the requests.
        target, server, rate, seconds: as in `LoadReport`.
        out: folder to write.
    """
    result = LoadReport(target, server, rate, seconds, summarise(sent, seconds))
    out.mkdir(parents=True, exist_ok=True)
    write_file(out / REPORT_FILE, json.dumps(dataclasses.asdict(result), indent=2))
    Console(markup=False, emoji=False).print(_table(result))
    _plot(sent, result, out / PLOT_FILE)
    return result


def _summary(sent: Sequence[Sent], seconds: float) -> Summary:
    answered = np.array([1000 * request.latency for request in sent if request.code == ANSWERED])
    # The time until the last answer, where the server fell behind.
    span = max([seconds, *(request.due + request.latency for request in sent)])
    p50, p95, p99 = (float(value) for value in np.percentile(answered, (50, 95, 99))) if len(answered) else [None] * 3
    return {
        "requests": len(sent),
        "p50_ms": p50,
        "p95_ms": p95,
        "p99_ms": p99,
        "errors": dict(Counter(request.code for request in sent if request.code != ANSWERED)),
        "answers_per_second": len(answered) / span,
    }


def _table(result: LoadReport) -> Table:
    at = f"{printable(result.target)} ({printable(result.server)})"
    table = Table(title=f"{result.rate:g} requests/s for {result.seconds:g} s, {at}")
    for column in ("request", "number", "p50 ms", "p95 ms", "p99 ms", "errors", "answers/s"):
        table.add_column(column, justify="left" if column == "request" else "right")
    for kind, figures in result.kinds.items():
        latencies = (figures["p50_ms"], figures["p95_ms"], figures["p99_ms"])
        table.add_row(
            printable(kind),
            str(figures["requests"]),
            *("-" if value is None else f"{value:.1f}" for value in latencies),
            ", ".join(f"{number} {code}" for code, number in figures["errors"].items()) or "0",
            f"{figures['answers_per_second']:.1f}",
        )
    return table


def _plot(sent: Sequence[Sent], result: LoadReport, file: Path) -> None:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, (over_time, shares) = pyplot.subplots(1, 2, figsize=(12, 4.5))
    for model in sorted({request.kind.split()[0] for request in sent}):
        answered = [request for request in sent if request.kind.split()[0] == model and request.code == ANSWERED]
        latency = np.array([1000 * request.latency for request in answered])
        over_time.plot([request.due for request in answered], latency, ".", markersize=3)
        shares.plot(np.sort(latency), np.arange(1, len(latency) + 1) / max(1, len(latency)), label=printable(model))
    failed = [request.due for request in sent if request.code != ANSWERED]
    over_time.plot(failed, [1000 * result.seconds] * len(failed), "rx")
    over_time.set(xlabel="seconds", ylabel="latency, ms", yscale="log", title="each request (x: errors)")
    shares.set(xlabel="latency, ms", ylabel="share of the requests", xscale="log", title=f"{result.rate:g} requests/s")
    for text in shares.legend().get_texts():
        text.set_parse_math(False)  # A `$` in a name is no formula.
    figure.tight_layout()
    figure.savefig(file, dpi=110)
    pyplot.close(figure)
