"""A client that was used before `os.fork` works in the child, as servers do that load an application and then fork."""

import json
import subprocess
import sys

import pytest

SCRIPT = """
import json, os, sys, threading
from pathlib import Path
import numpy as np
from serving.client import CourierClient, RequestLog
from serving.client.request_log import read_log
from tests.serving.client.replicas import REPLICAS

kind, folder = sys.argv[1], Path(sys.argv[2])
reading, writing = os.pipe()
server = os.fork()
if server == 0:  # A process of its own: threads of a server would be gone in the child.
    replica = REPLICAS[kind]().start()
    os.write(writing, replica.target.encode())
    threading.Event().wait(60)
target = os.read(reading, 100).decode()
log = RequestLog(folder, 1.0)
client = CourierClient([target], timeout_seconds=10, log=log)
hedged = CourierClient([target], timeout_seconds=10, hedge_seconds=5)


def ask(client, n):
    x = np.full(70, n)  # In two parts, so that there are threads.
    assert client.predict("image_embedder", "s", {"x": x})["y"].tolist() == (2 * x).tolist()


ask(client, 1)
ask(hedged, 1)
with log._lock, client._attempts.endpoints._lock:  # As if other threads held the locks.
    child = os.fork()
if child == 0:
    for _ in range(3):
        ask(client, 2)
        ask(hedged, 2)
    os._exit(0)
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
ask(client, 3)  # The parent goes on.
client.close()
log.close()
os.kill(server, 9)
files = [sorted({int(call.request.inputs["x"][0]) for call in read_log(file)}) for file in sorted(folder.iterdir())]
print(json.dumps([status, files]))
"""


@pytest.mark.parametrize("kind", ["grpc", "rest"])
def test_a_client_that_was_used_before_a_fork(kind, tmp_path):
    command = [sys.executable, "-W", "error", "-c", SCRIPT, kind, str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    status, files = json.loads(run.stdout)
    assert status == 0, run.stderr
    assert files == [[1, 3], [2]]  # Each process has a log of its own.
