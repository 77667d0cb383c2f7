"""A SavedModel in a session: its graph is prepared once for each kind of request."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import tensorflow as tf

from serving.bundle.graph_model import GraphModel


@pytest.fixture
def saved(tmp_path):
    """Folder of a model that doubles numbers."""
    module = tf.Module()
    double = tf.function(lambda x: {"y": 2 * x}, input_signature=[tf.TensorSpec([None], tf.int32, name="x")])
    tf.saved_model.save(module, str(tmp_path), signatures={"double": double})
    return tmp_path


@pytest.fixture
def doubling(saved):
    return GraphModel(saved)


def test_the_first_request_of_a_kind_is_alone(doubling, monkeypatch):
    run, counting, at_once, most = doubling._run, threading.Lock(), [], []

    def slow(*arguments):
        with counting:
            at_once.append(1)
            most.append(len(at_once))
        time.sleep(0.02)
        answer = run(*arguments)
        with counting:
            at_once.pop()
        return answer

    monkeypatch.setattr(doubling, "_run", slow)
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda n: doubling.run("double", {"x": [n]})["y"].tolist(), range(40)))
    assert answers == [[2 * n] for n in range(40)]
    assert most[0] == 1 and most[1] == 1, "the others wait for the first"
    assert max(most) > 1, "and then no more"


def test_who_waits_for_the_first_has_a_deadline(saved, doubling):
    with doubling._making, pytest.raises(tf.errors.DeadlineExceededError, match="being prepared"):
        doubling.run("double", {"x": [1]}, timeout_seconds=0.05)
    for seconds in (9.2e18, 5, None):  # gRPC gives the first to a caller without a deadline.
        other = GraphModel(saved)
        assert other.run("double", {"x": [1]}, timeout_seconds=seconds)["y"].tolist() == [2]
