"""Brings running replicas of TensorFlow Serving to a new configuration: versions first, labels once all have these.

All replicas read one models.config. A label that is in use may only move to a loaded version: otherwise TensorFlow
Serving refuses the whole file, whatever its flags, each time it reads it. So labels wait until every replica has loaded
what they move to. A replica that was left behind gets a configuration of its own, by gRPC. It makes the replica load
what the file names, and moves no label of the others.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from google.protobuf import text_format
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from courier_tf.workdir.atomic import write_file
from serving.bundle import replicas
from serving.bundle.replicas import Replica
from serving.bundle.steps import failures_of, labels_behind, missing, next_step, step_of_its_own, versions_of

LOG = logging.getLogger(__name__)
PATIENCE_SECONDS = 300.0
#: For a replica that has not answered since the command began. A restart takes half of it where a version is broken:
#: its retries take 24 s, and the ports open after them.
START_SECONDS = 60.0
LABELS_SECONDS = 60.0  # Until all labels have moved: a server reads the file every 10 s.
WAIT_SECONDS = 0.2
TAKES_THE_FILE = "a server that starts takes the file as it is"


class RollOutError(RuntimeError):
    """A replica has not loaded the versions that models.config names, or its labels have not moved."""


def roll_out(file: Path, target: ModelServerConfig, comment: str, servers: Sequence[str]) -> None:
    """Brings models.config to `target`, in as many steps as running replicas need.

    Args:
        file: models.config.
        target: the configuration to reach.
        comment: first lines of the file.
        servers: HOST:PORT of the gRPC of servers that follow the file; a name stands for all of its addresses.

    Raises:
        AddressError: a word is no HOST:PORT, or its host is unknown.
        RollOutError: a replica cannot load the versions, or has not loaded them in time. The versions stay in the file,
            and all labels stay where they were.
    """
    now = text_format.Parse(file.read_text(), ModelServerConfig()) if file.is_file() and servers else None
    now = start = now or ModelServerConfig()
    named = {(model.name, number) for model in start.model_config_list.config for number in versions_of(model)}
    reloads, waits, starts, earlier = _Reloads(), _Waits(), _Starts(), None
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        states = {address: replicas.ask(address, target) for address in replicas.addresses_of(servers)}
        failures = dict(failures_of(target, start, states))
        if earlier is None:
            earlier = {failed for failed in failures if failed[1:] not in named}
        earlier &= failures.keys()  # What had failed before the file named it, until the replica tries it again.
        for failed in sorted(failures.keys() - earlier):
            raise RollOutError(
                f"{failures[failed]}. No label has moved. Export another version, or take this one back by "
                "'courier export --withdraw'"
            )
        step = next_step(target, now, states, by_file_alone=bool(reloads.refusals))
        if step != now:
            write_file(file, comment + text_format.MessageToString(step))
            now = step
        absent = list(missing(target, start, states))
        if not absent:
            return
        reloads.give(step, states)
        waiting = [*absent, *(failures[failed] for failed in sorted(earlier)), *reloads.refusals]
        waits.tell(waiting)
        if time.monotonic() > end:
            raise _late(f"{file} names versions that are not loaded after {PATIENCE_SECONDS:.0f} s", waiting)
        if down := starts.given_up(states):
            raise _late(f"{file} is written, but after {START_SECONDS:.0f} s", down)
        time.sleep(WAIT_SECONDS)


def require_labels(file: Path, servers: Sequence[str]) -> None:
    """Waits until every replica answers to the labels as models.config says.

    Raises:
        RollOutError: a replica does not, after some time.
    """
    config, waits = text_format.Parse(file.read_text(), ModelServerConfig()), _Waits()
    end = time.monotonic() + LABELS_SECONDS
    while True:
        states = {address: replicas.ask(address, config) for address in replicas.addresses_of(servers)}
        waiting = list(labels_behind(config, states))
        if not waiting:
            return
        waits.tell(waiting)
        if time.monotonic() > end:
            raise RollOutError(
                f"{file} is written, but not every replica follows after {LABELS_SECONDS:.0f} s: {'; '.join(waiting)}. "
                f"Repeat the command; if it says so again, restart these replicas ({TAKES_THE_FILE}), and look whether "
                "they read this file"
            )
        time.sleep(WAIT_SECONDS)


def _late(what: str, waiting: Sequence[str]) -> RollOutError:
    return RollOutError(
        f"{what}: {'; '.join(waiting)}. No label has moved. Start or restart these replicas and repeat the command, or "
        f"leave them out of --server: {TAKES_THE_FILE}"
    )


class _Starts:
    """Gives replicas that do not answer time to start, and says at once which they are."""

    def __init__(self) -> None:
        self._end = time.monotonic() + START_SECONDS
        self._silent: set[str] | None = None  # Those that have not answered yet; None before they were asked.

    def given_up(self, states: Mapping[str, Replica]) -> list[str]:
        """The replicas that have not answered in all that time, in words."""
        silent = {
            address: f"{address} does not answer ({state.silence})"
            for address, state in states.items()
            if state.silence
        }
        if self._silent is None:
            for line in silent.values():
                LOG.warning("[roll out] %s; it has %.0f s to start", line, START_SECONDS)
        # One that has answered before is being restarted, or busy.
        never = self._silent = set(silent) if self._silent is None else self._silent & set(silent)
        return [silent[address] for address in sorted(never)] if time.monotonic() > self._end else []


class _Reloads:
    """Gives replicas that were left behind a configuration of their own, each of them once."""

    def __init__(self) -> None:
        self._given: dict[str, bytes] = {}
        self._refused: dict[str, str] = {}

    def give(self, step: ModelServerConfig, states: Mapping[str, Replica]) -> None:
        """Gives each replica that refuses `step` what it accepts."""
        for address, state in states.items():
            accepted = step_of_its_own(step, state)
            if accepted is None:
                self._refused.pop(address, None)
                continue
            content = accepted.SerializeToString(deterministic=True)
            if self._given.get(address) != content:
                self._given[address] = content
                LOG.info("[roll out] %s was left behind: it gets what it accepts", address)
                self._refused[address] = replicas.reload(address, accepted)

    @property
    def refusals(self) -> list[str]:
        """The replicas that take neither the file nor a configuration of their own, in words."""
        return [
            f"{address} refuses the file, as its labels are elsewhere, and takes no other configuration ({why})"
            for address, why in self._refused.items()
            if why
        ]


class _Waits:
    """Logs what is waited for, whenever that changes."""

    def __init__(self) -> None:
        self._told: list[str] = []

    def tell(self, waiting: list[str]) -> None:
        """Logs it, unless it was logged last."""
        if waiting != self._told:
            LOG.info("[roll out] waiting: %s", "; ".join(waiting))
            self._told = waiting
