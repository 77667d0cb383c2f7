"""Several servers: calls are spread evenly, and a server that fails costs no call."""

import socket
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from serving.client import addresses, endpoints
from serving.client.addresses import addresses_of
from serving.client.connection import Connection
from serving.client.retries import Retries
from serving.client.transport import CallError
from tests.serving.client.replicas import eventually, failing, free_port

X = {"x": np.arange(3)}


def ask(client, times=1, **named):
    for _ in range(times):
        assert client.predict("m", "s", X, **named)["y"].tolist() == [0, 2, 4]


def numbers(replicas):
    return [len(replica.asked) for replica in replicas]


def test_calls_are_spread_evenly(replica, client_of):
    replicas = [replica() for _ in range(3)]
    client = client_of(*replicas)
    ask(client, 30)
    assert numbers(replicas) == [10, 10, 10]
    with ThreadPoolExecutor(6) as threads:  # Also where several ask at once.
        list(threads.map(lambda _: ask(client), range(60)))
    assert numbers(replicas) == [30, 30, 30]


def test_clients_of_one_call_do_not_all_ask_the_first(replica, client_of):
    replicas = [replica(), replica()]
    for _ in range(20):
        ask(client_of(*replicas))
    assert min(numbers(replicas)) > 0


def test_a_failing_server_is_left_out_for_a_while_and_tried_again(replica, client_of, monkeypatch):
    class Clock:
        now = 100.0

        @classmethod
        def monotonic(cls):
            return cls.now

    monkeypatch.setattr(endpoints, "time", Clock)
    good, bad = replica(), replica(failing("UNAVAILABLE"))
    client = client_of(good, bad)
    ask(client, 10)
    assert numbers([good, bad]) == [10, 1]
    Clock.now += 1.01
    ask(client, 10)  # It is tried again, and left out for twice as long.
    assert numbers([good, bad]) == [20, 2]
    Clock.now += 1.01
    ask(client, 10)
    assert numbers([good, bad]) == [30, 2]

    def slow(asked):
        time.sleep(0.1)
        return failing("UNAVAILABLE")(asked)

    bad.respond = slow
    Clock.now += 1.01
    with ThreadPoolExecutor(8) as threads:  # A single call tries it; the others do not wait for that.
        list(threads.map(lambda _: ask(client), range(20)))
    assert numbers([good, bad]) == [50, 3]
    Clock.now += 3
    good.asked.clear()
    bad.asked.clear()
    bad.respond = good.respond
    Clock.now += 1.01
    ask(client, 10)  # It is well again.
    assert len(bad.asked) >= 5 and len(good.asked) + len(bad.asked) == 10


def test_one_slow_one_dead_and_one_good_server_fail_no_call(replica, client_of, kind):
    slow, good = replica(), replica()
    slow.respond = slow.hang
    dead = f"127.0.0.1:{free_port()}" if kind == "grpc" else f"http://127.0.0.1:{free_port()}"
    for _ in range(2):  # Whoever is asked first.
        client = client_of(slow, dead, good, timeout_seconds=4)  # Machines that run tests are slow.
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda _, client=client: ask(client), range(40)))
    assert len(good.asked) == 80


def test_more_dead_servers_than_attempts(replica, client_of, kind):
    scheme = "" if kind == "grpc" else "http://"
    good = replica()
    for _ in range(2):
        dead = [f"{scheme}127.0.0.1:{free_port()}" for _ in range(6)]
        ask(client_of(*dead, good, retries=Retries(attempts=2)))


def test_an_attempt_has_a_deadline_of_its_own(replica, client_of):
    slow, good = replica(), replica()
    slow.respond = slow.hang
    client = client_of(slow, good, attempt_seconds=0.2)
    start = time.monotonic()
    ask(client, 4)
    assert time.monotonic() - start < 2 and len(slow.asked) == 1
    alone = client_of(slow, attempt_seconds=0.1, timeout_seconds=5, retries=Retries(attempts=3, first_wait_seconds=0))
    with pytest.raises(CallError, match="DEADLINE_EXCEEDED"):  # The same server is asked again, as there is no other.
        ask(alone)
    assert len(slow.asked) == 4


