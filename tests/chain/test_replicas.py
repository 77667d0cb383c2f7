"""The whole chain on two replicas in one process, as `courier run` has it on a machine with two GPUs."""

import json
import subprocess
import sys

import pytest

from courier_tf.shop import ShopSettings, make_shop

#: Logical CPUs stand in for the GPUs.
PROGRAM = """
import sys
import courier_tf
import tensorflow as tf
from courier_tf.commands.program import main

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, 2 * [tf.config.LogicalDeviceConfiguration()])
devices = tf.config.list_logical_devices("CPU")
tf.config.list_logical_devices = lambda kind: devices
main(sys.argv[1:])
"""


@pytest.mark.slow
def test_all_trainings_of_a_run_on_two_replicas(tmp_path):
    shop, work = tmp_path / "shop [1]", tmp_path / "work of the shop"  # Names that ask for care.
    make_shop(shop, ShopSettings(items=300, users=150))
    words = ["run", "--raw", str(shop), "--workdir", str(work), "--preset", "tiny"]
    done = subprocess.run([sys.executable, "-c", PROGRAM, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = done.stdout.splitlines()
    assert lines.count("trains on CPU:0, CPU:1") == 4, "warm-up, objective, two rankers"
    metrics = json.loads((work / "metrics.json").read_text())
    assert metrics["ranking"]["cluster_id"]["valid"]["auc"] > 0.4
