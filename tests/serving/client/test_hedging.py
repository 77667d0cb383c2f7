"""Hedged calls: a second server is asked after a while, and the first answer counts."""

import threading
import time

import numpy as np
import pytest

from serving.client.transport import CallError
from tests.serving.client.replicas import Failure, doubled, eventually, failing

X = {"x": np.arange(3)}


class Ends:
    """A hook that keeps (endpoint, code) of each attempt."""

    def __init__(self):
        self.all, self.begun = [], 0

    def started(self, attempt):
        self.begun += 1
        return {}

    def ended(self, attempt, code, seconds):
        self.all.append((attempt.endpoint, attempt.number, code))


def test_the_quicker_server_answers_and_the_other_attempt_is_cancelled(replica, client_of):
    slow, good = replica(), replica()
    slow.respond = slow.hang
    ends = Ends()
    client, start = client_of(slow, good, hedge_seconds=0.05, hooks=[ends]), time.monotonic()
    for _ in range(4):
        assert client.predict("m", "s", X)["y"].tolist() == [0, 2, 4]
    assert time.monotonic() - start < 20 and len(good.asked) == 4 and len(slow.asked) >= 2
    eventually(lambda: len(ends.all) == ends.begun)  # None of them goes on until its deadline.
    assert {code for endpoint, _, code in ends.all if endpoint == slow.target} == {"CANCELLED"}
    assert time.monotonic() - start < 4
    for endpoint, number, code in ends.all:
        assert endpoint == slow.target or (code == "OK" and number in (1, 2))


def test_no_second_attempt_where_the_first_is_quick_or_there_is_one_server(replica, client_of):
    servers = [replica(), replica()]
    client = client_of(*servers, hedge_seconds=2)
    for _ in range(4):
        client.predict("m", "s", X)
    assert [len(server.asked) for server in servers] == [2, 2]

    def slow(asked):
        time.sleep(0.1)
        return doubled(asked)

    alone = replica(slow)
    client_of(alone, hedge_seconds=0.02).predict("m", "s", X)
    assert len(alone.asked) == 1


def test_off_by_default(replica, client_of):
    def slow(asked):
        time.sleep(0.1)
        return doubled(asked)

    servers = [replica(slow), replica(slow)]
    client_of(*servers).predict("m", "s", X)
    assert sum(len(server.asked) for server in servers) == 1


def test_a_failure_of_one_attempt_waits_for_the_other(replica, client_of):
    begun = threading.Event()

    def slow(asked):
        begun.set()
        time.sleep(0.3)
        return doubled(asked)

    def fails(asked):
        begun.wait(0.1)
        raise Failure("INVALID_ARGUMENT")

    servers = [replica(slow), replica(fails)]
    for _ in range(3):  # Whoever is asked first.
        begun.clear()
        client = client_of(*servers, hedge_seconds=0.02)
        assert client.predict("m", "s", X)["y"].tolist() == [0, 2, 4]


def test_both_attempts_fail(replica, client_of):
    def late(asked):
        time.sleep(0.1)
        raise Failure("INVALID_ARGUMENT")

    client = client_of(replica(late), replica(late), hedge_seconds=0.02)
    with pytest.raises(CallError, match="INVALID_ARGUMENT"):
        client.predict("m", "s", X)
    failing_at_once = client_of(replica(failing("INVALID_ARGUMENT")), replica(late), hedge_seconds=5)
    with pytest.raises(CallError, match="INVALID_ARGUMENT"):
        failing_at_once.predict("m", "s", X)
