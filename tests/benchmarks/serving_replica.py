"""A local server in a process of its own, on a bundle that a benchmark changes: `serving_faults` starts them."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import courier_tf  # noqa: F401  (chooses the legacy Keras before TensorFlow is imported)

# isort: split
import numpy as np
from google.protobuf import text_format
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from courier_tf.exporting.versions import newest_version
from courier_tf.process import prepare, short_collections
from courier_tf.workdir.atomic import write_file
from serving.bundle.configuration import MODELS_CONFIG, MODELS_IN_CONTAINER
from serving.bundle.graph_model import GraphModel
from serving.client import contract
from serving.local.local_server import LocalServer

MODELS = (contract.CTR_RANKER, contract.IMAGE_EMBEDDER)
MIB = 1024.0  # In KiB.


def serve(folder: Path, slow_seconds: float) -> None:
    """A server process on `folder/models` and `folder/serving`. It prints its port, and ends with SIGTERM."""
    prepare()
    run = GraphModel.run

    def delayed(*arguments: Any, **named: Any) -> dict[str, np.ndarray]:
        time.sleep(slow_seconds)
        return run(*arguments, **named)

    GraphModel.run = delayed
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    with (
        short_collections(),
        LocalServer(folder / "serving", folder / "models", warm_up=False, poll_seconds=0.1) as server,
    ):
        print(server.port, flush=True)
        ended.wait()


class Server:
    """A server in a process of its own.

    Args:
        folder: see `serve`.
        slow_seconds: it takes so much longer for each answer.
    """

    def __init__(self, folder: Path, slow_seconds: float = 0.0) -> None:
        command = [sys.executable, "-m", "tests.benchmarks.serving_replica", str(folder), str(slow_seconds)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout
        port = next(line for line in self.process.stdout if line.strip().isdigit())  # Libraries print, too.
        self.target = f"localhost:{int(port)}"

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait()

    def resident_mib(self) -> float:
        """Its resident memory."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) / MIB


def make_bundle(folder: Path, models: Path) -> None:
    """A folder that a server reads, with version 1 of each model."""
    for name in MODELS:
        (folder / "models" / name).mkdir(parents=True)
        os.symlink(newest_version(models / name).absolute(), folder / "models" / name / "1")
    (folder / "serving").mkdir()
    write_config(folder, dict.fromkeys(MODELS, 1))


def write_config(folder: Path, versions: dict[str, int]) -> None:
    """Writes which version of each model is loaded, and stable."""
    config = ModelServerConfig()
    for name, version in versions.items():
        model = config.model_config_list.config.add(
            name=name, base_path=f"{MODELS_IN_CONTAINER}/{name}", model_platform="tensorflow"
        )
        model.model_version_policy.specific.versions.append(version)
        model.version_labels["stable"] = version
    write_file(folder / "serving" / MODELS_CONFIG, text_format.MessageToString(config))


if __name__ == "__main__":
    serve(Path(sys.argv[1]), float(sys.argv[2]))
