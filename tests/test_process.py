"""What the programs do before anything else."""

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize("program", ["courier_tf.__main__", "courier_tf.experiment.__main__"])
def test_a_program_is_prepared_before_anything_starts_threads(program):
    """Where NumPy has its pools of memory already, TensorFlow gives memory back to the kernel all the time."""
    heavy = "{'numpy', 'pandas', 'pyarrow', 'tensorflow', 'tyro'}"
    code = f"import sys, {program}; sys.exit(str({heavy} & set(sys.modules) or ''))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert found.stderr.strip() == ""


def test_gpus_are_shared_and_exact_unless_the_user_says_otherwise():
    names = ["TF_FORCE_GPU_ALLOW_GROWTH", "NVIDIA_TF32_OVERRIDE"]
    code = f"import os; from courier_tf.process import prepare; prepare(); print(*map(os.getenv, {names}))"
    for given, expected in (({}, "true 0"), ({"NVIDIA_TF32_OVERRIDE": "1"}, "true 1")):
        own = {name: value for name, value in os.environ.items() if name not in names} | given
        found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=own, check=True)
        assert found.stdout.strip() == expected
