"""Reports as metrics for Prometheus, in files that its node exporter reads (`--collector.textfile.directory`).

TensorFlow Serving's own metrics know neither labels nor what a ranker's probabilities are worth. Logged calls do.
"""

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from courier_tf.monitoring.canary import CanaryReport, ModelReport
from courier_tf.monitoring.canary_log import CANARY, STABLE
from courier_tf.monitoring.drift import DriftReport
from courier_tf.workdir.atomic import write_file

#: Metric -> what it is.
HELP = {
    "courier_label_requests": "Logged calls since the canary began.",
    "courier_label_figure": "Figure of a label: share of errors, seconds, clicks per request, calibration, AUC.",
    "courier_canary_difference": "How much worse the canary is: see serving/README.md for the units.",
    "courier_canary_tolerance": "Most that the difference may be.",
    "courier_canary_decision": "1 for the decision of courier canary, 0 for the others.",
    "courier_drift_change": "Change of the log against training: stability index, difference of shares, or factor.",
    "courier_drift_limit": "Most that the change may be.",
    "courier_drift_judged": "1 where the log has enough users.",
    "courier_skew_share": "Share of served scores that differ from the trained ranker's.",
}
DECISIONS = ("promote", "wait", "withdraw")


class Sample(NamedTuple):
    """One value of a metric, a gauge."""

    name: str
    labels: dict[str, str]
    value: float


def write_samples(folder: Path, name: str, samples: Iterable[Sample]) -> None:
    """Writes NAME.prom, whole at once: the node exporter may read it at any moment. What is no number is left out."""
    folder.mkdir(parents=True, exist_ok=True)
    write_file(folder / f"{name}.prom", text_of(samples))


def text_of(samples: Iterable[Sample]) -> str:
    r"""The text that Prometheus reads.

    >>> text_of([Sample("courier_drift_judged", {"model": 'a"b'}, 1.0)]).splitlines()[-1]
    'courier_drift_judged{model="a\\"b"} 1'
    """
    finite = [sample for sample in samples if math.isfinite(sample.value)]
    lines = []
    for name, text in HELP.items():
        mine = [f"{name}{_labels(sample.labels)} {sample.value:.10g}" for sample in finite if sample.name == name]
        if mine:
            lines += [f"# HELP {name} {text}", f"# TYPE {name} gauge", *mine]
    return "\n".join(lines) + "\n"


def canary_samples(report: CanaryReport) -> Iterator[Sample]:
    """Requests and figures by model, label and version; differences with what is tolerated; the decision."""
    for decision in DECISIONS:
        yield Sample("courier_canary_decision", {"decision": decision}, float(decision == report.decision))
    for model, judged in report.models.items():
        yield from _model_samples(model, judged)


def drift_samples(report: DriftReport) -> Iterator[Sample]:
    """Changes with their limits, whether they are judged, and the share of scores that differ."""
    yield Sample("courier_drift_judged", {}, float(report.judged))
    yield Sample("courier_skew_share", {}, report.skew.scores.share_that_differs)
    for check in report.checks:
        yield Sample("courier_drift_change", {"feature": check.name}, check.change)
        yield Sample("courier_drift_limit", {"feature": check.name}, check.limit)


def _model_samples(model: str, judged: ModelReport) -> Iterator[Sample]:
    sides = {
        STABLE: (judged.stable_version, judged.stable_requests),
        CANARY: (judged.canary_version, judged.canary_requests),
    }
    labels = {
        label: {"model": model, "label": label, "version": "" if version is None else str(version)}
        for label, (version, _) in sides.items()
    }
    for label, (_, requests) in sides.items():
        yield Sample("courier_label_requests", labels[label], requests)
    for check in judged.checks:
        for label, figure in ((STABLE, check.stable), (CANARY, check.canary)):
            if figure is not None:
                yield Sample("courier_label_figure", labels[label] | {"figure": check.name}, figure)
        yield Sample("courier_canary_difference", {"model": model, "figure": check.name}, check.difference)
        yield Sample("courier_canary_tolerance", {"model": model, "figure": check.name}, check.tolerance)


def _labels(labels: dict[str, str]) -> str:
    if not labels:
        return ""
    escaped = (
        (name, value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")) for name, value in labels.items()
    )
    return "{" + ",".join(f'{name}="{value}"' for name, value in escaped) + "}"
