"""The client as a distribution of its own: small, quick to import, without TensorFlow."""

import importlib.metadata
import json
import os
import shutil
import statistics
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement

import courier_tf
from serving.client import contract
from serving.local.local_server import LocalServer
from tests.served_shop import IDS

FOLDER = Path("serving/client")
PROJECT = tomllib.loads((FOLDER / "pyproject.toml").read_text())["project"]
HEAVY = {"tensorflow", "tensorflow_serving", "tf_keras", "apache_beam", "courier_tf", "beam_jobs", "requests"}
IMPORTED = "import json, sys, serving.client; print(json.dumps(sorted(sys.modules)))"
#: Prints the seconds of the processor that an import takes: those of the clock depend on what else the machine does.
IMPORT_SECONDS = "import time; start = time.process_time(); import serving.client; print(time.process_time() - start)"
CALLS = """
import json, sys
import numpy as np
from serving.client import CourierClient, RequestLog
from serving.client.request_log import read_log
from pathlib import Path
grpc_target, rest_target, folder, candidates = sys.argv[1], sys.argv[2], Path(sys.argv[3]), sys.argv[4].split()
log, scores = RequestLog(folder, 1.0), []
for target in (grpc_target, rest_target):
    with CourierClient(target, label="canary", timeout_seconds=60, log=log) as client:
        scores.append(client.rank("u1", ["i001"], candidates).probability.tolist())
log.close()
scores += [logged.outputs["probability"][0].tolist() for logged in read_log(folder)]
print(json.dumps(scores))
"""


def output_of(python, *arguments, cwd):
    """Standard output of a Python that sees nothing of this checkout."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run([python, *arguments], cwd=cwd, env=environment, check=True, capture_output=True).stdout


def test_the_version_and_the_licence_are_those_of_the_project():
    assert PROJECT["version"] == courier_tf.__version__
    assert (FOLDER / "LICENSE").read_bytes() == Path("LICENSE").read_bytes()


def test_this_environment_has_what_the_client_requires():
    for requirement in map(Requirement, PROJECT["dependencies"]):
        assert importlib.metadata.version(requirement.name) in requirement.specifier, requirement


def test_the_client_imports_nothing_heavy():
    """REST's `requests` comes with the first client that has a URL."""
    script = [sys.executable, "-c", IMPORTED]
    modules = json.loads(subprocess.run(script, check=True, capture_output=True).stdout)
    assert not HEAVY & {module.split(".")[0] for module in modules}


@pytest.mark.slow
def test_the_wheel_in_an_environment_of_its_own(shop, ranker, tmp_path):
    """Less than 100 MB and 0.3 s, and the scores of the full environment over both transports, and from the log."""
    shutil.copytree(FOLDER, tmp_path / "client", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "build"))
    subprocess.run([sys.executable, "-m", "build", "--outdir", tmp_path, tmp_path / "client"], check=True)
    assert list(tmp_path.glob("*.tar.gz"))
    (wheel,) = tmp_path.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "pip", "--python", python, "install", "--quiet", wheel], check=True)
    packages = Path(
        output_of(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path).decode().strip()
    )
    assert not [path for path in packages.iterdir() if path.name.split("-")[0] in HEAVY - {"requests"}]
    assert sum(path.stat().st_size for path in packages.rglob("*")) < 100e6
    seconds = [float(output_of(python, "-c", IMPORT_SECONDS, cwd=tmp_path)) for _ in range(5)]
    assert statistics.median(seconds) < 0.3, seconds
    with LocalServer(shop.workdir / "serving", shop.workdir / "models", warm_up=False) as server:
        targets = [f"localhost:{server.port}", f"http://localhost:{server.rest_port}"]
        script = ["-W", "error", "-c", CALLS, *targets, tmp_path / "log", " ".join(IDS[:5])]
        scores = json.loads(output_of(python, *script, cwd=tmp_path))
    items = [[item.encode() for item in IDS[:5]]]
    features = {"user_id": [b"u1"], "history_item_ids": [[b"i001"]], "item_id": items}
    expected = ranker.run(contract.RANK, features)["probability"]
    np.testing.assert_allclose(scores, np.repeat(expected, 4, axis=0), atol=1e-6)
