"""Brings running replicas of TensorFlow Serving to a new configuration: versions first, labels once all have these.

All replicas read one models.config. A label that is in use may only move to a loaded version: otherwise TensorFlow
Serving refuses the whole file, whatever its flags, each time it reads it. So labels wait until every replica has loaded
what they move to. A replica that was left behind gets a configuration of its own, by gRPC. It makes the replica load
what the file names, and moves no label of the others.
"""

import logging
import time
from collections.abc import Iterator, Mapping, MutableSequence, Sequence
from pathlib import Path

from google.protobuf import text_format
from tensorflow_serving.config.model_server_config_pb2 import ModelConfig, ModelServerConfig

from courier_tf.workdir.atomic import write_file
from serving.bundle import replicas
from serving.bundle.replicas import Replica

LOG = logging.getLogger(__name__)
PATIENCE_SECONDS = 300.0
LABELS_SECONDS = 60.0  # Until all labels have moved: a server reads the file every 10 s.
WAIT_SECONDS = 0.2
TAKES_THE_FILE = "a server that starts takes the file as it is"


class RollOutError(RuntimeError):
    """A replica has not loaded the versions that models.config names, or its labels have not moved."""


def next_step(
    target: ModelServerConfig, now: ModelServerConfig, states: Mapping[str, Replica], by_file_alone: bool = False
) -> ModelServerConfig:
    """The next content of models.config: the versions of `target`, and its labels once all replicas have loaded them.

    All labels of all models move together: encoder and codebook, ranker and cluster IDs belong to each other.

    Args:
        target: the configuration to reach.
        now: the content so far, whether or not the replicas took it.
        states: address -> what the replica has. One that does not answer may be about to start with the file.
        by_file_alone: whether a replica that refuses the file cannot be given `step_of_its_own`.
    """
    step, before = ModelServerConfig(), {model.name: model.version_labels for model in now.model_config_list.config}
    step.CopyFrom(target)
    if not list(missing(target, states)):
        return step
    for model in step.model_config_list.config:
        known = [state.versions[model.name] for state in states.values() if state.versions.get(model.name)]
        wanted, in_use = set(_versions(model)), set[int]()
        for label, version in list(model.version_labels.items()):
            given, held = before.get(model.name, {}).get(label, version), _held(model.name, label, states)
            in_use |= held
            # A label that a replica has not moved yet is not taken back from those that have, be they named or not.
            if held and given not in held and (by_file_alone or given not in wanted):
                given = max(held)
            elif not held and any(given not in versions for versions in known):
                given = max(_loaded_everywhere(known), default=given)
            model.version_labels[label] = given
        _versions(model)[:] = sorted({*_versions(model), *in_use, *model.version_labels.values()})
    return step


def _held(model: str, label: str, states: Mapping[str, Replica]) -> set[int]:
    """The versions that answer to a label, in any replica."""
    return {state.labels[model][label] for state in states.values() if label in state.labels.get(model, {})}


def _loaded_everywhere(known: Sequence[Mapping[int, bool]]) -> set[int]:
    return set.intersection(*({version for version, loaded in versions.items() if loaded} for versions in known))


def missing(target: ModelServerConfig, states: Mapping[str, Replica]) -> Iterator[str]:
    """What the labels of `target` wait for, in words."""
    for address, state in states.items():
        if state.silence:
            yield f"{address} does not answer ({state.silence})"
            continue
        for model in target.model_config_list.config:
            for version in sorted(set(model.version_labels.values())):
                if not state.has_loaded(model.name, version):
                    yield f"{address} has not loaded version {version} of {model.name}"


def step_of_its_own(step: ModelServerConfig, state: Replica) -> ModelServerConfig | None:
    """What a replica that refuses `step` accepts in its place: the same versions, its own labels.

    Returns:
        None where the replica accepts `step` itself.
    """
    refused, accepted = False, ModelServerConfig()
    accepted.CopyFrom(step)
    for model in accepted.model_config_list.config:
        held = state.labels.get(model.name, {})
        for label, version in list(model.version_labels.items()):
            if held.get(label, version) != version and not state.has_loaded(model.name, version):
                refused, model.version_labels[label] = True, held[label]
        _versions(model)[:] = sorted({*_versions(model), *model.version_labels.values()})
    return accepted if refused else None


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
    now = now or ModelServerConfig()
    named = {(model.name, number) for model in now.model_config_list.config for number in _versions(model)}
    reloads, waits, earlier = _Reloads(), _Waits(), None
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        states = {address: replicas.ask(address, target) for address in replicas.addresses_of(servers)}
        failures = dict(_failures(target, states))
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
        absent = list(missing(target, states))
        if not absent:
            return
        reloads.give(step, states)
        waiting = [*absent, *(failures[failed] for failed in sorted(earlier)), *reloads.refusals]
        waits.tell(waiting)
        if time.monotonic() > end:
            raise RollOutError(
                f"{file} names versions that are not loaded after {PATIENCE_SECONDS:.0f} s: {'; '.join(waiting)}. "
                "No label has moved. Start or restart these replicas and repeat the command, or leave them out of "
                f"--server: {TAKES_THE_FILE}"
            )
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
        waiting = list(_labels_behind(config, states))
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


def _labels_behind(config: ModelServerConfig, states: Mapping[str, Replica]) -> Iterator[str]:
    for address, state in states.items():
        if state.silence:
            yield f"{address} does not answer ({state.silence})"
            continue
        for model in config.model_config_list.config:
            held = state.labels.get(model.name, {})
            for label, version in model.version_labels.items():
                if held.get(label) != version:
                    yield f"{address} has label {label} of {model.name} at {held.get(label, 'nothing')}, not {version}"


def _failures(config: ModelServerConfig, states: Mapping[str, Replica]) -> Iterator[tuple[tuple[str, str, int], str]]:
    """The versions with a label that a replica could not load: (address, model, version), and the same in words."""
    for address, state in states.items():
        for model in config.model_config_list.config:
            for version, why in state.failed.get(model.name, {}).items():
                if version in model.version_labels.values():
                    yield (
                        (address, model.name, version),
                        f"{address} cannot load version {version} of {model.name}: {why}",
                    )


def _versions(model: ModelConfig) -> MutableSequence[int]:
    return model.model_version_policy.specific.versions


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
