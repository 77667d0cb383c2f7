"""How versions are written: whole or not at all, one export at a time."""

import errno
import threading

import pytest
import tensorflow as tf

from courier_tf.artefacts import MadeBy
from courier_tf.exporting import versions
from courier_tf.exporting.versions import NewVersion, exclusive, newest_versions, write_versions
from serving import warmup
from serving.messages import Request


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


def version(model="ctr_ranker", requests=({"x": [1.0]},)):
    asked = [Request("serving_default", request) for request in requests]
    return NewVersion(model, MadeBy("export", {}, {}), Doubled, lambda: asked)


@pytest.fixture
def unchecked(monkeypatch):
    monkeypatch.setattr(versions, "require_stock_ops", lambda paths: None)


def test_numbers_go_up(tmp_path, unchecked):
    for number in (1, 2):
        assert write_versions(tmp_path, [version()]) == [tmp_path / "ctr_ranker" / str(number)]
    write_versions(tmp_path, [version("similar_items")])
    assert newest_versions(tmp_path) == {"ctr_ranker": 2, "similar_items": 1}


def test_a_full_disk_leaves_nothing_behind(tmp_path, unchecked, monkeypatch):
    """The second model fails: the first does not appear either, and its files are gone."""
    write_versions(tmp_path, [version()])
    write = warmup.write

    def full(directory, model, requests):
        if model == "similar_items":
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(directory, model, requests)

    monkeypatch.setattr(warmup, "write", full)
    with pytest.raises(OSError, match="No space left"):
        write_versions(tmp_path, [version(), version("similar_items")])
    assert newest_versions(tmp_path) == {"ctr_ranker": 1}
    assert sorted(path.name for path in (tmp_path / "ctr_ranker").iterdir()) == ["1"]
    assert not list((tmp_path / "similar_items").iterdir())


def test_a_version_without_warm_up_is_refused(tmp_path, unchecked):
    with pytest.raises(warmup.WarmUpError, match="has 0 requests"):
        write_versions(tmp_path, [version(requests=())])
    assert newest_versions(tmp_path) == {}


def test_the_second_export_waits_for_the_first(tmp_path, capsys):
    order, inside = [], threading.Event()

    def first():
        with exclusive(tmp_path):
            inside.set()
            waiting.wait(5)
            order.append("first")

    waiting = threading.Event()
    thread = threading.Thread(target=first)
    thread.start()
    inside.wait(5)
    threading.Timer(0.2, waiting.set).start()
    with exclusive(tmp_path):
        order.append("second")
    thread.join()
    assert order == ["first", "second"] and "another export" in capsys.readouterr().out


def test_warm_up_is_read_back_and_replayed(tmp_path, unchecked):
    from courier_tf.graph_model import GraphModel

    (written,) = write_versions(tmp_path, [version(requests=({"x": [1.0]}, {"x": [1.0, 2.0]}))])
    logs = list(warmup.read(written))
    assert [log.predict_log.request.inputs["x"].tensor_shape.dim[0].size for log in logs] == [1, 2]
    assert warmup.replay(written, GraphModel(written)) == 2
    warmup.write(written, "ctr_ranker", [Request("serving_default", {"y": [1.0]})])
    with pytest.raises(warmup.WarmUpError, match="request 1, signature 'serving_default'"):
        warmup.replay(written, GraphModel(written))
    (written / warmup.WARM_UP_FILE).write_bytes(b"no records")
    with pytest.raises(warmup.WarmUpError, match="is broken"):
        list(warmup.read(written))
