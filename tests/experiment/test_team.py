"""The workers of an experiment: what their processes are told. `tests/chain/test_workers.py` (slow) runs them."""

import subprocess
import sys
from pathlib import Path

import pytest

from courier_tf.experiment import team as teams
from courier_tf.experiment.run_grid import run_grid
from courier_tf.experiment.team import Team
from courier_tf.settings import SettingsError
from courier_tf.workers import connection
from courier_tf.workers.places import Places
from tests.experiment.conftest import GRID, TINY

TWO = Team(Places(("a:1", "b:2")), 90)


@pytest.fixture
def started(monkeypatch):
    """The words that processes are started with, in place of starting them."""
    words = []
    monkeypatch.setattr(teams.subprocess, "run", lambda command, **_: words.append(command) or Ended(0))
    return words


class Ended(subprocess.CompletedProcess):
    def __init__(self, code):
        super().__init__([], code)


def test_the_words_of_a_run():
    assert Team().words(Path("run.json")) == ["-m", "courier_tf.experiment", "run.json"]
    workers = ["--workers", "a:1,b:2", "--index", "0", "--worker-timeout-seconds", "90"]
    assert TWO.words(Path("run.json")) == ["-m", "courier_tf.experiment", "run.json", *workers]
    assert TWO.words() == ["-m", "courier_tf.experiment", *workers]


def test_the_others_are_dismissed_at_the_end_and_after_a_failure(started):
    with TWO.dismissed():
        assert not started
    assert len(started) == 1 and started[0][1:3] == ["-m", "courier_tf.experiment"] and "60.0" in started[0]
    with pytest.raises(ValueError), TWO.dismissed():
        raise ValueError
    assert len(started) == 2
    with pytest.raises(SystemExit), TWO.dismissed():
        sys.exit(143)  # By SIGTERM: nothing is begun.
    with Team().dismissed():
        pass
    assert len(started) == 2


def test_workers_that_have_gone_are_a_warning(monkeypatch, caplog):
    monkeypatch.setattr(teams.subprocess, "run", lambda *_, **__: Ended(1))
    with TWO.dismissed():
        pass
    assert "give up by themselves" in caplog.text


def test_a_worker_beside_the_chief_becomes_the_process_of_its_runs(monkeypatch):
    executed = []
    monkeypatch.setattr(connection.os, "execv", lambda *words: executed.append(words))
    Team(Places(("a:1", "b:2"), 1), 90).follow()
    assert executed[0][1][1:5] == ["-m", "courier_tf.experiment", "--workers", "a:1,b:2"]
    assert executed[0][1][5:7] == ["--index", "1"]


def test_several_workers_make_one_run_at_a_time(tmp_path, stand_in):
    with pytest.raises(SettingsError, match="parallel=2: several workers make one run at a time"):
        run_grid(GRID, "raw", tmp_path, TINY, parallel=2, team=TWO)
