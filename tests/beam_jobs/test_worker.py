"""The container of workers: its packages are all that the jobs import, and its versions those of the lock."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
WORKER = ROOT / "beam_jobs" / "worker"
#: Names of the modules of packages that the jobs do without; their names are not those of their packages.
HEAVY = {
    "keras_cv", "tensorflow_recommenders", "tensorflow_io", "tensorflow_serving", "grpc_health", "scann", "sklearn",
    "scipy", "matplotlib", "safetensors", "torch", "tensorflow_datasets", "kagglehub",
}  # fmt: skip
BLOCKED = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        # Beam imports some of its own accord where they are there, and does without them elsewhere.
        if name.partition(".")[0] in {heavy}:
            raise ImportError("not in the container: " + name)
sys.meta_path.insert(0, Blocked())
import beam_jobs.ingest_pipeline, beam_jobs.embed, beam_jobs.features
"""


def names(lines):
    found = (re.match(r"[A-Za-z0-9._-]+", line) for line in lines)
    return {match.group().lower().replace("_", "-") for match in found if match}


def test_a_worker_imports_nothing_else():
    code = BLOCKED.format(heavy=HEAVY)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]


def test_its_packages_are_ours_and_in_the_lock():
    listed = names((WORKER / "requirements.txt").read_text().splitlines())
    ours = names(re.findall(r'"([a-z][^"]*)', (ROOT / "setup.py").read_text()))
    assert listed - ours == set()
    assert listed <= names((ROOT / "requirements.lock").read_text().splitlines())


def test_the_image_has_the_beam_of_the_lock():
    version = re.search(r"^apache-beam==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE).group(1)
    assert f"FROM apache/beam_python3.11_sdk:{version}\n" in (WORKER / "Dockerfile").read_text()
