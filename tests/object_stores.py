"""Object stores on loopback, each in a process of its own: one that speaks S3 (moto's server), one that speaks GCS.

Within the process of a test they would wait for ever: pyarrow keeps Python's lock while it asks for a size.
"""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from unittest import mock

import pyarrow.fs

from courier_tf.files import transfer

#: Each server ends with the process that started it, which holds the other end of its input.
START = {
    "s3": "import sys; from moto.server import ThreadedMotoServer; "
    "ThreadedMotoServer('127.0.0.1', int(sys.argv[1])).start(); sys.stdin.read()",
    "gs": "import sys; from gcp_storage_emulator.server import create_server; "
    "create_server('127.0.0.1', int(sys.argv[1]), in_memory=True, default_bucket=sys.argv[2]).start(); "
    "sys.stdin.read()",
}


@contextlib.contextmanager
def store(scheme: str, bucket: str = "bucket") -> Iterator[str]:
    """A store with an empty bucket. The environment names it, as the vendor's own tools want it.

    Args:
        scheme: s3 or gs.
        bucket: its name.

    Yields:
        The address of the bucket. Of gs it has no credentials, which the emulator does not ask for.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    keys = {name: "test" for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
    environment = {
        "s3": {**keys, "AWS_DEFAULT_REGION": "us-east-1", "AWS_ENDPOINT_URL": address},
        "gs": {"CLOUD_STORAGE_EMULATOR_ENDPOINT": address},
    }[scheme]
    words = [sys.executable, "-W", "ignore", "-c", START[scheme], str(port), bucket]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait(port, process)
        transfer._system.cache_clear()  # A store of another test was at another port.
        with mock.patch.dict(os.environ, environment):
            root = f"{scheme}://{bucket}"
            if scheme == "s3":
                pyarrow.fs.FileSystem.from_uri(f"{root}/?allow_bucket_creation=true")[0].create_dir(bucket)
            yield root
    finally:
        process.kill()
        process.communicate()


def _wait(port: int, process: "subprocess.Popen[bytes]") -> None:
    for _ in range(300):
        assert process.poll() is None, "the store has ended"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.1)
    raise TimeoutError(f"nothing listens at port {port}")
