"""Brings a running TensorFlow Serving to a new configuration: versions first, labels once these are loaded.

A label that is in use may only move to a loaded version. Otherwise TensorFlow Serving refuses the whole file, whatever
its flags, each time it reads it. A file that the server has refused does not tell where its labels are; such a label
waits at the newest loaded version.
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
    """A server has not loaded the versions that models.config names."""


def next_step(
    target: ModelServerConfig, now: ModelServerConfig, states: Mapping[str, Mapping[int, bool]]
) -> ModelServerConfig:
    """The next configuration that a server accepts: the versions of `target`, and its labels once all are loaded.

    All labels of all models move together: encoder and codebook, ranker and cluster IDs belong to each other.

    Args:
        target: the configuration to reach.
        now: the configuration that the server was given last, whether or not it took it.
        states: the result of `states_of`. It is empty for a server that is not up, which accepts every label.
    """
    step, before = ModelServerConfig(), {model.name: model.version_labels for model in now.model_config_list.config}
    step.CopyFrom(target)
    ready = all(
        states.get(model.name, {}).get(version, False)
        for model in target.model_config_list.config
        for version in model.version_labels.values()
    )
    for model in step.model_config_list.config:
        known, labels = states.get(model.name, {}), before.get(model.name, {})
        if not ready:
            for label, version in list(model.version_labels.items()):
                model.version_labels[label] = _waiting_place(labels.get(label, version), known)
        versions = model.model_version_policy.specific.versions
        versions[:] = sorted({*versions, *model.version_labels.values()})
    return step


def _waiting_place(version: int, known: Mapping[int, bool]) -> int:
    """Where a label waits: at its version if the server knows it, else at the newest loaded one."""
    loaded = [number for number, is_loaded in known.items() if is_loaded]
    return version if version in known or not loaded else max(loaded)


def states_of(server: str, models: Set[str]) -> dict[str, dict[int, bool]]:
    """Asks a server which versions it has.

    Args:
        server: host:port of its gRPC.
        models: names of the models to ask for.

    Returns:
        Model -> version -> True where the version is loaded, False where it is still being loaded. Models are missing
        for which the server does not answer, and versions that it does not have or could not load.
    """
    result: dict[str, dict[int, bool]] = {}
    state = ModelVersionStatus.State
    with grpc.insecure_channel(server) as channel:
        for model in models:
            request = GetModelStatusRequest(model_spec=model_spec(model))
            try:
                states = ModelServiceStub(channel).GetModelStatus(request, timeout=ASK_SECONDS).model_version_status
            except grpc.RpcError:  # The server is not up yet, or does not know the model yet. The caller asks again.
                continue
            coming = (state.START, state.LOADING, state.AVAILABLE)
            result[model] = {
                status.version: status.state == state.AVAILABLE for status in states if status.state in coming
            }
    return result


def roll_out(file: Path, target: ModelServerConfig, comment: str, server: str | None) -> None:
    """Brings models.config to `target`, in as many steps as a running server needs.

    Args:
        file: models.config.
        target: the configuration to reach.
        comment: first lines of the file.
        server: host:port of the gRPC of a server that follows the file; None if none does.

    Raises:
        RollOutError: the server has not loaded the versions in time. The versions stay in the file, and all labels
            stay where they were.
    """
    now = text_format.Parse(file.read_text(), ModelServerConfig()) if file.is_file() and server else ModelServerConfig()
    models, end = {model.name for model in target.model_config_list.config}, time.monotonic() + PATIENCE_SECONDS
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
