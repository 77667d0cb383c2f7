"""How far a running job is: pieces that its workers count, and lines of them in the log of the driver.

The local engine runs its workers in this process and shows Beam's counters at the end alone, so the pieces are counted
in the process, too. Dataflow shows the counters while the job runs. Of a job on a job server, such as that of Flink,
the lines say no more than that it is at work.
"""

import contextlib
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from apache_beam.metrics import Metrics, MetricsFilter
from apache_beam.runners.portability import portable_runner

from courier_tf import progress
from courier_tf.progress import Progress, in_words

LOG = logging.getLogger(__name__)
NAMESPACE = "courier_progress"  # Apart from the counters that are results.
POLL_SECONDS = 1.0  # Between two looks at the counts.

EVENT_ROWS, ITEM_ROWS, USER_ROWS, ITEMS, USER_DAYS, RECORDS, EMBEDDED = (
    "rows of events", "rows of items", "rows of users", "items with their photos", "days of users",
    "records written", "photos",
)  # fmt: skip
#: Pieces -> those whose number they reach, once all of those are done.
AS_MANY_AS = {ITEMS: ITEM_ROWS}

_lock = threading.Lock()
_done: Counter[str] = Counter()


class Pieces:
    """Pieces of one kind, counted by the workers of a job.

    Args:
        kind: what the pieces are called.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.counter = Metrics.counter(NAMESPACE, kind)

    def add(self, number: int = 1) -> None:
        """Says that so many more are done."""
        self.counter.inc(number)
        with _lock:
            _done[self.kind] += number


class Watch:
    """Logs what has been done, from a thread of its own.

    Args:
        shown: what the job does.
        expected: pieces -> their number, where it is known.
        clock: gives seconds.
    """

    def __init__(self, shown: str, expected: Mapping[str, int], clock: Callable[[], float] = time.monotonic) -> None:
        self.shown, self.expected, self.clock = shown, expected, clock
        self.result: Any = None  # Of the engine, once it runs.
        self.lines: dict[str, Progress] = {}
        self.before: Counter[str] = Counter()
        self.started = self.moved = clock()

    def look(self) -> None:
        """Logs a line for each kind of pieces that goes on and whose last line is old enough.

        Where no piece is finished for as long, a line says that the job is at work.
        """
        done = self._counts()
        for kind, number in done.items():
            if kind not in self.lines:
                self.lines[kind] = Progress(self.shown, None, kind, number, self.clock)
            if number > self.before[kind]:
                self.lines[kind].total = self.expected.get(kind, done.get(AS_MANY_AS.get(kind, "")))
                self.lines[kind].reached(number)
                self.moved = self.clock()
        self.before = done
        if self.clock() - self.moved >= progress.SECONDS:
            LOG.info("[%s] at work for %s", self.shown, in_words(self.clock() - self.started))
            self.moved = self.clock()

    def _counts(self) -> Counter[str]:
        with _lock:
            counts = Counter(_done)
        # The result of a job server keeps the first metrics that it is asked for, which would be those of the end, too.
        if not counts and self.result is not None and not isinstance(self.result, portable_runner.PipelineResult):
            # Whatever an engine cannot tell is no reason to lose the job.
            with contextlib.suppress(Exception):
                for counter in self.result.metrics().query(MetricsFilter().with_namespace(NAMESPACE))["counters"]:
                    counts[counter.key.metric.name] += (counter.committed or counter.attempted) or 0
        return counts


@contextlib.contextmanager
def watched(shown: str, expected: Mapping[str, int]) -> Iterator[Watch]:
    """Logs how far a job is, as long as it is entered.

    Args:
        shown: what the job does.
        expected: pieces -> their number, where it is known.

    Yields:
        The watch. Its `result` is to be set once the engine has one.
    """
    with _lock:
        _done.clear()
    watch, ended = Watch(shown, expected), threading.Event()

    def look_on() -> None:
        while not ended.wait(POLL_SECONDS):
            watch.look()

    thread = threading.Thread(target=look_on, name="progress", daemon=True)
    thread.start()
    try:
        yield watch
    finally:
        ended.set()
        thread.join()
