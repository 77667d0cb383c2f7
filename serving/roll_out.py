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

from courier_tf.atomic import write_file
from serving.messages import model_spec

ASK_SECONDS = 2.0
PATIENCE_SECONDS = 300.0


class RollOutError(RuntimeError):
    """A server has not loaded what it was told to."""


def next_step(target: ModelServerConfig, now: ModelServerConfig, loaded: Mapping[str, Set[int]]) -> ModelServerConfig:
    """What a server takes that has `now`: the versions of `target`, and of its labels those that may move.

    Args:
        target: where to.
        now: what the server was given last, whether or not it took it.
        loaded: model -> versions that it can answer with; none of one that is not up, which takes every label.
    """
    step, before = ModelServerConfig(), {one.name: one.version_labels for one in now.model_config_list.config}
    step.CopyFrom(target)
    for one in step.model_config_list.config:
        labels = before.get(one.name, {})
        there = loaded.get(one.name, frozenset())
        for label, version in list(one.version_labels.items()):
            if version in there:
                continue
            if labels.get(label, version) != version:
                one.version_labels[label] = labels[label]
            elif there:
                one.version_labels[label] = max(there)
        versions = one.model_version_policy.specific.versions
        versions[:] = sorted({*versions, *one.version_labels.values()})
    return step


def loaded_versions(server: str, models: Set[str]) -> dict[str, set[int]]:
    """Model -> versions that the server at host:port can answer with; none of a server that does not answer."""
    found: dict[str, set[int]] = {}
    with grpc.insecure_channel(server) as channel:
        for model in models:
            request = GetModelStatusRequest(model_spec=model_spec(model))
            try:
                states = ModelServiceStub(channel).GetModelStatus(request, timeout=ASK_SECONDS).model_version_status
            except grpc.RpcError:  # Not up yet, or a model that it does not know yet: asked again.
                continue
            found[model] = {one.version for one in states if one.state == ModelVersionStatus.AVAILABLE}
    return found


def roll_out(file: Path, target: ModelServerConfig, comment: str, server: str | None) -> None:
    """Brings models.config to `target`; with a running server in as many steps as that can take.

    Args:
        file: models.config.
        target: where to.
        comment: first lines of the file.
        server: host:port of the gRPC of a server that follows the file; None if none does.

    Raises:
        RollOutError: the server has not loaded the versions in time. They stay in the file, the labels where they were.
    """
    now = text_format.Parse(file.read_text(), ModelServerConfig()) if file.exists() and server else ModelServerConfig()
    models, end = {one.name for one in target.model_config_list.config}, time.monotonic() + PATIENCE_SECONDS
    while True:
        step = next_step(target, now, loaded_versions(server, models) if server else {})
        if step != now:
            write_file(file, comment + text_format.MessageToString(step))
            now = step
        if step == target:
            return
        if time.monotonic() > end:
            raise RollOutError(f"{server} has not loaded the versions in {file} within {PATIENCE_SECONDS:.0f} s")
        time.sleep(0.2)
