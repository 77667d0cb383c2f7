"""The workers that train the runs of an experiment together. The chief makes the experiment; the others follow it."""

import contextlib
import dataclasses
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from courier_tf.workers.places import Places

LOG = logging.getLogger(__name__)
LAST_WAIT = 60.0  # Seconds that the chief waits at the end for workers that have gone.


@dataclasses.dataclass(frozen=True)
class Team:
    """The workers of an experiment, and which of them this process is.

    Each run has a process of its own on every worker. These processes meet, and the chief's tells the others what the
    run is, or that there are no more.

    Attributes:
        places: addresses of all workers; none where this process trains alone.
        timeout_seconds: how long a worker waits for the others, before every run.
    """

    places: Places = Places()
    timeout_seconds: float = 600.0

    def words(self, run_file: Path | None = None) -> list[str]:
        """The words that Python is started with, for the process of a run on this worker.

        Args:
            run_file: the run, on the chief. Without it the chief says that there are no more.
        """
        words = ["-m", "courier_tf.experiment", *([str(run_file)] if run_file else [])]
        if self.places.number > 1:
            words += ["--workers", ",".join(self.places.addresses), "--index", str(self.places.index)]
            words += ["--worker-timeout-seconds", str(self.timeout_seconds)]
        return words

    def follow(self) -> NoReturn:
        """Replaces this process, which is not the chief's, by one that trains what the chief says, until the end."""
        from courier_tf.workers.connection import replace_by

        LOG.info("%s trains what the chief says", self.places.name(self.places.index))
        replace_by(self.words())

    @contextlib.contextmanager
    def dismissed(self) -> Iterator[None]:
        """The others are told that there are no more runs when it is left, unless this process is being ended."""
        try:
            yield
        except Exception:
            self._dismiss()
            raise
        self._dismiss()

    def _dismiss(self) -> None:
        if self.places.number > 1:
            team = dataclasses.replace(self, timeout_seconds=min(self.timeout_seconds, LAST_WAIT))
            if subprocess.run([sys.executable, *team.words()], check=False).returncode:
                LOG.warning("other workers do not know that the experiment has ended, and give up by themselves")
