"""Replicas and clients: each test that takes `kind` and `style` runs by gRPC and REST, with threads and asyncio."""

import pytest

from tests.serving.client.replicas import CLIENTS, REPLICAS


@pytest.fixture(params=REPLICAS)
def kind(request):
    return request.param


@pytest.fixture(params=CLIENTS)
def style(request):
    return request.param


@pytest.fixture
def ends():
    """What is called at the end of a test, the last first."""
    ends = []
    yield ends
    for end in reversed(ends):
        end()


@pytest.fixture
def replica(kind, ends):
    """Starts a replica."""

    def start(*arguments, host="127.0.0.1", port=0, **settings):
        replica = REPLICAS[kind](*arguments, **settings).start(host, port)
        ends.append(replica.close)
        return replica

    return start


@pytest.fixture
def client_of(style, ends):
    """Makes a client of some replicas, or targets."""

    def make(*replicas, **settings):
        targets = [getattr(replica, "target", replica) for replica in replicas]
        client = CLIENTS[style](targets, **{"timeout_seconds": 10, **settings})
        ends.append(client.close)
        return client

    return make
