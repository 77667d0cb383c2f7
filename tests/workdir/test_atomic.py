"""Locks: one process at a time, and the work is not done twice."""

import errno
import fcntl
import os
import subprocess
import sys
import threading

import pytest

from courier_tf.chain.chain import Chain
from courier_tf.settings.presets import PRESETS
from courier_tf.workdir import artefacts, atomic
from courier_tf.workdir.atomic import exclusive
from courier_tf.workdir.facts import IngestFacts
from courier_tf.workdir.provenance import MadeBy
from tests.stage_facts import example


def test_of_two_commands_in_one_workdir_one_makes_the_stage_and_the_other_finds_it(tmp_path, monkeypatch):
    made_by, made, said = MadeBy("ingest", {}, {}), [], []
    begun, waits = threading.Event(), threading.Event()

    def say(text, *_):
        said.append(text)
        if "another process is making" in text:
            waits.set()

    monkeypatch.setattr(atomic.LOG, "info", say)

    def make(target):
        with artefacts.write_aside(target, made_by) as draft:
            (draft.path / "first").write_text("1")
            begun.set()
            assert waits.wait(60)  # The other one would begin anew here, and remove what is there.
            (draft.path / "second").write_text("2")
            draft.facts = example(IngestFacts)
        made.append(target)

    def run():
        Chain(tmp_path, PRESETS["tiny"]).unless_current(tmp_path / "ingest", made_by, make)

    threads = [threading.Thread(target=run) for _ in range(2)]
    threads[0].start()
    assert begun.wait(60)
    threads[1].start()
    for thread in threads:
        thread.join()
    assert len(made) == len(said) == 1
    assert {path.name for path in (tmp_path / "ingest").iterdir()} == {"artefact.json", "first", "second"}


def test_a_killed_process_holds_no_lock(tmp_path, caplog):
    caplog.set_level("INFO")
    script = f"""
import pathlib, time
from courier_tf.workdir.atomic import exclusive
with exclusive(pathlib.Path({str(tmp_path / "lock")!r}), ""):
    print("held", flush=True)
    time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        threading.Timer(0.5, holder.kill).start()
        with exclusive(tmp_path / "lock", "waiting for it"):
            pass
    assert holder.returncode == -9 and "waiting for it" in caplog.text


def test_a_file_system_without_locks_is_told_and_used(tmp_path, monkeypatch, caplog):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with exclusive(tmp_path / "lock", "waiting"):
        pass
    assert "is on a file system without locks" in caplog.text


def test_what_lies_in_the_way_of_a_file_is_neither_followed_nor_waited_for(tmp_path):
    """A link to a file elsewhere, a named pipe: in a folder that others may write to."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("kept")
    (tmp_path / ".settings.json.partial").symlink_to(elsewhere)
    atomic.write_file(tmp_path / "settings.json", "{}")
    os.mkfifo(tmp_path / ".settings.json.partial")
    atomic.write_file(tmp_path / "settings.json", "{1}")
    assert (tmp_path / "settings.json").read_text() == "{1}" and elsewhere.read_text() == "kept"
    os.mkfifo(tmp_path / ".pipe.lock")
    with atomic.exclusive(tmp_path / ".pipe.lock", "waiting"):
        pass
    (tmp_path / ".lock").symlink_to(elsewhere)
    with pytest.raises(OSError, match="symbolic links"), atomic.exclusive(tmp_path / ".lock", "waiting"):
        pass
    assert elsewhere.read_text() == "kept"
