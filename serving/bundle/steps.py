"""What stands in models.config next, so that every replica takes it, and what keeps labels from moving."""

from collections.abc import Iterator, Mapping, MutableSequence, Sequence

from tensorflow_serving.config.model_server_config_pb2 import ModelConfig, ModelServerConfig

from serving.bundle.replicas import Replica


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
    if not list(missing(target, now, states)):
        return step
    for model in step.model_config_list.config:
        known = [state.versions[model.name] for state in states.values() if state.versions.get(model.name)]
        wanted, in_use = set(versions_of(model)), set[int]()
        for label, version in list(model.version_labels.items()):
            given, held = before.get(model.name, {}).get(label, version), _held(model.name, label, states)
            in_use |= held
            # A label that a replica has not moved yet is not taken back from those that have, be they named or not.
            if held and given not in held and (by_file_alone or given not in wanted):
                given = max(held)
            elif not held and any(given not in versions for versions in known):
                given = max(_loaded_everywhere(known), default=given)
            model.version_labels[label] = given
        versions_of(model)[:] = sorted({*versions_of(model), *in_use, *model.version_labels.values()})
    return step


def _held(model: str, label: str, states: Mapping[str, Replica]) -> set[int]:
    """The versions that answer to a label, in any replica."""
    return {state.labels[model][label] for state in states.values() if label in state.labels.get(model, {})}


def _loaded_everywhere(known: Sequence[Mapping[int, bool]]) -> set[int]:
    return set.intersection(*({version for version, loaded in versions.items() if loaded} for versions in known))


def missing(target: ModelServerConfig, start: ModelServerConfig, states: Mapping[str, Replica]) -> Iterator[str]:
    """What the labels of `target` wait for, in words.

    A label that stays where it is does not wait for a version that a replica cannot load: nothing newer would come.

    Args:
        target: the configuration to reach.
        start: the content of models.config when the roll-out began.
        states: address -> what the replica has.
    """
    moving = {address: _moving(target, start, state) for address, state in states.items()}
    for address, state in states.items():
        if state.silence:
            yield f"{address} does not answer ({state.silence})"
            continue
        for model in target.model_config_list.config:
            for version in sorted(set(model.version_labels.values())):
                given_up = version in state.failed.get(model.name, {}) and (model.name, version) not in moving[address]
                if not state.has_loaded(model.name, version) and not given_up:
                    yield f"{address} has not loaded version {version} of {model.name}"


def _moving(target: ModelServerConfig, start: ModelServerConfig, state: Replica) -> set[tuple[str, int]]:
    """(model, version) that a label moves to, in the file or in a replica that is behind it."""
    before = {model.name: model.version_labels for model in start.model_config_list.config}
    return {
        (model.name, version)
        for model in target.model_config_list.config
        for label, version in model.version_labels.items()
        if before.get(model.name, {}).get(label) != version
        or state.labels.get(model.name, {}).get(label, version) != version
    }


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
        versions_of(model)[:] = sorted({*versions_of(model), *model.version_labels.values()})
    return accepted if refused else None


def labels_behind(config: ModelServerConfig, states: Mapping[str, Replica]) -> Iterator[str]:
    """The labels that a replica answers to otherwise than `config` says, in words."""
    for address, state in states.items():
        if state.silence:
            yield f"{address} does not answer ({state.silence})"
            continue
        for model in config.model_config_list.config:
            held = state.labels.get(model.name, {})
            for label, version in model.version_labels.items():
                # None answers to it where the version was there before, and could not be loaded after a restart.
                given_up = label not in held and version in state.failed.get(model.name, {})
                if held.get(label) != version and not given_up:
                    yield f"{address} has label {label} of {model.name} at {held.get(label, 'nothing')}, not {version}"


def failures_of(
    target: ModelServerConfig, start: ModelServerConfig, states: Mapping[str, Replica]
) -> Iterator[tuple[tuple[str, str, int], str]]:
    """The versions that a label moves to and a replica could not load: (address, model, version), and it in words."""
    for address, state in states.items():
        for model, version in sorted(_moving(target, start, state)):
            if version in state.failed.get(model, {}):
                why = state.failed[model][version]
                yield (address, model, version), f"{address} cannot load version {version} of {model}: {why}"


def versions_of(model: ModelConfig) -> MutableSequence[int]:
    """The versions that a configuration names; what is written into them is written into it."""
    return model.model_version_policy.specific.versions
