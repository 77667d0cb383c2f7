"""What the programs do before anything else."""

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
