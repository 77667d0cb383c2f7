"""Several processes train as one process with as many devices does: the same weights, whoever is killed meanwhile."""

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from courier_tf.pretrain.encoder_files import WEIGHTS_FILE
from courier_tf.pretrain.fit import ENCODER_FOLDER
from courier_tf.workdir.stages import PRETRAIN, RANK
from tests.pretrain.test_workers import free_ports

ROOT = Path(__file__).parents[2]
RATES = ["--pretrain-learning-rate", "0.05", "--rank-learning-rates", "0.5"]
QUICK = ["--pretrain-steps", "3", "--rank-starts", "1", "--rank-modes", "cluster_id"]
SUPERVISED = ["--supervised-steps", "3", "--supervised-batch-size", "48", "--supervised-learning-rate", "0.05"]
BATCHES = ["--pretrain-batch-rows", "24", "--rank-batch-size", "480"]


def start(devices, log, *words):
    """Starts the program with these words."""
    command = [sys.executable, "-m", "tests.chain.worker_program", str(devices), *map(str, words)]
    return subprocess.Popen(command, cwd=ROOT, stdout=log.open("a"), stderr=subprocess.STDOUT)


class Team:
    """Several workers that run one command on a workdir."""

    def __init__(self, folder, number, *words):
        addresses = [f"localhost:{port}" for port in free_ports(number)]
        self.logs = [folder / f"worker{index}.log" for index in range(number)]
        self.words = [
            [
                *words[:1],
                "--workers",
                ",".join(addresses),
                "--index",
                index,
                "--worker-timeout-seconds",
                240,
                *words[1:],
            ]
            for index in range(number)
        ]
        self.running = {}

    def begin(self, index, *more):
        """Starts one worker, also for the second time. Options given again count last."""
        words = [*self.words[index], *more]
        self.running[index] = start(1, self.logs[index], *words)
        return self

    def begin_all(self):
        for index in range(len(self.words)):
            self.begin(index)
        return self

    def text(self, index=0):
        return self.logs[index].read_text()

    def end(self, seconds=400):
        """The exit codes."""
        try:
            return [self.running[index].wait(seconds) for index in sorted(self.running)]
        finally:
            for process in self.running.values():
                process.kill()

    def succeeds(self, seconds=400):
        codes = self.end(seconds)
        assert not any(codes), "\n".join(self.text(index)[-3000:] for index in range(len(codes)))


def weights(workdir, stage):
    """Name -> array, of the encoder, or of all rankers."""
    files = [workdir / PRETRAIN / ENCODER_FOLDER / WEIGHTS_FILE]
    if stage == RANK:
        files = sorted((workdir / RANK).glob("*/*.h5"), key=str) or sorted((workdir / RANK).glob("*/*/*.h5"), key=str)
    arrays = {}
    for file in files:
        with h5py.File(file) as content:
            content.visititems(
                lambda name, part, file=file: (
                    arrays.update({f"{file.parent.name}/{name}": part[()]}) if isinstance(part, h5py.Dataset) else None
                )
            )
    assert arrays
    return arrays


def same(made, expected):
    """Prints how far two sets of weights differ at most, and fails beyond 1e-5."""
    assert made.keys() == expected.keys()
    floats = {name: value for name, value in expected.items() if np.issubdtype(value.dtype, np.floating) and value.size}
    worst = max(np.abs(made[name] - value).max() for name, value in floats.items())
    print(f"{len(floats)} arrays differ by {worst:.1e} at most")
    assert worst < 1e-5


@pytest.fixture
def workdirs(finished, tmp_path):
    """A function that gives copies of a workdir whose ingest is done, and which has clusters."""

    def copy(name):
        target = tmp_path / name
        target.mkdir()
        for stage in ("ingest", "supervised", "pretrain", "embed", "cluster", "settings.json"):
            source = finished[1].workdir / stage
            (shutil.copytree if source.is_dir() else shutil.copy2)(source, target / stage)
        return target

    return copy


def options(command, workdir, *more):
    """No stage is forced, as a command that starts again must not begin from nothing: its settings are other ones."""
    return [command, "--workdir", workdir, *RATES, *QUICK, *BATCHES, *more]


def alone(tmp_path, devices, words, seconds=400):
    """The same command in one process."""
    log = tmp_path / "alone.log"
    assert start(devices, log, *words).wait(seconds) == 0, log.read_text()[-3000:]


def compare(tmp_path, workdirs, number, command, *more):
    """Trains in one process and in several, and compares the weights."""
    stage = RANK if command == "rank" else PRETRAIN
    one, many = workdirs("one"), workdirs("many")
    before = weights(one, PRETRAIN) if stage == PRETRAIN else None
    team = Team(tmp_path, number, *options(command, many, *more)).begin_all()
    alone(tmp_path, number, options(command, one, *more))
    team.succeeds()
    expected = weights(one, stage)
    same(weights(many, stage), expected)
    if before and before.keys() == expected.keys():
        assert max(np.abs(expected[name] - before[name]).max() for name in expected) > 1e-3
    return team, many


@pytest.mark.slow
def test_two_workers_make_the_encoder_of_one_process(workdirs, tmp_path):
    team, many = compare(tmp_path, workdirs, 2, "pretrain")
    assert "[pretrain] done" in team.text(0) and "[pretrain] done" not in team.text(1)
    assert "[supervised] unchanged, skipped" in team.text(0)
    assert not list(many.glob("**/workertemp*"))


