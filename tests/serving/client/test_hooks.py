"""What hooks are told, and what they add to a request."""

import numpy as np
import pytest

from serving.client.hooks import Traceparent
from serving.client.retries import Retries
from serving.client.tensors import TensorError
from tests.serving.client.replicas import Failure, doubled

X = {"x": np.arange(3)}
HEADER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Keeps:
    def __init__(self):
        self.begun, self.over = [], []

    def started(self, attempt):
        self.begun.append(attempt)
        return {"x-attempt": str(attempt.number)}

    def ended(self, attempt, code, seconds):
        self.over.append((attempt, code, seconds))


def test_each_attempt_is_told(replica, client_of):
    server = replica()

    def respond(asked):
        if len(server.asked) < 3:
            raise Failure("UNAVAILABLE")
        return doubled(asked)

    server.respond = respond
    hook = Keeps()
    client = client_of(server, hooks=[hook], label="canary", retries=Retries(first_wait_seconds=0))
    client.predict("m", "s", X, request_id="mine")
    assert [code for _, code, _ in hook.over] == ["UNAVAILABLE", "UNAVAILABLE", "OK"]
    assert [attempt for attempt, _, _ in hook.over] == hook.begun
    assert all(0 < seconds < 10 for _, _, seconds in hook.over)
    assert [asked.headers["x-attempt"] for asked in server.asked] == ["1", "2", "3"]
    last = hook.begun[-1]
    assert (last.method, last.endpoint, last.number, last.request_id) == ("Predict", server.target, 3, "mine")
    assert (last.model, last.label, last.signature) == ("m", "canary", "s")
    client.versions("m")
    assert hook.begun[-1].method == "GetModelStatus" and hook.begun[-1].label is None


def test_a_hook_that_fails_costs_no_call(replica, client_of, caplog):
    class Fails:
        def started(self, attempt):
            raise RuntimeError("at the start")

        def ended(self, attempt, code, seconds):
            raise RuntimeError("at the end")

    hook = Keeps()
    assert client_of(replica(), hooks=[Fails(), hook]).predict("m", "s", X)["y"].tolist() == [0, 2, 4]
    assert len(hook.over) == 1 and "at the start" in caplog.text and "at the end" in caplog.text


def test_an_input_that_is_no_tensor_ends_the_attempt(replica, client_of):
    hook = Keeps()
    with pytest.raises(TensorError, match="input 'x' must hold bytes or str"):
        client_of(replica(), hooks=[hook]).predict("m", "s", {"x": np.array([object()], object)})
    assert [code for _, code, _ in hook.over] == ["CANCELLED"]


@pytest.mark.parametrize(
    ("current", "passed"),
    [
        (HEADER, HEADER),
        (None, None),
        ("nonsense", None),
        (HEADER.replace("0af7651916cd43dd8448eb211c80319c", "0" * 32), None),
        (HEADER + "\r\nx-admin: 1", None),
    ],
)
def test_a_trace_is_passed_on(replica, client_of, current, passed):
    server = replica()
    client_of(server, hooks=[Traceparent(lambda: current)]).predict("m", "s", X)
    assert server.asked[0].headers.get("traceparent") == passed
    assert "x-admin" not in server.asked[0].headers
