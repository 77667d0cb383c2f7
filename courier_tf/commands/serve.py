"""`courier serve`: starts TensorFlow Serving on the bundle where it is installed, else the local server."""

import contextlib
import logging
import os
import queue
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Literal

from google.protobuf import text_format

from courier_tf.process import short_collections
from courier_tf.workdir.atomic import write_file
from serving.bundle.configuration import (
    BATCHING_CONFIG,
    COMPOSE_FILE,
    MODELS_CONFIG,
    MONITORING_CONFIG,
    BundleError,
    read_models_config,
)
from serving.bundle.replicas import AddressError, addresses_of, ask
from serving.bundle.steps import next_step

LOG = logging.getLogger(__name__)

BINARY = "tensorflow_model_server"
#: Exit codes of a server that was told to end: its own, that of the signal, and those of a shell and of Docker.
ENDED = (0, -signal.SIGTERM, 128 + signal.SIGTERM, 128 + signal.SIGINT)
Server = Literal["auto", "tensorflow_model_server", "docker", "local"]


def serve(
    bundle: Path, models: Path, port: int, rest_port: int, server: Server = "auto", host: str = "localhost"
) -> None:
    """Serves until it is interrupted or terminated.

    Args:
        bundle, models: folders of the bundle and of the models.
        port, rest_port: ports of gRPC and REST.
        server: which server; "auto" takes the first of `tensorflow_model_server`, Docker and the local server that is
            installed.
        host: address to listen on. `tensorflow_model_server` knows no other than all of the machine's.

    Raises:
        BundleError: the bundle is missing or broken, or the server is not installed, or it failed.
    """
    read_models_config(bundle / MODELS_CONFIG, models)  # Fails early.
    chosen = available() if server == "auto" else server
    LOG.info("Serving %s: gRPC %s:%d, REST http://%s:%d", models, host, port, host, rest_port)
    if chosen == BINARY:
        LOG.info(
            "by TensorFlow Serving (%s), on all addresses of this machine: whoever reaches gRPC may load other models",
            shutil.which(BINARY),
        )
        _run_binary(bundle, models, port, rest_port)
    elif chosen == "docker":
        if not _succeeds("docker", "compose", "version"):
            raise BundleError(
                "docker has no plugin `compose`: install it (docker-compose-plugin), or take --server local"
            )
        LOG.info("by TensorFlow Serving in Docker")
        ports = {"GRPC_PORT": str(port), "REST_PORT": str(rest_port), "BIND": _ip(host)}
        _run(["docker", "compose", "--file", str(bundle / COMPOSE_FILE), "up"], ports)
    else:
        LOG.info(
            "by the LOCAL SERVER: the API of TensorFlow Serving in Python, for laptops and tests. It does not join "
            "requests into batches; measure nothing with it that is meant for production. (%s on the PATH or a running "
            "Docker with its plugin `compose` would be used instead.)",
            BINARY,
        )
        _run_local(bundle, models, port, rest_port, host)


def available() -> Server:
    """The best server that is installed on this machine."""
    if shutil.which(BINARY):
        return "tensorflow_model_server"
    # Docker's client may be installed without its engine, and without the plugin that reads the compose file.
    if shutil.which("docker") and _succeeds("docker", "info") and _succeeds("docker", "compose", "version"):
        return "docker"
    return "local"


def _succeeds(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=10).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _ip(host: str) -> str:
    """The address of a host, since Docker publishes ports on addresses alone."""
    try:
        return addresses_of([f"{host}:0"])[0].removesuffix(":0").strip("[]")
    except AddressError as error:
        raise BundleError(f"--host {host} has no address") from error


def binary_arguments(config: Path, bundle: Path, port: int, rest_port: int) -> list[str]:
    """The command line of TensorFlow Serving, with the flags of the compose file."""
    return [
        BINARY,
        f"--port={port}",
        f"--rest_api_port={rest_port}",
        f"--model_config_file={config}",
        "--model_config_file_poll_wait_seconds=10",
        "--allow_version_labels_for_unavailable_models=true",
        "--enable_grpc_healthcheck_service=true",
        "--grpc_max_threads=256",
        "--rest_api_num_threads=128",
        "--num_load_threads=4",
        "--max_num_load_retries=2",
        "--load_retry_interval_micros=12000000",
        "--enable_batching=true",
        "--enable_per_model_batching_parameters=true",
        f"--batching_parameters_file={bundle / BATCHING_CONFIG}",
        f"--monitoring_config_file={bundle / MONITORING_CONFIG}",
    ]


def _run_binary(bundle: Path, models: Path, port: int, rest_port: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / MODELS_CONFIG
        given = read_models_config(bundle / MODELS_CONFIG, models)
        write_file(config, text_format.MessageToString(given))

        def follow() -> None:
            """Writes the bundle's configuration with the models' place on this machine. Labels move once they may."""
            target = read_models_config(bundle / MODELS_CONFIG, models)
            if target == given:
                return
            address = f"localhost:{port}"
            step = next_step(target, given, {address: ask(address, target)}, by_file_alone=True)
            if step != given:
                write_file(config, text_format.MessageToString(step))
                given.CopyFrom(step)

        def follow_if_possible() -> None:
            try:
                follow()
            except (BundleError, OSError) as error:  # The versions that are served stay.
                LOG.warning("the bundle is not followed: %s", error)

        _run(binary_arguments(config, bundle.resolve(), port, rest_port), {}, follow_if_possible)


def _run(command: list[str], environment: Mapping[str, str], every_second: Callable[[], None] = lambda: None) -> None:
    server = _Server()
    with stopped_by(server.stop):  # Before it starts: a signal in between would leave it behind.
        process = server.start(command, {**os.environ, **environment})
        try:
            while process.poll() is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    every_second()
                    process.wait(1)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
    if process.returncode not in ENDED:
        raise BundleError(f"{command[0]} ended with code {process.returncode}")


class _Server:
    """A server process that can be told to end at any moment, also before it has started."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._asked = self._told = False

    def start(self, command: list[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """Starts it in a session of its own: Ctrl-C would reach it twice, and Docker then ends at once."""
        self._process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, start_new_session=True)
        if self._asked and not self._told:
            self.stop()
        return self._process

    def stop(self) -> None:
        """Tells it to end, at once or when it has started. Handlers of signals call this."""
        self._asked = True
        if self._process:
            self._told = True
            self._process.terminate()


def _run_local(bundle: Path, models: Path, port: int, rest_port: int, host: str) -> None:
    stopped: queue.SimpleQueue[None] = queue.SimpleQueue()  # A handler of signals must not set an Event.
    with stopped_by(lambda: stopped.put(None)):
        from serving.local.local_server import LocalServer  # TensorFlow only where it is needed.

        with short_collections():  # Of the models, which come and go, alone.
            try:
                server = LocalServer(bundle, models, port, rest_port, host)
            except (OSError, RuntimeError) as error:
                raise BundleError(f"port {port} or {rest_port} cannot be used: {error}") from error
            with server:
                for model, loaded in server.models.summary.items():
                    LOG.info("%s: %s", model, loaded)
                LOG.info("ready")
                stopped.get()


@contextlib.contextmanager
def stopped_by(stop: Callable[[], None]) -> Iterator[None]:
    """Calls `stop` at SIGINT, SIGTERM and SIGHUP, also where a shell started us in the background, SIGINT ignored."""
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # `nohup` ignores it on purpose.
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, lambda *_: stop()) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
