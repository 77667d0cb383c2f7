"""What strangers send to every door of a server in a process of its own: codes, memory, and what its log holds.

    python -m tests.benchmarks.serving_strangers OUT [NUMBER]

NUMBER requests (by default 2,000) go to each door of `tests/serving/test_all_doors.py`, from its seeds.
"""

import collections
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import courier_tf  # noqa: F401  (chooses the legacy Keras before TensorFlow is imported)

# isort: split
import tests.conftest  # noqa: F401  (has the backbone of the tests' shop)
from courier_tf.process import prepare
from serving.client.client import CourierClient
from tests.served_shop import export_again, make_workdir
from tests.servers import Ports, free_port
from tests.serving.test_all_doors import DOORS, Stranger

WARM, MIB = 100, 1024.0
CONTROL = re.compile(rb"[\x00-\x09\x0b-\x1f\x7f]")  # All but the end of a line.


def resident_mib(process: subprocess.Popen[bytes]) -> float:
    """The resident memory of a process."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / MIB


def ask(ports: Ports, door: str, number: int, seed: str) -> dict[str, int]:
    """Sends requests to a door; returns how often each code came."""
    with Stranger(random.Random(seed), ports) as stranger:
        for _ in range(number):
            getattr(stranger, door)()
    return dict(stranger.codes.most_common())


def main(out: Path, number: int) -> None:
    """Asks, prints the figures, and writes `serving_strangers.json`."""
    prepare()
    with tempfile.TemporaryDirectory() as folder:
        workdir, log = Path(folder) / "work", Path(folder) / "log"
        make_workdir(workdir)
        export_again(workdir)
        ports = Ports(free_port(), free_port())
        command = [sys.executable, "-m", "courier_tf", "serve", "--workdir", str(workdir)]
        command += [
            "--log-level",
            "debug",
            "--server",
            "local",
            "--port",
            str(ports.port),
            "--rest-port",
            str(ports.rest_port),
        ]
        with log.open("wb") as file:
            process = subprocess.Popen(command, stdout=file, stderr=file, env={**os.environ, "NO_COLOR": "1"})
        try:
            while b"ready" not in log.read_bytes():
                assert process.poll() is None, log.read_text()
                time.sleep(0.5)
            for door in DOORS:  # A server prepares its graph for each kind of request.
                ask(ports, door, WARM, f"warm {door}")
            memory = [resident_mib(process)]
            codes: dict[str, dict[str, int]] = {}
            for door in DOORS:
                codes[door] = ask(ports, door, number, door)
                memory.append(resident_mib(process))
                print(door, codes[door], f"{memory[-1]:.0f} MiB", flush=True)
            for target in (f"localhost:{ports.port}", f"http://localhost:{ports.rest_port}"):
                with CourierClient(target, label="canary", timeout_seconds=20) as client:
                    assert client.rank("u1", [], ["i001"]).model_version == 1
            assert process.poll() is None
        finally:
            process.terminate()
            process.wait()
        content = log.read_bytes()
    figures: dict[str, Any] = {
        "requests": number * len(DOORS),
        "codes": codes,
        "codes_in_all": dict(sum((collections.Counter(found) for found in codes.values()), collections.Counter())),
        "memory_mib_before_and_after_each_door": memory,
        "exit_code": process.returncode,
        "log_bytes": len(content),
        "control_characters_in_the_log": len(CONTROL.findall(content)),
        "tracebacks_in_the_log": content.count(b"Traceback"),
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "serving_strangers.json").write_text(json.dumps(figures, indent=2))
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 2000)
