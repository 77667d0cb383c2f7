"""The processes of the runs: how many at a time, and that none outlives its experiment."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from courier_tf.experiment.processes import ExperimentError, Processes


def test_a_run_waits_for_memory_that_the_others_leave(tmp_path):
    """Three commands that note when they begin and end, none before two have begun; room for two."""
    notes = tmp_path / "notes"
    note = f"echo + >> {notes}; while [ $(grep -c + {notes}) -lt 2 ]; do sleep 0.05; done; echo - >> {notes}"
    with Processes(tmp_path) as processes:
        processes._largest = processes._free / 2.5
        with ThreadPoolExecutor(3) as pool:
            for code, _ in pool.map(lambda _: processes.run(["sh", "-c", note], tmp_path / "log.txt"), range(3)):
                assert code == 0
    running = np.cumsum([{"+": 1, "-": -1}[word] for word in notes.read_text().split()])
    assert len(running) == 6 and running.max() == 2


@pytest.mark.parametrize("good_before", [False, True])
def test_what_waits_is_started_after_a_failure_unless_it_is_the_first(tmp_path, good_before):
    begun = tmp_path / "begun"
    with Processes(tmp_path) as processes, ThreadPoolExecutor(2) as pool:
        if good_before:
            assert processes.run(["true"], tmp_path / "log.txt")[0] == 0
        processes._largest = processes._free  # Room for one.
        fails = ["sh", "-c", f"echo >> {begun}; while [ ! -e {tmp_path}/go ]; do sleep 0.05; done; exit 3"]
        runs = [pool.submit(processes.run, fails, tmp_path / "log.txt") for _ in range(2)]
        while not begun.exists():
            time.sleep(0.05)
        (tmp_path / "go").touch()
        ends = [run.exception() or run.result()[0] for run in runs]
    if good_before:
        assert ends == [3, 3] and len(begun.read_text().splitlines()) == 2
    else:
        assert 3 in ends and any(isinstance(end, ExperimentError) and "log.txt" in str(end) for end in ends)
        assert len(begun.read_text().splitlines()) == 1


EXPERIMENT = """
import sys, pathlib
from courier_tf.experiment import run_grid
from courier_tf.experiment.processes import Processes
folder = pathlib.Path(sys.argv[1])
command = ["sh", "-c", "echo $$; exec sleep 600"]
run_grid.waves = lambda runs, known: [runs]  # None of them goes on from another one.
run_grid._Session._run = lambda session, key, run: session._processes.run(command, folder / "log.txt")
queue = {(name, 0): None for name in "abcdefgh"}
with Processes(folder) as processes:
    run_grid._Session(folder, {}, {}, 1, processes, run_grid.ALONE)._run_all(queue)
"""


def begun(folder):
    """An experiment in a process of its own, and the number of the process that it has begun."""
    experiment, log = subprocess.Popen([sys.executable, "-c", EXPERIMENT, str(folder)]), folder / "log.txt"
    while not (log.exists() and log.read_text().endswith("\n")):
        assert experiment.poll() is None
        time.sleep(0.05)
    return experiment, int(log.read_text())


def test_what_is_terminated_takes_its_runs_along_and_nobody_else_may_run_meanwhile(tmp_path):
    experiment, number = begun(tmp_path)
    with pytest.raises(ExperimentError, match="another experiment is running"), Processes(tmp_path):
        pass
    experiment.terminate()
    assert experiment.wait(60) == 128 + signal.SIGTERM
    assert int((tmp_path / "log.txt").read_text()) == number, "of those that waited, none was started"
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)
    with Processes(tmp_path):
        pass  # The folder is free again.


def test_a_process_that_outlives_a_sigkill_keeps_the_folder_locked(tmp_path):
    experiment, number = begun(tmp_path)
    experiment.kill()
    experiment.wait(60)
    with pytest.raises(ExperimentError, match="another experiment is running"), Processes(tmp_path):
        pass
    os.kill(number, signal.SIGKILL)
    for _ in range(200):
        try:
            with Processes(tmp_path):
                return
        except ExperimentError:
            time.sleep(0.05)  # It has not gone yet.
    pytest.fail("the folder stays locked")


@pytest.mark.parametrize("trap, noted", [("echo used", ["used"]), ("", [])])
def test_a_process_may_note_what_it_has_used_before_it_ends_and_must_end(tmp_path, monkeypatch, trap, noted):
    monkeypatch.setattr("courier_tf.experiment.processes.GRACE_SECONDS", 10.0 if trap else 0.2)
    ended = f"trap '{trap}; exit 1' TERM" if trap else "trap '' TERM"
    command = ["sh", "-c", f"{ended}; echo begun; while true; do sleep 0.05; done"]
    log = tmp_path / "log.txt"
    with Processes(tmp_path) as processes, ThreadPoolExecutor(1) as pool:
        run = pool.submit(processes.run, command, log)
        while not (log.exists() and log.read_text()):
            time.sleep(0.05)
        processes.kill()
        assert run.result()[0] == (1 if trap else -signal.SIGKILL)
    assert log.read_text().split() == ["begun", *noted]


def test_as_long_as_nothing_is_known_one_runs_alone(tmp_path):
    notes = tmp_path / "notes"
    with Processes(tmp_path) as processes, ThreadPoolExecutor(3) as pool:
        command = ["sh", "-c", f"echo + >> {notes}; sleep 0.2; echo - >> {notes}"]
        for code, _ in pool.map(lambda _: processes.run(command, tmp_path / "log.txt"), range(3)):
            assert code == 0
    assert notes.read_text().split()[:2] == ["+", "-"]
