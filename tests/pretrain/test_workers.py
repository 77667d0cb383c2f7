"""Two processes over loopback train like one."""

import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest

from .objectives.models import model_of
from .worker import halves, stream, trained


def free_ports(number: int) -> list[int]:
    sockets = [socket.socket() for _ in range(number)]
    for one in sockets:
        one.bind(("localhost", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@pytest.mark.slow
def test_two_processes_train_like_one(tmp_path):
    """The same global batch: the same loss and, after 5 steps of SGD, the same weights."""
    cluster = {"worker": [f"localhost:{port}" for port in free_ports(2)]}
    running = []
    for index in range(2):
        place = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})
        log = (tmp_path / f"worker{index}.log").open("w")
        command = [sys.executable, "-m", "tests.pretrain.worker", str(tmp_path)]
        running.append(subprocess.Popen(command, env={**os.environ, "TF_CONFIG": place}, stdout=log, stderr=log))
    raws, pixels, attributes = halves()
    whole = tuple(np.concatenate(parts) for parts in zip(*raws, strict=True))
    model = model_of("courier", rate=0.005)
    start = [weight.numpy() for weight in model.trainable_variables]
    expected = trained(model, stream(whole, pixels, attributes))
    for index, process in enumerate(running):
        assert process.wait(timeout=300) == 0, (tmp_path / f"worker{index}.log").read_text()[-3000:]
    for index in range(2):
        saved = np.load(tmp_path / f"worker{index}.npz")
        assert set(saved) == set(expected)
        np.testing.assert_allclose(saved["loss"], expected["loss"], rtol=1e-5)
        for name, weight in expected.items():
            np.testing.assert_allclose(saved[name], weight, atol=1e-5)
    assert max(np.abs(expected[str(place)] - weight).max() for place, weight in enumerate(start)) > 1e-3
