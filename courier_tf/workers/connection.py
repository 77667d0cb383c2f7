"""How the processes that train together find each other, and how one goes on that has lost another one."""

import contextlib
import logging
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

from courier_tf.workers.places import Places
from courier_tf.workers.workers import ALONE, Workers, is_lost

LOG = logging.getLogger(__name__)
PAUSE = 2.0  # Seconds before a worker starts again.
#: Environment variable of a worker that has started itself again: since when it looks for the others.
WAITS_SINCE = "COURIER_WORKER_WAITS_SINCE"


def joined(places: Places, timeout_seconds: float, facts: Mapping[str, Any]) -> Workers:
    """The workers, once all are there.

    Args:
        places: who they are, and which of them this process is.
        timeout_seconds: how long to wait for the others, also over several starts of this process.
        facts: name -> what must be the same on all workers, as it fits into JSON; versions are always compared.

    Raises:
        TrainingError: a worker has not come in time, or differs in a version or a fact.
    """
    import tensorflow as tf

    from courier_tf import __version__ as version

    if places.number == 1:
        return ALONE
    waits_since = float(os.environ.get(WAITS_SINCE, time.time()))
    os.environ[WAITS_SINCE] = str(waits_since)
    left = timeout_seconds - (time.time() - waits_since)
    workers = Workers(places, max(left, 1.0))
    workers.join()
    workers.require_same({"version": version, "TensorFlow": tf.__version__, **facts})
    del os.environ[WAITS_SINCE]
    return workers


@contextlib.contextmanager
def surviving(places: Places) -> Iterator[None]:
    """Starts this process again where another worker is lost while it is entered. Other errors pass."""
    try:
        yield
    except Exception as error:
        if places.number == 1 or not is_lost(error):
            raise
        LOG.warning("another worker was lost: this one starts again, from the last checkpoint")
        time.sleep(PAUSE)
        start_again()


def start_again() -> NoReturn:
    """Replaces this process by the same command: TensorFlow can join workers only once in a process."""
    replace_by(sys.orig_argv[1:])


def replace_by(words: Sequence[str]) -> NoReturn:
    """Replaces this process by Python with other words, such as `-m MODULE`."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *words])
