"""How a client connects to a server: TLS, options of gRPC's channels, and headers of each request."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import grpc

#: The client retries, as it knows the deadline. Messages may have any size, as they may for the server. A server that
#: was away is tried again within a second (gRPC's default is up to two minutes), and a connection whose other end has
#: vanished is given up.
_CHANNEL_OPTIONS: dict[str, str | int] = {
    "grpc.enable_retries": 0,
    "grpc.max_receive_message_length": -1,
    "grpc.max_send_message_length": -1,
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.max_reconnect_backoff_ms": 1_000,
    "grpc.keepalive_time_ms": 300_000,  # A server takes more than one every five minutes for an attack.
    "grpc.keepalive_timeout_ms": 5_000,
}


class Target(NamedTuple):
    """Where a server is.

    Attributes:
        address: host:port for gRPC, or a URL for REST.
        name: host:port as the user wrote it, where the address is one of several that the name has. The certificate of
            the server holds the name, and a proxy in front of it may ask for it.
    """

    address: str
    name: str | None = None


@dataclasses.dataclass(frozen=True)
class Tls:
    """Certificates for TLS, as PEM files.

    Attributes:
        ca: who signs the certificates of servers; None for those that the system trusts.
        certificate, key: what the client shows to a server that asks for it; both or neither.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise ValueError(f"certificate {self.certificate} and key {self.key}: give both or neither")

    def credentials(self) -> grpc.ChannelCredentials:
        """The same for gRPC.

        Raises:
            OSError: a file cannot be read.
        """
        ca, key, certificate = (file and file.read_bytes() for file in (self.ca, self.key, self.certificate))
        return grpc.ssl_channel_credentials(ca, key, certificate)


@dataclasses.dataclass(frozen=True)
class Connection:
    """How a client connects.

    Attributes:
        tls: certificates. By gRPC a connection has TLS with it, by REST the URL says whether it has.
        credentials: for TLS over gRPC in place of `tls`, such as tokens that are renewed.
        channel_options: of gRPC's channels, by name; they go before the client's own.
        headers: of each request, by gRPC as its metadata; a function gives those of the moment.
    """

    tls: Tls | None = None
    credentials: grpc.ChannelCredentials | None = None
    channel_options: Mapping[str, str | int] = dataclasses.field(default_factory=dict)
    headers: Mapping[str, str] | Callable[[], Mapping[str, str]] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.tls and self.credentials:
            raise ValueError("both tls and credentials are given; give one of them")

    def headers_now(self) -> dict[str, str]:
        """The headers of a request that is sent now. gRPC's are in lower case, and REST's may have any."""
        headers = self.headers() if callable(self.headers) else self.headers
        return {name.lower(): value for name, value in headers.items()}

    def grpc_credentials(self) -> grpc.ChannelCredentials | None:
        """The credentials of a channel; None for one without TLS."""
        return self.tls.credentials() if self.tls else self.credentials

    def grpc_options(self, target: Target) -> list[tuple[str, str | int]]:
        """The options of a channel to a server."""
        named: dict[str, str | int] = {"grpc.default_authority": target.name} if target.name else {}
        return list({**_CHANNEL_OPTIONS, **named, **self.channel_options}.items())
