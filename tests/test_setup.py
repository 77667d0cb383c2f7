"""What the distributions hold, and what `make install` installs: every file of the packages, locked by its hash."""

import hashlib
import re
import runpy
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import setuptools
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

PACKAGES = ("courier_tf", "beam_jobs", "serving")
#: Files among the packages that are for people, or for the client's own distribution.
NOT_INSTALLED = {"serving/README.md", "serving/client/pyproject.toml", "serving/client/LICENSE"}
#: Folders of files for those who run a server.
FOR_OPERATIONS = ("serving/kubernetes", "serving/monitoring", "serving/proxy")


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
    assert installed == files - NOT_INSTALLED - tracked(*FOR_OPERATIONS)
    with tarfile.open(sdist) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    assert files | {"LICENSE", "README.md", "pyproject.toml", "setup.py"} <= inside


def locked(lock):
    """Name -> (version, hashes) of a lock; every line of it must be a package or a hash of the package before it."""
    packages, name = {}, ""
    for line in Path(lock).read_text().splitlines():
        line = line.removesuffix("\\").strip()
        if line.startswith("--hash="):
            packages[name][1].append(line)
        elif not line.startswith("#"):
            name, version = line.split("==")
            name = canonicalize_name(name)
            assert name not in packages
            packages[name] = (version, [])
    return packages


@pytest.mark.parametrize("lock", ["requirements.lock", "pip.lock"])
def test_every_locked_package_has_the_hashes_of_its_files(lock):
    for name, (version, hashes) in locked(lock).items():
        assert hashes, name
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", value) for value in hashes), name
        assert not Version(version).is_prerelease or name == "betterproto", name  # Beam asks for that one.


def test_the_lock_holds_what_setup_py_asks_for():
    arguments = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setuptools, "setup", lambda **given: arguments.update(given))
        runpy.run_path("setup.py")
    versions = {name: version for name, (version, _) in locked("requirements.lock").items()}
    for text in [*arguments["install_requires"], *arguments["extras_require"]["dev"]]:
        asked = Requirement(text)
        assert asked.specifier.contains(versions[canonicalize_name(asked.name)], prereleases=True), text
    for line in Path("lock.in").read_text().splitlines():
        if line and not line.startswith("#"):
            asked = Requirement(line)
            assert asked.specifier.contains(versions[canonicalize_name(asked.name)]), line
    # Both locks are installed one after the other: what stands in both must not be changed by the second.
    for name, (version, hashes) in locked("pip.lock").items():
        assert name == "pip" or locked("requirements.lock")[name] == (version, hashes)


def test_make_install_takes_nothing_without_a_hash():
    recipe = re.search(r"^\$\(VENV\)/\.installed:.*\n((?:\t.*\n)+)", Path("Makefile").read_text(), re.MULTILINE)
    installs = [line for line in recipe[1].splitlines() if "pip install" in line]
    assert len(installs) == 3
    assert all("--require-hashes" in line or "--no-deps --no-build-isolation --editable ." in line for line in installs)
    assert "--no-build-isolation" in installs[1]  # Else pip fetches what source packages are built with, unlocked.


def test_a_package_with_another_hash_is_refused(tmp_path):
    """What `make install` does with a file that is not the one that was locked."""
    wheel = tmp_path / "thing-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("thing.py", "")
        archive.writestr("thing-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: thing\nVersion: 1.0\n")
        archive.writestr("thing-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("thing-1.0.dist-info/RECORD", "")
    right = hashlib.sha256(wheel.read_bytes()).hexdigest()
    for digest, refused in ((right, False), ("0" * 64, True)):
        (tmp_path / "lock").write_text(f"thing==1.0 \\\n    --hash=sha256:{digest}\n")
        words = "install --no-index --dry-run --ignore-installed --require-hashes"
        command = [sys.executable, "-m", "pip", *words.split(), "--find-links", tmp_path, "-r", tmp_path / "lock"]
        done = subprocess.run(command, capture_output=True, text=True)
        assert (done.returncode != 0) == refused, done.stderr
        assert ("DO NOT MATCH THE HASHES" in done.stderr) == refused
