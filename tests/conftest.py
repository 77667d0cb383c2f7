"""Two logical CPU devices for the whole session, so that every test can compare one replica with two."""

import courier_tf  # noqa: F401  (chooses the legacy Keras before TensorFlow is imported)

# isort: split
import pytest
import tensorflow as tf

from courier_tf.backbone.swin import SIZES
from courier_tf.process import prepare

prepare()

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)


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
