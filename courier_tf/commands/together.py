"""What the stages share that several workers can train together, on one machine or on several."""

import abc
import dataclasses
import json
import logging
import os
import sys
import time
from typing import TYPE_CHECKING

from courier_tf.commands.checks import require_between
from courier_tf.commands.command import TrackedStage
from courier_tf.workers.places import Places, places_of

if TYPE_CHECKING:
    from courier_tf.chain.chain import Chain
    from courier_tf.workers.workers import Workers

LOG = logging.getLogger(__name__)
LONGEST_WAIT = 7 * 86_400  # Seconds.
PAUSE = 2.0  # Seconds before a worker starts again.
#: Environment variable of a worker that has started itself again: since when it looks for the others.
WAITS_SINCE = "COURIER_WORKER_WAITS_SINCE"


@dataclasses.dataclass(frozen=True, kw_only=True)
class TogetherStage(TrackedStage):
    """A stage that several workers train together. Each runs the same command, and the chief alone writes."""

    workers: tuple[str, ...] = ()
    """HOST:PORT of each worker that trains, with commas between them, the chief first. Default: those of the
    environment variable TF_CONFIG; without it this process trains alone."""
    index: int | None = None
    """Place of this worker among them, from 0."""
    worker_timeout_seconds: float = 600.0
    """How long a worker waits for the others, at the start and after one of them was lost."""

    @abc.abstractmethod
    def train(self, chain: "Chain") -> None:
        """Does what the command is for, on every worker."""

    def run(self) -> None:
        """Trains. A worker that loses another one starts itself again, and goes on from the last checkpoint."""
        require_between("--worker-timeout-seconds", self.worker_timeout_seconds, 1, LONGEST_WAIT)
        places = self._places()
        try:
            chain = self.chain()
            self.train(chain)
            chain.workers.wait()
        except Exception as error:
            if places.number == 1:
                raise
            from courier_tf.workers.workers import is_lost

            if not is_lost(error):
                raise
            LOG.warning("another worker was lost: this one starts again, from the last checkpoint")
            _start_again()

    def joined_workers(self) -> "Workers":
        """The workers, once all are there."""
        import tensorflow as tf

        from courier_tf import __version__ as version
        from courier_tf.workers.workers import ALONE, Workers

        places = self._places()
        if places.number == 1:
            return ALONE
        waits_since = float(os.environ.get(WAITS_SINCE, time.time()))
        os.environ[WAITS_SINCE] = str(waits_since)
        left = self.worker_timeout_seconds - (time.time() - waits_since)
        workers = Workers(places, max(left, 1.0))
        workers.join()
        settings = json.loads(json.dumps(self.settings.by_name(), default=str))  # Some are places.
        facts = {"version": version, "TensorFlow": tf.__version__, "command": type(self).__name__}
        workers.require_same({**facts, **settings})
        del os.environ[WAITS_SINCE]
        return workers

    def _places(self) -> Places:
        return places_of(self.workers, self.index, os.environ.get("TF_CONFIG"))


def _start_again() -> None:
    """Replaces this process by the same command: TensorFlow cannot take up a lost worker again."""
    time.sleep(PAUSE)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
