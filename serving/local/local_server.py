"""A server for laptops and tests, with the gRPC and REST API of TensorFlow Serving over the same SavedModels.

It joins no requests into batches: each runs by itself, in Python threads around TensorFlow sessions.
"""

import contextlib
import logging
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
from google.protobuf import text_format
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

from serving.bundle.configuration import METRICS_PATH, MODELS_CONFIG, MONITORING_CONFIG, BundleError
from serving.bundle.server_config_pb2 import MonitoringConfig
from serving.local.grpc_api import MalformedMessages, ModelService, PredictionService
from serving.local.http_server import HttpServer
from serving.local.loaded import LoadedModels
from serving.local.reflection import Reflection
from serving.local.rest_api import RestApi

LOG = logging.getLogger(__name__)
POLL_SECONDS = 1.0
GRPC_THREADS, REST_THREADS = 256, 128  # Of the requests that are answered at the same time.
SERVICES = ("", "ModelService", "PredictionService")  # The names under which TensorFlow Serving says that it is well.


class LocalServer:
    """Serves a bundle until it is stopped, and follows new versions and labels while it runs.

    Args:
        bundle: folder with models.config.
        models: folder of the models.
        port, rest_port: ports of gRPC and REST; 0 takes a free one.
        host: name or address to listen on.
        warm_up: whether a version replays its warm-up requests before it takes traffic.
        poll_seconds: time between two looks at models.config.
        grpc_threads, rest_threads: the most requests that are answered at the same time. By gRPC further ones are
            RESOURCE_EXHAUSTED, by REST they wait.

    Raises:
        BundleError: models.config is missing or broken.
        OSError, RuntimeError: a port is taken.
    """

    def __init__(
        self,
        bundle: Path,
        models: Path,
        port: int = 0,
        rest_port: int = 0,
        host: str = "localhost",
        warm_up: bool = True,
        poll_seconds: float = POLL_SECONDS,
        grpc_threads: int = GRPC_THREADS,
        rest_threads: int = REST_THREADS,
    ) -> None:
        self.models = LoadedModels(bundle / MODELS_CONFIG, models, warm_up)
        self._poll_seconds, self._stopped = poll_seconds, threading.Event()
        self._health = health.HealthServicer()
        self._rest = HttpServer(host, rest_port, RestApi(self.models, _metrics_path(bundle)).respond, rest_threads)
        self.rest_port = self._rest.server_address[1]
        # The ports are taken first, since loading takes long; they open after it, so that probes fail fast until then.
        try:
            with _held(host, port) as self.port:
                self.models.refresh()
            self._rest.open()
            self._grpc = self._listening(host, grpc_threads)
        except BaseException:
            self._rest.server_close()
            raise
        self._rest.serve()
        threading.Thread(target=self._follow, daemon=True).start()

    def stop(self, grace_seconds: float = 5.0) -> None:
        """Takes no new requests, and lets running ones end."""
        self._stopped.set()
        self._health.enter_graceful_shutdown()
        ended = self._grpc.stop(grace_seconds)
        self._rest.drain(grace_seconds)
        ended.wait()

    def __enter__(self) -> "LocalServer":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _listening(self, host: str, threads: int) -> grpc.Server:
        # TensorFlow Serving takes messages of any size. A port that another process uses is an error.
        options = [
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),
        ]
        server = grpc.server(
            ThreadPoolExecutor(threads),
            interceptors=[MalformedMessages()],
            options=options,
            maximum_concurrent_rpcs=threads,
        )
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(PredictionService(self.models), server)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelService(self.models), server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        Reflection().add_to(server)
        self._tell_health()
        server.add_insecure_port(f"{host}:{self.port}")
        server.start()
        return server

    def _follow(self) -> None:
        while not self._stopped.wait(self._poll_seconds):
            before = self.models.summary
            try:
                self.models.refresh()
            except Exception as error:  # Without this thread no later version would ever be served.
                LOG.error("what is loaded stays: %s", error, exc_info=not isinstance(error, (BundleError, OSError)))
                continue
            if self.models.summary != before:
                LOG.info("now serving %s", self.models.summary)
                self._tell_health()

    def _tell_health(self) -> None:
        state = health_pb2.HealthCheckResponse
        for service in SERVICES:
            self._health.set(service, state.SERVING if self.models.ready else state.NOT_SERVING)


@contextlib.contextmanager
def _held(host: str, port: int) -> Iterator[int]:
    """Keeps a port from others, on which nobody listens yet; yields its number.

    Raises:
        OSError: another process has it.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as holder:
        # Connections that have just ended keep nobody from a port, as with gRPC.
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(address)
        yield holder.getsockname()[1]


def _metrics_path(bundle: Path) -> str | None:
    """Where Prometheus is to read the metrics, as the bundle says; None for nowhere.

    Raises:
        BundleError: the file is broken.
    """
    file = bundle / MONITORING_CONFIG
    try:
        config = text_format.Parse(file.read_text(), MonitoringConfig()) if file.is_file() else MonitoringConfig()
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise BundleError(f"{file}: {error}") from error
    return (config.prometheus_config.path or METRICS_PATH) if config.prometheus_config.enable else None
