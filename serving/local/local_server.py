"""A server for laptops and tests, with the gRPC and REST API of TensorFlow Serving over the same SavedModels.

It joins no requests into batches: each runs by itself, in Python threads around TensorFlow sessions.
"""

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

from serving.bundle.configuration import MODELS_CONFIG, BundleError
from serving.local.grpc_api import ModelService, PredictionService
from serving.local.loaded import LoadedModels
from serving.local.rest_api import RestServer

LOG = logging.getLogger(__name__)
POLL_SECONDS = 1.0
THREADS = 16


class LocalServer:
    """Serves a bundle until it is stopped, and follows new versions and labels while it runs.

    Args:
        bundle: folder with models.config.
        models: folder of the models.
        port, rest_port: ports of gRPC and REST; 0 takes a free one.
        host: name or address to listen on.
        warm_up: whether a version replays its warm-up requests before it takes traffic.
        poll_seconds: time between two looks at models.config.

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
    ) -> None:
        self.models = LoadedModels(bundle / MODELS_CONFIG, models, warm_up)
        self._poll_seconds, self._stopped = poll_seconds, threading.Event()
        self._health = health.HealthServicer()
        # TensorFlow Serving takes messages of any size. A port that another process uses is an error.
        options = [
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),
        ]
        self._grpc = grpc.server(ThreadPoolExecutor(THREADS), options=options)
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(PredictionService(self.models), self._grpc)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelService(self.models), self._grpc)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._grpc)
        # The ports come first, since they may be taken: loading takes long.
        self.port = self._grpc.add_insecure_port(f"{host}:{port}")
        self._rest = RestServer(host, rest_port, self.models)
        self.rest_port = self._rest.server_address[1]
        try:
            self.models.refresh()
        except BaseException:
            self._rest.server_close()
            raise
        self._tell_health()
        self._grpc.start()
        for work in (self._rest.serve_forever, self._follow):
            threading.Thread(target=work, daemon=True).start()

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
        self._health.set("", state.SERVING if self.models.ready else state.NOT_SERVING)
