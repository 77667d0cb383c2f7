"""How a running TensorFlow Serving gets to a new configuration: versions first, labels once these are loaded.

A label that is in use may move to a version that is loaded, and to no other: TensorFlow Serving refuses the whole file
otherwise, whatever its flags, and does so again each time it looks. A file that it has refused does not tell which
labels it has; so one that stands there waits at the newest version that is loaded.
"""

import time
from collections.abc import Mapping, Set
from pathlib import Path

import grpc
from google.protobuf import text_format
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusRequest, ModelVersionStatus
from tensorflow_serving.apis.model_service_pb2_grpc import ModelServiceStub
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from courier_tf.workdir.atomic import write_file
from serving.bundle.messages import model_spec

ASK_SECONDS = 2.0
PATIENCE_SECONDS = 300.0


class RollOutError(RuntimeError):
    """A server has not loaded what it was told to."""


def next_step(
    target: ModelServerConfig, now: ModelServerConfig, states: Mapping[str, Mapping[int, bool]]
) -> ModelServerConfig:
    """What a server takes that has `now`: the versions of `target`, and its labels once all that they name is loaded.

    All labels of all models move together: encoder and codebook, ranker and cluster IDs belong to each other.

    Args:
        target: where to.
        now: what the server was given last, whether or not it took it.
        states: as `states_of` has it; nothing of a server that is not up, which takes every label.
    """
    step, before = ModelServerConfig(), {one.name: one.version_labels for one in now.model_config_list.config}
    step.CopyFrom(target)
    ready = all(
        states.get(one.name, {}).get(version, False)
        for one in target.model_config_list.config
        for version in one.version_labels.values()
    )
    for one in step.model_config_list.config:
        known, labels = states.get(one.name, {}), before.get(one.name, {})
        for label, version in list(one.version_labels.items()):
            if not ready:
                former = labels.get(label, version)
                loaded = [number for number, is_loaded in known.items() if is_loaded]
                one.version_labels[label] = former if former in known or not loaded else max(loaded)
        versions = one.model_version_policy.specific.versions
        versions[:] = sorted({*versions, *one.version_labels.values()})
    return step


def states_of(server: str, models: Set[str]) -> dict[str, dict[int, bool]]:
    """Model -> version -> whether the server at host:port can answer with it, or is still loading it.

    Nothing of a server that does not answer, nor of versions that it has not, or could not load.
    """
    found: dict[str, dict[int, bool]] = {}
    state = ModelVersionStatus.State
    with grpc.insecure_channel(server) as channel:
        for model in models:
            request = GetModelStatusRequest(model_spec=model_spec(model))
            try:
                states = ModelServiceStub(channel).GetModelStatus(request, timeout=ASK_SECONDS).model_version_status
            except grpc.RpcError:  # Not up yet, or a model that it does not know yet: asked again.
                continue
            coming = (state.START, state.LOADING, state.AVAILABLE)
            found[model] = {one.version: one.state == state.AVAILABLE for one in states if one.state in coming}
    return found


def roll_out(file: Path, target: ModelServerConfig, comment: str, server: str | None) -> None:
    """Brings models.config to `target`; with a running server in as many steps as that can take.

    Args:
        file: models.config.
        target: where to.
        comment: first lines of the file.
        server: host:port of the gRPC of a server that follows the file; None if none does.

    Raises:
        RollOutError: the server has not loaded the versions in time. They stay in the file, all labels where they were.
    """
    now = text_format.Parse(file.read_text(), ModelServerConfig()) if file.exists() and server else ModelServerConfig()
    models, end = {one.name for one in target.model_config_list.config}, time.monotonic() + PATIENCE_SECONDS
    while True:
        step = next_step(target, now, states_of(server, models) if server else {})
        if step != now:
            write_file(file, comment + text_format.MessageToString(step))
            now = step
        if step == target:
            return
        if time.monotonic() > end:
            raise RollOutError(
                f"{server} has not loaded the versions in {file} within {PATIENCE_SECONDS:.0f} s. If it is down, do "
                "without --server: a server that starts takes the file as it is."
            )
        time.sleep(0.2)
