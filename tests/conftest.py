"""Two logical CPU devices for the whole session, so that every test can compare one replica with two."""

from courier_tf.process import prepare

prepare()

# isort: split
import fcntl
import os
import shutil
import signal
from pathlib import Path

import pytest
import tensorflow as tf

from courier_tf.backbone.swin import SIZES

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)

# A shell starts a background job with SIGINT ignored, and every program that the tests start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


#: A Swin that traces and trains in a second, for tests of what stands around it.
SIZES["micro"] = {"patch": 8, "dim": 8, "depths": (1, 2), "heads": (1, 2), "window": 2}


@pytest.fixture(params=["float32", "mixed_bfloat16", "mixed_float16"])
def precision(request):
    """Runs the test under each mixed-precision policy, and restores the default."""
    tf.keras.mixed_precision.set_global_policy(request.param)
    yield request.param
    tf.keras.mixed_precision.set_global_policy("float32")


@pytest.fixture(scope="session")
def two_replicas():
    """A MirroredStrategy over two logical CPU devices, the same for all tests: two disturb each other's collectives."""
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


@pytest.fixture(scope="session")
def made_once(tmp_path_factory):
    """`made_once(name, make)`: a folder that `make(folder)` has filled, by one process of tests for all of them."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def folder_of(name: str, make) -> Path:
        folder, finished = shared / name, shared / f"{name}.finished"
        with (shared / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not finished.exists():
                shutil.rmtree(folder, ignore_errors=True)  # What a process has left in which the making failed.
                folder.mkdir()
                make(folder)
                finished.touch()
        return folder

    return folder_of


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Escapes what a test has logged: pytest-xdist cannot send a text with half a surrogate pair, and dies of it."""
    report = yield
    report.sections = [(name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections]
    return report
