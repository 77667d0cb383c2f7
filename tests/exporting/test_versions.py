"""How versions are written: whole or not at all, one export at a time."""

import errno
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import tensorflow as tf

from courier_tf.exporting import versions
from courier_tf.exporting.served_model import ServedModel
from courier_tf.exporting.versions import (
    NewVersion,
    VersionError,
    export_lock,
    newest_versions,
    write_versions,
)
from courier_tf.workdir import artefacts
from courier_tf.workdir.atomic import rename_together, write_file
from courier_tf.workdir.facts import VersionFacts
from courier_tf.workdir.stages import EXPORT
from serving.bundle import warmup
from serving.client.contract import Request


class Doubled(tf.Module):
    def __init__(self, version):
        super().__init__()
        self.version = version

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")], autograph=False)
    def call(self, x):
        return {"doubled": 2 * x, "model_version": tf.fill(tf.shape(x), self.version)}

    @property
    def signatures(self):
        return {"serving_default": self.call}


class Doubling(ServedModel):
    """The smallest descriptor; it needs no finished stages."""

    signatures = {"serving_default": "predict"}

    def __init__(self, name, requests):
        self.name = name
        self.warm_up = [Request("serving_default", request) for request in requests]

    def inputs(self, stages):
        return {}

    def build(self, stages, version):
        return Doubled(version)

    def requests(self, stages):
        return self.warm_up

    def differences(self, served, stages):
        return []


def version(model="ctr_ranker", requests=({"x": [1.0]},)):
    return NewVersion(Doubling(model, requests), None)


def newest(models):
    return newest_versions(models, MODELS)


@pytest.fixture
def unchecked(monkeypatch):
    monkeypatch.setattr(versions, "require_stock_ops", lambda paths: None)


def test_numbers_go_up(tmp_path, unchecked):
    for number in (1, 2):
        assert write_versions(tmp_path, [version()]) == [tmp_path / "ctr_ranker" / str(number)]
    write_versions(tmp_path, [version("similar_items")])
    assert newest(tmp_path) == {"ctr_ranker": 2, "similar_items": 1}


def test_a_full_disk_leaves_nothing_behind(tmp_path, unchecked, monkeypatch):
    """The second model fails: the first does not appear either, and its files are gone."""
    write_versions(tmp_path, [version()])
    write = warmup.write

    def full(directory, model, requests, methods):
        if model == "similar_items":
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(directory, model, requests, methods)

    monkeypatch.setattr(warmup, "write", full)
    with pytest.raises(OSError, match="No space left"):
        write_versions(tmp_path, [version(), version("similar_items")])
    assert newest(tmp_path) == {"ctr_ranker": 1}
    assert sorted(path.name for path in (tmp_path / "ctr_ranker").iterdir()) == ["1"]
    assert not list((tmp_path / "similar_items").iterdir())


MODELS = ("ctr_ranker", "image_embedder", "similar_items")


def left(models):
    """Names of everything below the folders of the models."""
    return {model: sorted(path.name for path in (models / model).iterdir()) for model in MODELS}


@pytest.mark.parametrize("failing", range(3))
def test_a_rename_that_fails_takes_back_those_before(tmp_path, unchecked, monkeypatch, failing):
    write_versions(tmp_path, [version(model) for model in MODELS])
    rename, done = Path.rename, []

    def fails(self, target):
        if Path(target).name == "2":
            done.append(target)
            if len(done) == failing + 1:
                raise OSError(errno.EIO, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fails)
    with pytest.raises(OSError, match="Input/output"):
        write_versions(tmp_path, [version(model) for model in MODELS])
    assert len(done) == failing + 1 and left(tmp_path) == {model: ["1"] for model in MODELS}


def test_what_cannot_be_taken_back_is_told_and_the_rest_is_taken_back(tmp_path, monkeypatch):
    pairs = [(tmp_path / f".{name}", tmp_path / name) for name in "abc"]
    for new, _ in pairs:
        new.mkdir()
    rename = Path.rename

    def fails(self, target):
        if self.name in (".c", "b"):
            raise OSError(errno.EIO, f"no {self.name}")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fails)
    with pytest.raises(OSError, match=r"no \.c") as failed:
        rename_together(pairs)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".a", ".c", "b"]
    assert failed.value.__notes__ == [f"{tmp_path / 'b'} stays: [Errno 5] no b"]


def test_a_description_that_does_not_fit_on_the_disk(tmp_path, unchecked, monkeypatch):
    """The last file of the last model: what was written before it does not appear."""
    described = []

    def full(path, text):
        if path.name == artefacts.ARTEFACT_FILE:
            described.append(path)
            if len(described) == 3:
                raise OSError(errno.ENOSPC, "No space left on device")
        write_file(path, text)

    monkeypatch.setattr(artefacts, "write_file", full)
    with pytest.raises(OSError, match="No space left"):
        write_versions(tmp_path, [version(model) for model in MODELS])
    assert len(described) == 3 and left(tmp_path) == {model: [] for model in MODELS}


