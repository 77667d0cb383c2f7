"""The servers that the integration tests run against, and a question for them.

The local one always; TensorFlow Serving, started by `courier serve`, where `tensorflow_model_server` is on the PATH.
Where it is not, a program of that name stands in for it, with the same flags: so `courier serve` is tested as a whole.
"""

import contextlib
import os
import shutil
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import numpy as np
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusRequest, ModelVersionStatus
from tensorflow_serving.apis.model_service_pb2_grpc import ModelServiceStub

from courier_tf.commands.serve import BINARY
from courier_tf.exporting import registry
from serving.bundle.configuration import read_models_config
from serving.bundle.messages import model_spec
from serving.client.client import CourierClient
from serving.client.request_log import RequestLog
from serving.local.local_server import LocalServer

FEATURES = {
    "user_id": np.array([b"u1", b"u2", b"nobody"], object),
    "history_item_ids": np.array([[b"i001", b"i002"], [b"", b""], [b"i003", b""]], object),
    "item_id": np.array([b"i004", b"i005", b"\xff\x00"], object),
}
STAND_IN = "stand-in"
SERVERS = ("local", BINARY if shutil.which(BINARY) else STAND_IN)
PROGRAM = """#!{python}
import argparse, pathlib, signal, threading
from google.protobuf import text_format
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig
from tests.servers import StrictServer
parser = argparse.ArgumentParser()
for flag in ("port", "rest_api_port"):
    parser.add_argument("--" + flag, type=int)
parser.add_argument("--model_config_file", type=pathlib.Path)
asked = parser.parse_known_args()[0]
config = text_format.Parse(asked.model_config_file.read_text(), ModelServerConfig())
models = pathlib.Path(config.model_config_list.config[0].base_path).parent
stopped = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stopped.set())
with StrictServer(asked.model_config_file.parent, models, asked.port, asked.rest_api_port, warm_up=False):
    stopped.wait()
"""


class StrictServer(LocalServer):
    """Refuses, as TensorFlow Serving does, a configuration in which a label in use moves to what is not loaded."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self.refused = 0
        super().__init__(*arguments, **{"poll_seconds": 0.1, **named})
        self._take, self.models.refresh = self.models.refresh, self._refresh

    def _refresh(self) -> None:
        models = self.models
        for model in read_models_config(models.config_file, models.models).model_config_list.config:
            served = models._served[model.name]
            for label, version in model.version_labels.items():
                if served.labels.get(label, version) != version and version not in served.versions:
                    self.refused += 1
                    return
        self._take()


class Ports(NamedTuple):
    """Where a server listens."""

    port: int
    rest_port: int


@contextlib.contextmanager
def running(kind: str, workdir: Path, folder: Path, models: Sequence[str] = ()) -> Iterator[Ports]:
    """Starts TensorFlow Serving or its stand-in on a workdir, and waits for its models; `folder` is for its own files.

    The models are those of the project, unless others are named.
    """
    environment = dict(os.environ)
    if kind == STAND_IN:
        program = folder / BINARY
        program.write_text(PROGRAM.format(python=sys.executable))
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        environment["PATH"] = f"{folder}{os.pathsep}{environment['PATH']}"
        environment["PYTHONPATH"] = os.getcwd()
    ports = Ports(free_port(), free_port())
    command = [sys.executable, "-m", "courier_tf", "serve", "--workdir", str(workdir), "--server", BINARY]
    command += ["--port", str(ports.port), "--rest-port", str(ports.rest_port)]
    process = subprocess.Popen(command, env=environment)
    try:
        _wait(process, ports.port, models or registry.model_names())
        yield ports
    finally:
        process.terminate()
        assert process.wait(60) == 0


def write_log(port: int, folder: Path, share: float = 1.0) -> Path:
    """Asks a server with known and unknown ids, padding and parts, and logs it; returns the folder of the log."""
    items = [f"i{number:03d}" for number in range(11)]
    log = RequestLog(folder, share)
    with CourierClient(f"localhost:{port}", label="canary", timeout_seconds=20, log=log) as client:
        for user in range(6):
            client.rank(f"u{user}", items[:user], items[user : user + 5])
        client.score(["u1", "stranger"], [[], items[:7]], ["i001", "no item"])
        client.similar_to_items(["i001"])
    log.close()
    return folder


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def _wait(process: subprocess.Popen, port: int, models: Sequence[str], seconds: float = 120) -> None:
    """Until all models are available."""
    with grpc.insecure_channel(f"localhost:{port}") as channel:
        for model in models:
            request = GetModelStatusRequest(model_spec=model_spec(model))
            end = time.monotonic() + seconds
            while True:
                try:
                    answer = ModelServiceStub(channel).GetModelStatus(request, wait_for_ready=True, timeout=5)
                    if any(status.state == ModelVersionStatus.AVAILABLE for status in answer.model_version_status):
                        break
                except grpc.RpcError as error:
                    if error.code() not in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.NOT_FOUND):
                        raise
                assert process.poll() is None and time.monotonic() < end, f"{model} is not served"
                time.sleep(0.2)
