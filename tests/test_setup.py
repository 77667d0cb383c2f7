"""What the distributions hold: every file of the packages, and what a build from the sdist needs."""

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

PACKAGES = ("courier_tf", "beam_jobs", "serving")
#: Files among the packages that are for people, or for the client's own distribution.
NOT_INSTALLED = {"serving/README.md", "serving/client/pyproject.toml", "serving/client/LICENSE"}


def tracked(*folders):
    """Files that git knows. A build must not depend on what else lies in a checkout."""
    listed = subprocess.run(["git", "ls-files", "--", *folders], check=True, capture_output=True, text=True)
    return {name for name in listed.stdout.splitlines() if Path(name).exists()}


@pytest.mark.slow
def test_wheel_and_sdist_hold_every_file_of_the_packages(tmp_path):
    for name in tracked():
        (tmp_path / "checkout" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(name, tmp_path / "checkout" / name)
    # By default the wheel is built from the sdist: what that lacks is missing in both.
    subprocess.run([sys.executable, "-m", "build", "--outdir", tmp_path, tmp_path / "checkout"], check=True)
    files = tracked(*PACKAGES)
    (wheel,), (sdist,) = tmp_path.glob("*.whl"), tmp_path.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        installed = {name for name in archive.namelist() if ".dist-info/" not in name}
        (licence,) = [name for name in archive.namelist() if name.endswith("licenses/LICENSE")]
        assert archive.read(licence) == Path("LICENSE").read_bytes()
    assert installed == files - NOT_INSTALLED
    with tarfile.open(sdist) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    assert files | {"LICENSE", "README.md", "pyproject.toml", "setup.py"} <= inside