LIMITED = """
import pathlib, resource, sys
import tensorflow as tf
from courier_tf.exporting import versions
from tests.exporting.test_versions import MODELS, version
versions.require_stock_ops = lambda paths: None
models = pathlib.Path(sys.argv[1])
for size in range(0, 16384, 512):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    try:
        versions.write_versions(models, [version(model) for model in MODELS])
        break
    except (OSError, tf.errors.OpError):
        left = [path for path in models.glob("*/*")]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert not left, left
    print("none")
print("all" if versions.newest_versions(models, MODELS) == {model: 1 for model in MODELS} else "some")
"""


@pytest.mark.slow
def test_wherever_the_writing_of_files_ends_all_models_are_there_or_none(tmp_path):
    """A process that the system lets write ever longer files: it fails at one after the other, as on a full disk."""
    run = subprocess.run([sys.executable, "-c", LIMITED, str(tmp_path)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    outcomes = [word for word in run.stdout.split() if word in ("all", "some", "none")]
    assert outcomes == ["none"] * (len(outcomes) - 1) + ["all"] and len(outcomes) > 3


EXPORTS = """
import pathlib, sys
from courier_tf.exporting import versions
from tests.exporting.test_versions import MODELS, version
versions.require_stock_ops = lambda paths: None
for _ in range(int(sys.argv[2])):
    with versions.export_lock(pathlib.Path(sys.argv[1])):
        versions.write_versions(pathlib.Path(sys.argv[1]), [version(model) for model in MODELS])
"""


def exporting(models, number):
    """A process that exports so many times."""
    return subprocess.Popen([sys.executable, "-c", EXPORTS, str(models), str(number)])


def whole_versions(models, model):
    """The versions of a model, each of which is what was written."""
    numbers = sorted(int(path.name) for path in (models / model).glob("[0-9]*"))
    for number in numbers:
        artefact = artefacts.read(models / model / str(number), EXPORT)
        assert artefact.fingerprint == artefacts.fingerprint_of_tree(artefact.path)
        assert artefact.facts == VersionFacts(version=number, warm_up_requests=1)
    return numbers


@pytest.mark.slow
def test_two_processes_export_at_once(tmp_path):
    running = [exporting(tmp_path, 3) for _ in range(2)]
    assert [process.wait(300) for process in running] == [0, 0]
    for model in MODELS:
        assert whole_versions(tmp_path, model) == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 8))])
def test_an_export_that_is_killed_leaves_whole_versions_and_nothing_in_the_way(tmp_path, unchecked, seed):
    process = exporting(tmp_path, 200)
    end = time.monotonic() + 200
    while newest(tmp_path).get(MODELS[0], 0) < 2 and time.monotonic() < end:
        time.sleep(0.01)
    time.sleep(random.Random(seed).uniform(0, 1))  # Somewhere in the middle of one.
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = {model: whole_versions(tmp_path, model) for model in MODELS}
    assert before[MODELS[0]][:2] == [1, 2]
    with export_lock(tmp_path):  # Which the dead process does not hold.
        write_versions(tmp_path, [version(model) for model in MODELS])
    for model in MODELS:
        assert whole_versions(tmp_path, model) == [*before[model], len(before[model]) + 1]
    assert not [name for names in left(tmp_path).values() for name in names if not name.isdigit()]


def test_a_module_with_other_signatures_than_its_descriptor_is_refused(tmp_path, unchecked):
    class WithRank(Doubling):
        signatures = {"serving_default": "predict", "rank": "predict"}

    message = r"m has the signatures \['serving_default'\], but its descriptor names \['rank', 'serving_default'\]"
    with pytest.raises(VersionError, match=message):
        write_versions(tmp_path, [NewVersion(WithRank("m", [{"x": [1.0]}]), None)])
    assert not list((tmp_path / "m").iterdir())


def test_a_version_without_warm_up_is_refused(tmp_path, unchecked):
    with pytest.raises(warmup.WarmUpError, match="has 0 requests"):
        write_versions(tmp_path, [version(requests=())])
    assert newest(tmp_path) == {}


def test_the_second_export_waits_for_the_first(tmp_path, caplog):
    caplog.set_level("INFO")
    order, inside = [], threading.Event()

    def first():
        with export_lock(tmp_path):
            inside.set()
            waiting.wait(5)
            order.append("first")

    waiting = threading.Event()
    thread = threading.Thread(target=first)
    thread.start()
    inside.wait(5)
    threading.Timer(0.2, waiting.set).start()
    with export_lock(tmp_path):
        order.append("second")
    thread.join()
    assert order == ["first", "second"] and "another export" in caplog.text


def test_warm_up_is_read_back_and_replayed(tmp_path, unchecked):
    from serving.bundle.graph_model import GraphModel

    (written,) = write_versions(tmp_path, [version(requests=({"x": [1.0]}, {"x": [1.0, 2.0]}))])
    logs = list(warmup.read(written))
    assert [log.predict_log.request.inputs["x"].tensor_shape.dim[0].size for log in logs] == [1, 2]
    assert warmup.replay(written, GraphModel(written)) == 2
    warmup.write(written, "ctr_ranker", [Request("serving_default", {"y": [1.0]})], {})
    with pytest.raises(warmup.WarmUpError, match="request 1, signature 'serving_default'"):
        warmup.replay(written, GraphModel(written))
    (written / warmup.WARM_UP_FILE).write_bytes(b"no records")
    with pytest.raises(warmup.WarmUpError, match="is broken"):
        list(warmup.read(written))
