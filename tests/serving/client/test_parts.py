"""Calls that are too large for one request: they go in parts, at once, and their answers come in order."""

import threading
import time

import numpy as np
import pytest

from serving.client import contract
from serving.client.transport import CallError
from tests.serving.client.replicas import Failure


def ranked(asked):
    """The score of an item is its number; the users' versions are 1."""
    numbers = np.vectorize(lambda item: float(item[1:]), otypes=[np.float32])(asked.inputs["item_id"])
    return {"probability": numbers, "model_version": np.ones(len(asked.inputs["user_id"]), np.int64)}


def test_candidates_in_parts(replica, client_of, monkeypatch):
    monkeypatch.setattr(contract, "MAX_CANDIDATES", 2)
    server = replica(ranked)
    client = client_of(server)
    scores = client.rank("u", ["a"], [f"i{n}" for n in range(9)], request_id="mine")
    assert scores.probability.tolist() == list(range(9)) and scores.model_version == 1
    assert scores.model_versions.tolist() == [1] * 9
    assert len(server.asked) == 5 and {asked.request_id for asked in server.asked} == {"mine"}
    # The first id is empty: with it a server fills up histories that it joins.
    np.testing.assert_array_equal(server.asked[0].inputs["history_item_ids"], [[b"", b"a"]])


def test_rows_in_parts_at_once(replica, client_of):
    """200 rows are four requests of at most 64, of which each of two servers has two at the same time."""
    together = threading.Barrier(4, timeout=30)

    def respond(asked):
        together.wait()  # None is answered before all of them are there.
        return ranked(asked)

    servers = [replica(respond), replica(respond)]
    client = client_of(*servers)
    users, items = [f"u{n}" for n in range(200)], [f"i{n}" for n in range(200)]
    scores = client.score(users, [[]] * 200, items)
    assert scores.probability.tolist() == list(range(200))
    for server in servers:
        assert sorted(len(asked.inputs["item_id"]) for asked in server.asked) in ([64, 64], [8, 64])
        assert server.most_at_once == 2


def test_predict_splits_the_rows_of_our_models_alone(replica, client_of):
    server = replica()
    client, x = client_of(server), np.arange(130)
    assert client.predict("own", "s", {"x": x})["y"].tolist() == (2 * x).tolist() and len(server.asked) == 1
    for model in contract.SPLIT:
        server.asked.clear()
        assert client.predict(model, "s", {"x": x})["y"].tolist() == (2 * x).tolist()
        assert sorted(len(asked.inputs["x"]) for asked in server.asked) == [2, 64, 64]
    server.asked.clear()
    client.predict(contract.IMAGE_EMBEDDER, "s", {"x": x[:64]})
    assert len(server.asked) == 1


def test_rows_of_many_candidates_have_fewer_in_a_request(replica, client_of):
    server = replica(lambda asked: {"probability": asked.inputs["item_id"] + 0.5})
    items = np.arange(9 * 10_000).reshape(9, 10_000)
    outputs = client_of(server).predict(contract.CTR_RANKER, contract.RANK, {"item_id": items})
    assert (outputs["probability"] == items + 0.5).all()
    assert sorted(asked.inputs["item_id"].size for asked in server.asked) == [30_000] * 3


def test_not_more_parts_at_once_than_a_server_can_bear(replica, client_of):
    two = threading.Event()

    def respond(asked):
        if server.most_at_once > 1:
            two.set()
        two.wait(30)
        return ranked(asked)

    server = replica(respond)
    client_of(server).score(["u"] * 1500, [[]] * 1500, ["i1"] * 1500)
    assert len(server.asked) == 24 and 2 <= server.most_at_once <= 8


def test_parts_share_a_deadline(replica, client_of):
    server = replica()
    server.respond = server.hang
    client, start = client_of(server, timeout_seconds=2), time.monotonic()
    with pytest.raises(CallError, match="DEADLINE_EXCEEDED"):
        client.score(["u"] * 1500, [[]] * 1500, ["i1"] * 1500)
    assert time.monotonic() - start < 3.9, "one deadline after the other would take 4 seconds and more"


def test_parts_share_a_version(replica, client_of):
    server = replica()

    def respond(asked):
        version = 1 + (asked.inputs["item_id"].ravel()[0] == b"i64")
        return {**ranked(asked), "model_version": np.full(len(asked.inputs["user_id"]), version)}

    server.respond = respond
    with pytest.raises(CallError, match=r"ABORTED: versions \[1, 2\] of ctr_ranker have answered parts of one call"):
        client_of(server).score(["u"] * 70, [[]] * 70, [f"i{n}" for n in range(70)])


def test_the_first_failure_ends_the_call(replica, client_of):
    server = replica()

    def respond(asked):
        if b"i64" in asked.inputs["item_id"]:
            raise Failure("INVALID_ARGUMENT", "of the second part")
        return ranked(asked)

    server.respond = respond
    client = client_of(server)
    with pytest.raises(CallError, match="INVALID_ARGUMENT: of the second part"):
        client.score(["u"] * 1000, [[]] * 1000, [f"i{n}" for n in range(1000)])
    assert client.score(["u"], [[]], ["i1"]).probability.tolist() == [1]
