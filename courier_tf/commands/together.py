"""What the commands share that several workers can run together, on one machine or on several."""

import abc
import dataclasses
import json
import os
from typing import TYPE_CHECKING

from courier_tf.commands.checks import require_between
from courier_tf.commands.command import Command, TrackedStage
from courier_tf.workers.places import Places, places_of

if TYPE_CHECKING:
    from courier_tf.chain.chain import Chain
    from courier_tf.workers.workers import Workers

LONGEST_WAIT = 7 * 86_400  # Seconds.


@dataclasses.dataclass(frozen=True, kw_only=True)
class TogetherCommand(Command):
    """A command that several workers run together. Each is given the same command, and the chief alone writes."""

    workers: tuple[str, ...] = ()
    """HOST:PORT of each worker that trains, with commas between them, the chief first. Default: those of the
    environment variable TF_CONFIG; without it this process trains alone."""
    index: int | None = None
    """Place of this worker among them, from 0."""
    worker_timeout_seconds: float = 600.0
    """How long a worker waits for the others, at the start and after one of them was lost."""

    def places(self) -> Places:
        """The workers that the options or TF_CONFIG name.

        Raises:
            WorkersError: they make no sense.
            SettingsError: the time-out lies outside its range.
        """
        require_between("--worker-timeout-seconds", self.worker_timeout_seconds, 1, LONGEST_WAIT)
        return places_of(self.workers, self.index, os.environ.get("TF_CONFIG"))


@dataclasses.dataclass(frozen=True, kw_only=True)
class TogetherStage(TogetherCommand, TrackedStage):
    """A stage that several workers train together."""

    @abc.abstractmethod
    def train(self, chain: "Chain") -> None:
        """Does what the command is for, on every worker."""

    def run(self) -> None:
        """Trains. A worker that loses another one starts itself again, and goes on from the last checkpoint."""
        from courier_tf.workers.connection import surviving

        with surviving(self.places()):
            chain = self.chain()
            self.train(chain)
            chain.workers.wait()

    def joined_workers(self) -> "Workers":
        """The workers, once all are there."""
        from courier_tf.workers.connection import joined

        settings = json.loads(json.dumps(self.settings.by_name(), default=str))  # Some are places.
        return joined(self.places(), self.worker_timeout_seconds, {"command": type(self).__name__, **settings})
