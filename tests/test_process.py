"""What the programs do before anything else, and what they show of what is logged."""

import gc
import json
import logging
import os
import subprocess
import sys
import warnings
import weakref
from types import SimpleNamespace

import pytest
import tensorflow as tf

from courier_tf import process
from courier_tf.process import program_line, short_collections, shown_logs


@pytest.mark.parametrize("program", ["courier_tf.__main__", "courier_tf.experiment.__main__"])
def test_a_program_is_prepared_before_anything_starts_threads(program):
    """Where NumPy has its pools of memory already, TensorFlow gives memory back to the kernel all the time."""
    heavy = "{'numpy', 'pandas', 'pyarrow', 'tensorflow'}"
    code = f"import sys, {program}; sys.exit(str({heavy} & set(sys.modules) or ''))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""


def test_gpus_are_shared_and_exact_unless_the_user_says_otherwise():
    names = ["TF_FORCE_GPU_ALLOW_GROWTH", "NVIDIA_TF32_OVERRIDE"]
    code = f"import os; from courier_tf.process import prepare; prepare(); print(*map(os.getenv, {names}))"
    for given, expected in (({}, "true 0"), ({"NVIDIA_TF32_OVERRIDE": "1"}, "true 1")):
        environment = {name: value for name, value in os.environ.items() if name not in names} | given
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
        assert done.stdout.strip() == expected


class Node:
    """Something to collect."""


def test_collections_look_at_what_is_new_alone():
    """A new cycle is collected, an older one is left until the end."""

    def cycle():
        node = Node()
        node.itself = node
        return weakref.ref(node)

    gc.disable()
    try:
        older = Node()
        older.itself, seen = older, weakref.ref(older)
        with short_collections():
            new, before = cycle(), gc.get_freeze_count()
            del older
            gc.collect()
            assert new() is None and seen() is not None and before > 10_000
        assert gc.get_freeze_count() == 0
        gc.collect()
        assert seen() is None
    finally:
        gc.enable()


def log_something():
    logging.getLogger("courier_tf.pretrain.train").info("[pretrain] done in %d s", 3)
    logging.getLogger("beam_jobs.ingest").debug("a detail")
    logging.getLogger("serving.client").warning("a warning")
    logging.getLogger("apache_beam").info("not ours")
    logging.getLogger("apache_beam").warning("theirs")
    try:
        raise ValueError("of a worker")
    except ValueError:
        logging.getLogger("apache_beam.runners").exception("raised again by the runner")


def test_text_is_shown_as_it_is_and_warnings_with_their_level(capsys):
    with shown_logs():
        log_something()
        assert program_line("stopped") == "courier: stopped"
    logging.getLogger("courier_tf").info("after")
    printed = capsys.readouterr()
    assert printed.out == "[pretrain] done in 3 s\n"
    assert printed.err == "warning: a warning\nwarning: theirs\n"


def test_names_cannot_steer_a_terminal_or_invent_a_field(capsys):
    """A name comes from whoever fills the catalogue; an unpaired surrogate comes from a file name that is no UTF-8."""
    name = "\x1b[2J\x9b\u202e\udcff\r<b>"
    for as_json in (False, True):
        with shown_logs(as_json=as_json):
            logging.getLogger("courier_tf").info("item %s\nsecond line", name)
            logging.getLogger("courier_tf").warning("item %s", name)
        printed = capsys.readouterr()
        for stream in (printed.out, printed.err):
            assert not set(stream) & set("\x1b\x9b\u202e\udcff\r")
        if as_json:
            assert json.loads(printed.err.splitlines()[0])["message"].endswith("<b>\nsecond line")
        else:
            assert printed.out == "item \\x1b[2J\\x9b\\u202e\\udcff\\r<b>\nsecond line\n"


def test_several_encoders_in_one_process_are_no_warning(capsys):
    """TensorFlow counts how often it traces the code of a function, and each object has a function of its own."""
    with shown_logs():
        traced = tf.function(lambda number: number, autograph=False)
        for number in range(12):  # A Python number is a part of the signature.
            traced(number)
    assert capsys.readouterr().err == ""


def test_levels(capsys):
    with shown_logs("warning"):
        log_something()
    with shown_logs("debug"):
        logging.getLogger("courier_tf").debug("a detail")
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err == "warning: a warning\nwarning: theirs\ndebug: a detail\n"
    assert not logging.getLogger("courier_tf").isEnabledFor(logging.DEBUG)  # As before.


def test_json_has_one_object_per_line(capsys):
    with shown_logs(as_json=True):
        log_something()
        with warnings.catch_warnings():
            warnings.simplefilter("always")  # In these tests a warning is an error.
            warnings.warn("deprecated", FutureWarning, stacklevel=1)
        assert json.loads(program_line("stopped"))["logger"] == "courier"
        try:
            raise ValueError("two\nlines")
        except ValueError:
            logging.getLogger("courier_tf").exception("failed")
    printed = capsys.readouterr()
    records = [json.loads(line) for line in printed.err.splitlines()]
    assert printed.out == "" and [record["level"] for record in records] == [
        "info", "warning", "warning", "warning", "error",
    ]  # fmt: skip
    assert records[0].keys() == {"time", "level", "logger", "message"}
    assert records[0]["message"] == "[pretrain] done in 3 s" and records[0]["logger"] == "courier_tf.pretrain.train"
    assert records[0]["time"].endswith("+00:00") and "T" in records[0]["time"]
    assert "deprecated" in records[3]["message"] and "ValueError: two\nlines" in records[4]["message"]


def test_other_handlers_get_what_is_logged(caplog):
    with shown_logs():
        log_something()
    assert "[pretrain] done in 3 s" in caplog.messages


def test_freed_memory_goes_back_between_stages():
    """Small pieces freed among pieces that stay: without the release the heap keeps them all."""
    code = """
from courier_tf.process import prepare, release_memory

prepare()  # Tells glibc to keep what is freed.

def resident():
    fields = (line.split() for line in open("/proc/self/status"))
    return next(int(field[1]) // 1024 for field in fields if field[0] == "VmRSS:")

kept, freed = [], []
for number in range(4000):
    freed.append(bytearray(50_000))
    kept.append(bytearray(100))
before = resident()
freed.clear()
held = resident()
release_memory()
print(before - held, held - resident())
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    at_once, released = map(int, told.stdout.split()[-2:])
    assert at_once < 50 and released > 150, "MiB of 190 that are freed"


def test_the_memory_of_a_container_is_what_its_limit_leaves(tmp_path, monkeypatch):
    monkeypatch.setattr(process, "CGROUP", tmp_path)
    monkeypatch.setattr(process.psutil, "virtual_memory", lambda: SimpleNamespace(available=900))
    assert process.available_memory() == 900, "no container"
    (tmp_path / "memory.max").write_text("max\n")
    assert process.available_memory() == 900, "one without a limit"
    (tmp_path / "memory.max").write_text("800\n")
    (tmp_path / "memory.current").write_text("500\n")
    (tmp_path / "memory.stat").write_text("anon 300\nactive_file 100\ninactive_file 50\n")
    assert process.available_memory() == 450, "files that were read can be given up"
    (tmp_path / "memory.max").write_text("4000\n")
    assert process.available_memory() == 900, "more than the machine has"
