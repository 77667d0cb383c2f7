"""What is asyncio's own: tasks that run at once, and tasks that are cancelled. Other tests ask both clients."""

import asyncio
import inspect
import time

import numpy as np
import pytest

from serving.client import calls, contract
from serving.client.aio import AsyncCourierClient
from serving.client.client import CourierClient
from tests.serving.client.replicas import REPLICAS, doubled, eventually

X = {"x": np.arange(3)}


class Codes:
    def __init__(self):
        self.all = []

    def started(self, attempt):
        return {}

    def ended(self, attempt, code, seconds):
        self.all.append(code)


def test_both_clients_have_the_same_methods():
    def methods(client):
        public = {name: function for name, function in vars(client).items() if name[0] != "_" and callable(function)}
        return {name: str(inspect.signature(function)) for name, function in public.items()}

    assert methods(AsyncCourierClient) == methods(CourierClient) and len(methods(CourierClient)) == 8


def test_calls_run_at_once_and_the_loop_goes_on(replica):
    def slow(asked):
        time.sleep(0.2)
        return doubled(asked)

    server = replica(slow)

    async def ask():
        ticks = 0
        async with AsyncCourierClient(server.target, timeout_seconds=10) as client:
            tasks = [asyncio.ensure_future(client.predict("m", "s", X)) for _ in range(10)]
            while not all(task.done() for task in tasks):
                await asyncio.sleep(0.01)
                ticks += 1
            return ticks, [(await task)["y"].tolist() for task in tasks]

    ticks, answers = asyncio.run(ask())
    assert answers == [[0, 2, 4]] * 10 and ticks >= 5 and server.most_at_once == 10


@pytest.mark.parametrize("hedge_seconds", [None, 0.01])
def test_a_task_that_is_cancelled_ends_its_requests(replica, hedge_seconds):
    servers, codes = [replica(), replica()], Codes()
    for server in servers:
        server.respond = server.hang

    async def ask():
        settings = {"timeout_seconds": 30, "hedge_seconds": hedge_seconds, "hooks": [codes]}
        async with AsyncCourierClient([server.target for server in servers], **settings) as client:
            x = {"x": np.zeros(70)}  # In two parts.
            task = asyncio.ensure_future(client.predict(contract.IMAGE_EMBEDDER, "s", x))
            while sum(len(server.asked) for server in servers) < 2:
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    start = time.monotonic()
    asyncio.run(ask())
    assert time.monotonic() - start < 10
    eventually(lambda: len(codes.all) >= 2)
    assert set(codes.all) == {"CANCELLED"}


def test_photos_become_png_beside_the_loop(monkeypatch):
    def slow(photo):
        time.sleep(0.2)
        return photo + b" as PNG"

    def embedded(asked):
        (photo,) = asked.inputs["photos"]
        assert photo == b"a photo as PNG"
        columns = {"embedding": np.zeros([1, 2]), "cluster_id": np.zeros(1), "codes": np.zeros([1, 1])}
        return {**columns, "status": np.zeros(1), "model_version": np.ones(1)}

    monkeypatch.setattr(calls, "as_png", slow)
    server = REPLICAS["grpc"](embedded).start()

    async def ask():
        ticks = 0
        async with AsyncCourierClient(server.target, timeout_seconds=10) as client:
            task = asyncio.ensure_future(client.embed([b"a photo"]))
            while not task.done():
                await asyncio.sleep(0.01)
                ticks += 1
            assert (await task).model_version == 1
        return ticks

    assert asyncio.run(ask()) >= 5
    server.close()


def test_a_closed_client_says_so(replica):
    server = replica()
    client = CourierClient(server.target)
    client.close()
    with pytest.raises(ValueError, match="the client is closed"):
        client.predict("m", "s", X)
    with pytest.raises(ValueError, match="the client is closed"):
        client.versions("m")


def test_a_request_that_is_cancelled_leaves_its_connection_to_nobody():
    """By REST its thread ends with it, and the next request is answered."""
    server = REPLICAS["rest"]().start()
    respond, server.respond = server.respond, server.hang

    async def ask():
        async with AsyncCourierClient(server.target, timeout_seconds=30) as client:
            for _ in range(3):
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(client.predict("m", "s", X), 0.05)
            server.respond = respond
            assert (await client.predict("m", "s", X))["y"].tolist() == [0, 2, 4]
            threads = client._pool._threads
        eventually(lambda: not any(thread.is_alive() for thread in threads), seconds=5)

    asyncio.run(ask())
    server.close()