def test_all_servers_are_down(client_of, kind):
    scheme = "" if kind == "grpc" else "http://"
    client = client_of(*(f"{scheme}127.0.0.1:{free_port()}" for _ in range(2)), retries=Retries(first_wait_seconds=0))
    for _ in range(2):
        with pytest.raises(CallError, match="UNAVAILABLE"):
            ask(client)


def test_headers_go_with_each_request(replica, client_of):
    server, tokens = replica(), iter(["one", "two"])
    client = client_of(server, connection=Connection(headers=lambda: {"Authorization": f"Bearer {next(tokens)}"}))
    ask(client, 2)
    assert [asked.headers["authorization"] for asked in server.asked] == ["Bearer one", "Bearer two"]


@pytest.mark.parametrize("kind", ["grpc"], indirect=True)
def test_options_of_a_channel_go_before_the_clients_own(replica, client_of):
    small = Connection(channel_options={"grpc.max_receive_message_length": 10})
    server, once = replica(), Retries(attempts=1)
    with pytest.raises(CallError, match="RESOURCE_EXHAUSTED: .*larger than max"):
        ask(client_of(server, connection=small, retries=once))
    ask(client_of(server, retries=once))


@pytest.fixture
def named_service(replica, kind, monkeypatch):
    """Replicas on two addresses of the name `service`, and the list of the addresses that it has now."""
    first = replica(host="127.0.0.1")
    replicas = {"127.0.0.1": first, "127.0.0.2": replica(host="127.0.0.2", port=first.port)}
    current, original = ["127.0.0.1"], socket.getaddrinfo

    def looked_up(host, port, *arguments, **named):
        if host != "service":
            return original(host, port, *arguments, **named)
        if not current:
            raise socket.gaierror("no such name")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in current]

    monkeypatch.setattr(socket, "getaddrinfo", looked_up)
    return replicas, current, ("" if kind == "grpc" else "http://") + f"service:{first.port}"


def test_every_address_of_a_name_is_asked(named_service, client_of, monkeypatch):
    replicas, current, name = named_service
    monkeypatch.setattr(addresses, "SECONDS", 0.05)
    client = client_of(name, all_addresses=True)
    ask(client, 3)
    assert numbers(replicas.values()) == [3, 0]
    current.append("127.0.0.2")  # A replica comes.
    time.sleep(0.06)
    ask(client)
    eventually(lambda: len(client_endpoints(client)) == 2)
    before = numbers(replicas.values())
    ask(client, 10)
    assert Counter(numbers(replicas.values())) == Counter([before[0] + 5, before[1] + 5])
    current.remove("127.0.0.1")  # A replica goes.
    time.sleep(0.06)
    ask(client)
    eventually(lambda: len(client_endpoints(client)) == 1)
    before = numbers(replicas.values())
    ask(client, 3)
    assert numbers(replicas.values()) == [before[0], before[1] + 3]
    hosts = {asked.headers.get("host", name) for server in replicas.values() for asked in server.asked}
    assert hosts == {name.removeprefix("http://")} or hosts == {name}


def client_endpoints(client):
    return getattr(client, "client", client)._attempts.endpoints


def test_a_name_that_is_not_known(named_service, client_of, caplog):
    replicas, current, name = named_service
    current.clear()
    client = client_of(name, all_addresses=True)
    with pytest.raises(CallError, match=r"UNAVAILABLE: there is no server to ask: .*no such name"):
        ask(client)
    current.append("127.0.0.2")
    ask(client)
    assert numbers(replicas.values()) == [0, 1] and "cannot be looked up" in caplog.text


def test_addresses_and_names():
    assert [target.address for target in addresses_of("http://[::1]:80")] == ["http://[::1]:80"]
    assert addresses_of("127.0.0.1:1")[0].name == "127.0.0.1:1"
    with pytest.raises(ValueError, match="'service' is no host:port"):
        addresses_of("service")
