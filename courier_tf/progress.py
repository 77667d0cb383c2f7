"""How far a long piece of work is: one line for every 30 seconds, with its rate and the time left."""

import logging
import threading
import time
from collections.abc import Callable

LOG = logging.getLogger(__name__)
SECONDS = 30.0  # Between two lines.


class Progress:
    """Logs lines such as `[pretrain] 120 of 400 steps, 3.4 a second, 82 s left`.

    Args:
        name: of the work, such as its stage.
        total: of all pieces; None where it is not known.
        unit: what the pieces are called.
        done: pieces that were done before, as by a run that was interrupted.
        clock: gives seconds.

    Attributes:
        done: pieces done, as `advance` counts them.
    """

    def __init__(
        self, name: str, total: int | None, unit: str, done: int = 0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.name, self.total, self.unit, self._clock = name, total, unit, clock
        self._shown, self._time = done, clock()
        self.done, self._lock = done, threading.Lock()

    def advance(self, number: int = 1) -> None:
        """Says that so many more pieces are done. Threads may share it."""
        with self._lock:
            self.done += number
            self.reached(self.done)

    def reached(self, done: int) -> None:
        """Says that so many pieces are done. Logs a line where the last one was `SECONDS` ago."""
        passed = self._clock() - self._time
        if passed < SECONDS:
            return
        rate = (done - self._shown) / passed
        whole = "" if self.total is None else f" of {self.total:,}"
        left = f", {in_words((self.total - done) / rate)} left" if rate and self.total is not None else ""
        shown = f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"
        LOG.info("[%s] %s%s %s, %s a second%s", self.name, f"{done:,}", whole, self.unit, shown, left)
        self._shown, self._time = done, self._time + passed


def in_words(seconds: float) -> str:
    """A length of time, short.

    >>> [in_words(seconds) for seconds in (0.4, 82, 750, 9000)]
    ['0 s', '82 s', '12 min', '2 h 30 min']
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = int(seconds // 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
