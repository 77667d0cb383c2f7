"""Asks the replicas of a server what they have: versions, labels, and why a version could not be loaded."""

import dataclasses
import socket
from collections.abc import Mapping, Sequence

import grpc
from tensorflow_serving.apis.get_model_metadata_pb2 import GetModelMetadataRequest
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusRequest, ModelVersionStatus
from tensorflow_serving.apis.model_management_pb2 import ReloadConfigRequest
from tensorflow_serving.apis.model_service_pb2_grpc import ModelServiceStub
from tensorflow_serving.apis.prediction_service_pb2_grpc import PredictionServiceStub
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from courier_tf.escaping import printable
from serving.bundle.messages import model_spec

ASK_SECONDS = 2.0
RELOAD_SECONDS = 30.0  # A server answers once it has taken the configuration, which waits for one that is under way.
#: A server that is not up, or too busy to answer. What else it says is an answer.
SILENT = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


class AddressError(ValueError):
    """What should be HOST:PORT is something else, or nobody knows the host."""


@dataclasses.dataclass(frozen=True)
class Replica:
    """What a replica has, at the moment it was asked.

    Attributes:
        versions: model -> version -> True where it is loaded, False where it is still being loaded.
        labels: model -> label -> the version that answers to it.
        failed: model -> version -> why it could not be loaded.
        silence: why the replica does not answer, "" where it does. Then the others are empty.
    """

    versions: Mapping[str, Mapping[int, bool]] = dataclasses.field(default_factory=dict)
    labels: Mapping[str, Mapping[str, int]] = dataclasses.field(default_factory=dict)
    failed: Mapping[str, Mapping[int, str]] = dataclasses.field(default_factory=dict)
    silence: str = ""

    def has_loaded(self, model: str, version: int) -> bool:
        """Whether a version answers here."""
        return self.versions.get(model, {}).get(version, False)


def require_addresses(servers: Sequence[str]) -> None:
    """Refuses what is no HOST:PORT.

    Raises:
        AddressError: names the word.
    """
    for server in servers:
        _host_and_port(server)


def addresses_of(servers: Sequence[str]) -> list[str]:
    """The replicas behind some addresses: a name stands for every address that the DNS has for it.

    Of a name with addresses of both IPv4 and IPv6, those of IPv4 count: each replica has one of either.

    Args:
        servers: HOST:PORT of each.

    Returns:
        IP:PORT of each replica, once.

    Raises:
        AddressError: names the word that is no HOST:PORT, or the host that is unknown.
    """
    addresses = []
    for server in servers:
        host, port = _host_and_port(server)
        try:
            resolved = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise AddressError(
                f"--server {printable(server)}: the host has no address ({error}). A headless service has none while "
                "no replica is ready: start one, or do without --server"
            ) from error
        of_ipv4 = [address for family, *_, address in resolved if family == socket.AF_INET]
        chosen = of_ipv4 or [address for *_, address in resolved]
        addresses += [f"[{ip}]:{port}" if ":" in str(ip) else f"{ip}:{port}" for ip, *_ in chosen]
    return list(dict.fromkeys(addresses))


def ask(address: str, config: ModelServerConfig) -> Replica:
    """Asks a replica for the models of a configuration, and where its labels are.

    Args:
        address: IP:PORT of its gRPC.
        config: the models and labels to ask for.
    """
    with grpc.insecure_channel(address) as channel:
        try:
            return _ask(channel, config)
        except grpc.RpcError as error:
            return Replica(silence=_reason(error))


def _ask(channel: grpc.Channel, config: ModelServerConfig) -> Replica:
    versions: dict[str, dict[int, bool]] = {}
    labels: dict[str, dict[str, int]] = {}
    failed: dict[str, dict[int, str]] = {}
    for model in config.model_config_list.config:
        request = GetModelStatusRequest(model_spec=model_spec(model.name))
        try:
            states = ModelServiceStub(channel).GetModelStatus(request, timeout=ASK_SECONDS).model_version_status
        except grpc.RpcError as error:
            if error.code() in SILENT:
                raise
            continue  # It does not know the model yet. The caller asks again.
        versions[model.name], failed[model.name] = _versions(states), _failed(states)
        held = {label: _version_of(channel, model.name, label) for label in model.version_labels}
        labels[model.name] = {label: version for label, version in held.items() if version is not None}
    return Replica(versions, labels, failed)


def reload(address: str, config: ModelServerConfig) -> str:
    """Gives one replica a configuration of its own; returns why it does not take it, "" where it does."""
    with grpc.insecure_channel(address) as channel:
        try:
            ModelServiceStub(channel).HandleReloadConfigRequest(
                ReloadConfigRequest(config=config), timeout=RELOAD_SECONDS
            )
        except grpc.RpcError as error:
            return _reason(error)
    return ""


def _host_and_port(server: str) -> tuple[str, int]:
    host, _, port = server.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or (":" in host and not host.startswith("[")):
        raise AddressError(f"--server {printable(server)}: write HOST:PORT, such as localhost:8500")
    return host.strip("[]"), int(port)


def _versions(states: Sequence[ModelVersionStatus]) -> dict[int, bool]:
    state = ModelVersionStatus.State
    coming = (state.START, state.LOADING, state.AVAILABLE)
    return {status.version: status.state == state.AVAILABLE for status in states if status.state in coming}


def _failed(states: Sequence[ModelVersionStatus]) -> dict[int, str]:
    """A version that was unloaded ends, too, but without an error."""
    return {
        status.version: printable(status.status.error_message, 500)
        for status in states
        if status.state == ModelVersionStatus.State.END and status.status.error_code
    }


def _version_of(channel: grpc.Channel, model: str, label: str) -> int | None:
    """The version that answers to a label; None where none does. The status of a model does not tell."""
    request = GetModelMetadataRequest(model_spec=model_spec(model, label=label), metadata_field=["signature_def"])
    try:
        return PredictionServiceStub(channel).GetModelMetadata(request, timeout=ASK_SECONDS).model_spec.version.value
    except grpc.RpcError as error:
        if error.code() in SILENT:
            raise
        return None


def _reason(error: grpc.RpcError) -> str:
    return f"{error.code().name}: {printable(error.details() or 'no details')}"