OBJECTIVES = ["courier", "simclr", "simsiam", "simcse", "mil_nce", "clip", "supervised"]


@pytest.mark.slow
@pytest.mark.parametrize("trainable", ["all", "head"])
def test_every_objective(workdirs, tmp_path, trainable):
    """One after the other in a process. The draws of augmentations and dropout are those of a device."""
    words = ["--trainable", trainable]
    if trainable == "head":
        words += ["--features", "pixels", "--backbone", "nano"]

    def commands(folder):
        first, *others = [
            ["--workdir", workdirs(f"{folder}_{objective}"), "--objective", objective] for objective in OBJECTIVES
        ]
        return options("pretrain", *first[1:], *words, *(word for more in others for word in ("--then", *more)))

    team = Team(tmp_path, 2, *commands("many")).begin_all()
    team.succeeds(1500)
    alone(tmp_path, 2, commands("one"), 1500)
    for objective in OBJECTIVES:
        expected = weights(tmp_path / f"one_{objective}", PRETRAIN)
        same(weights(tmp_path / f"many_{objective}", PRETRAIN), expected)


@pytest.mark.slow
def test_three_workers(workdirs, tmp_path):
    compare(tmp_path, workdirs, 3, "pretrain", *SUPERVISED)


@pytest.mark.slow
def test_an_experiment(finished, tmp_path):
    """Two runs: their figures and weights are those of one process, and the second worker ends with the chief."""
    fixed = {"rank_modes": ["none", "cluster_id"], "rank_starts": 1, "pretrain_steps": 3}
    grid = {"about": "Two temperatures.", "blocks": [{"temperature": [0.1, 0.2]}], "seeds": [0], "fixed": fixed}
    (tmp_path / "two.json").write_text(json.dumps(grid))
    (tmp_path / "many").mkdir()
    words = [tmp_path / "two.json", "--raw", finished[0], "--preset", "tiny", *RATES, *SUPERVISED, *BATCHES]
    many = ["experiment", *words, "--workdir", tmp_path / "many" / "work"]
    team = Team(tmp_path / "many", 2, *many).begin_all()
    team.succeeds(900)
    alone(tmp_path, 2, ["experiment", *words, "--workdir", tmp_path / "one" / "work"], 900)
    assert "trains what the chief says" in team.text(1) and "[pretrain] done" not in team.text(1)
    assert "gives up" not in team.text(0)
    folders = [tmp_path / name / "work" / "two" / "valid" for name in ("many", "one")]
    for temperature in ("0.1", "0.2"):
        runs = [folder / "runs" / f"temperature={temperature},seed=0" for folder in folders]
        for stage in (PRETRAIN, RANK):
            same(*(weights(run, stage) for run in runs))
    results = [pd.read_csv(folder / "results.csv").set_index(["variant", "mode"]) for folder in folders]
    assert len(results[0]) == len(results[1]) == 4
    np.testing.assert_allclose(results[0]["auc"], results[1]["auc"], atol=1e-5)
    assert results[0]["auc"].nunique() > 1


@pytest.mark.slow
@pytest.mark.parametrize("number", [2, 3])
def test_the_rankers(workdirs, tmp_path, number):
    compare(tmp_path, workdirs, number, "rank", "--rank-checkpoint-every", "3")


def wait_for(what, seconds=240):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it has not come"
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
@pytest.mark.parametrize("command", ["pretrain", "rank"])
def test_a_worker_is_killed_and_started_again(workdirs, tmp_path, victim, command):
    """At a random moment of the training: the others come back by themselves, and the weights are as if undisturbed."""
    stage = RANK if command == "rank" else PRETRAIN
    one, many = workdirs("one"), workdirs("many")
    more = ["--pretrain-steps", "8", "--checkpoint-every", "2", "--rank-checkpoint-every", "2"]
    team = Team(tmp_path, 2, *options(command, many, *more, "--step-seconds", "0.4")).begin_all()
    moment = random.Random(time.time()).randint(1, 7)
    wait_for(lambda: f"step {moment}\n" in team.text(0))
    team.running[victim].send_signal(signal.SIGKILL)
    team.running[victim].wait()
    team.begin(victim)
    team.succeeds()
    assert "this one starts again, from the last checkpoint" in team.text(1 - victim)
    alone(tmp_path, 2, options(command, one, *more))
    same(weights(many, stage), weights(one, stage))
    print("killed at step", moment)


@pytest.mark.slow
def test_a_worker_that_never_comes_and_one_that_does_not_fit(workdirs, tmp_path):
    lonely = Team(tmp_path, 2, *options("pretrain", workdirs("lonely"))).begin(0, "--worker-timeout-seconds", 5)
    (tmp_path / "mixed").mkdir()
    mixed = Team(tmp_path / "mixed", 2, *options("pretrain", workdirs("shared")))
    mixed.begin(0).begin(1, "--pretrain-steps", "4")
    assert lonely.end() == [1]
    assert lonely.text().splitlines()[-1].startswith("courier: worker 1 (localhost:")
    assert "has not come within 5 s: start it" in lonely.text()
    assert mixed.end() == [1, 1]
    for index in range(2):
        assert "pretrain_steps=4 in place of 3" in mixed.text(index).splitlines()[-1]
        assert "[supervised]" not in mixed.text(index) and "step 1" not in mixed.text(index)
