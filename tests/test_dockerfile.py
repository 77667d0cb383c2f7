"""The images for training and for the demo: files, versions and commands that exist. They are not built here."""

import json
import re
from pathlib import Path

import pytest

from courier_tf.commands import program
from courier_tf.commands.command import Command

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "Dockerfile").read_text()
LINES = re.sub(r"\\\n\s*", "", TEXT).splitlines()


def arguments(instruction):
    return [line.partition(" ")[2] for line in LINES if line.startswith(f"{instruction} ")]


def commands():
    """Words after `courier` of all commands that the images run, and of those in its comments."""
    for run in [
        *arguments("RUN"),
        *(line.replace("DATA:/data courier", "courier") for line in LINES if "-v DATA" in line),
    ]:
        yield from (words.split() for words in re.findall(r"\bcourier (\w[^&]*)", run) if not words.startswith("/"))
    yield from (json.loads(words) for words in arguments("CMD") if "--help" not in words)


@pytest.mark.parametrize("words", list(commands()), ids=" ".join)
def test_its_commands_are_ours(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert isinstance(program.read(words), Command)


def test_what_it_copies_is_there():
    sources = [source for copied in arguments("COPY") for source in copied.split()[:-1]]
    assert len(sources) == 3 and all((ROOT / source).exists() for source in sources)


def test_its_python_is_that_of_the_lock():
    (python,) = re.findall(r"^FROM python:([\d.]+)-slim", TEXT, re.MULTILINE)
    assert f"PYTHON ?= python{python}\n" in (ROOT / "Makefile").read_text()


def test_tensorflow_with_cuda_is_that_of_the_lock():
    lock = (ROOT / "requirements.lock").read_text()
    (pattern,) = re.findall(r"sed -nE 's/(.*?)\.\*/", TEXT)
    versions = [match.group(1) for line in lock.splitlines() if (match := re.match(pattern, line))]
    assert len(versions) == 1 and versions[0].startswith("2.16.")


def test_nothing_runs_as_root():
    assert arguments("USER")[-1] != "root"
