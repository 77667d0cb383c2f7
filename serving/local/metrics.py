"""Counts requests and their times, and writes them for Prometheus under the names of TensorFlow Serving."""

import bisect
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple


class Metric(NamedTuple):
    """A metric, the names of its labels, and the upper bounds of its buckets (none for a counter)."""

    name: str
    labels: tuple[str, ...]
    bounds: tuple[float, ...] = ()


#: Microseconds, up to about 20 minutes.
_TIMES = tuple(10 * 1.8**power for power in range(33))
REQUEST_COUNT = Metric("request_count", ("model_name", "status"))
REQUEST_LATENCY = Metric("request_latency", ("model_name", "API", "entrypoint"), _TIMES)
RUNTIME_LATENCY = Metric("runtime_latency", ("model_name", "API", "runtime"), _TIMES)
EXAMPLE_COUNTS = Metric("request_example_counts", ("model",), tuple(2.0**power for power in range(15)))
EXAMPLE_COUNT_TOTAL = Metric("request_example_count_total", ("model",))
WARM_UP_LATENCY = Metric("model_warmup_latency", ("model_path", "status"), _TIMES)
PREFIX = ":tensorflow:serving:"


class Metrics:
    """What a server has counted since it started. Several threads may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[Metric, Counter[tuple[str, ...]]] = defaultdict(Counter)
        self._buckets: dict[Metric, dict[tuple[str, ...], list[int]]] = defaultdict(dict)
        self._sums: dict[Metric, Counter[tuple[str, ...]]] = defaultdict(Counter)

    def count(self, metric: Metric, *labels: str, by: int = 1) -> None:
        """Adds to a counter."""
        with self._lock:
            self._counts[metric][labels] += by

    def observe(self, metric: Metric, value: float, *labels: str) -> None:
        """Adds a value to a histogram."""
        with self._lock:
            buckets = self._buckets[metric].setdefault(labels, [0] * (len(metric.bounds) + 1))
            buckets[bisect.bisect_right(metric.bounds, value)] += 1
            self._sums[metric][labels] += value  # type: ignore[assignment]  # A Counter takes floats, too.

    @contextmanager
    def timed(self, metric: Metric, *labels: str) -> Iterator[None]:
        """Adds the microseconds of what is done inside to a histogram, unless that fails."""
        begun = time.monotonic()
        yield
        self.observe(metric, 1e6 * (time.monotonic() - begun), *labels)

    def count_examples(self, model: str, number: int) -> None:
        """Counts the examples of a request."""
        self.observe(EXAMPLE_COUNTS, number, model)
        self.count(EXAMPLE_COUNT_TOTAL, model, by=number)

    def page(self) -> str:
        """The text that Prometheus reads."""
        with self._lock:
            lines = [line for metric, counts in self._counts.items() for line in _counter(metric, counts)]
            for metric, histograms in self._buckets.items():
                lines += _histogram(metric, histograms, self._sums[metric])
        return "\n".join(lines) + "\n"


def _counter(metric: Metric, counts: Mapping[tuple[str, ...], int]) -> list[str]:
    name = PREFIX + metric.name
    return [f"# TYPE {name} counter", *(f"{name}{{{_labels(metric, key)}}} {counts[key]}" for key in sorted(counts))]


def _histogram(
    metric: Metric, histograms: Mapping[tuple[str, ...], list[int]], sums: Mapping[tuple[str, ...], float]
) -> list[str]:
    name = PREFIX + metric.name
    lines = [f"# TYPE {name} histogram"]
    for key in sorted(histograms):
        labels, below = _labels(metric, key), 0
        for bound, number in zip([*(f"{bound:.6g}" for bound in metric.bounds), "+Inf"], histograms[key], strict=True):
            below += number
            lines.append(f'{name}_bucket{{{labels},le="{bound}"}} {below}')
        lines += [f"{name}_sum{{{labels}}} {sums[key]:.6g}", f"{name}_count{{{labels}}} {below}"]
    return lines


def _labels(metric: Metric, values: Sequence[str]) -> str:
    escaped = (value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n") for value in values)
    return ",".join(f'{name}="{value}"' for name, value in zip(metric.labels, escaped, strict=True))
