"""A share of the users at the canary: always the same, in every process, with the stable version behind it."""

import subprocess
import sys

import numpy as np
import pytest

from serving.client.canary import in_canary
from serving.client.request_log import RequestLog, read_log
from serving.client.transport import CallError
from tests.serving.client.replicas import Failure

USERS = [f"u{n}" for n in range(200)]
IN_CANARY = [user for user in USERS if in_canary(user, 0.25)]


def labelled(asked):
    """Version 2 is the canary; a score is 10 x version + number of the user."""
    version = 2 if asked.label == "canary" else 1
    rows, width = len(asked.inputs["user_id"]), asked.inputs["item_id"].shape[1:]
    users = np.array([int(user[1:]) for user in asked.inputs["user_id"]], np.float64)
    scores = np.broadcast_to((1000 * version + users)[(slice(None), *[None] * len(width))], (rows, *width))
    return {"probability": scores, "model_version": np.full(rows, version)}


def test_a_share_of_users_whatever_the_process():
    """The ids are hashed by SHA-256, not by Python's seeded hash."""
    script = (
        "from serving.client.canary import in_canary;"
        "print(sum(in_canary(f'u{n}', 0.25) << n for n in range(200)), end='')"
    )
    expected = sum(in_canary(user, 0.25) << n for n, user in enumerate(USERS))
    environment = {"PYTHONHASHSEED": "1", "PYTHONPATH": "."}
    printed = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, check=True).stdout
    assert int(printed) == expected and in_canary(b"u7", 0.25) == in_canary("u7", 0.25)


def test_the_share_is_kept_and_grows():
    many = [f"user {n}" for n in range(20_000)]
    sides = {share: {user for user in many if in_canary(user, share)} for share in (0, 0.05, 0.5, 1)}
    assert not sides[0] and len(sides[1]) == len(many)
    assert abs(len(sides[0.05]) / len(many) - 0.05) < 0.006 and abs(len(sides[0.5]) / len(many) - 0.5) < 0.015
    assert sides[0.05] < sides[0.5]


def test_each_user_meets_one_side(replica, client_of, tmp_path):
    server, log = replica(labelled), RequestLog(tmp_path, 1.0)
    client = client_of(server, canary_share=0.25, log=log)
    for user in USERS[:40] * 2:
        version = client.rank(user, [], ["i1"]).model_version
        assert version == (2 if user in IN_CANARY else 1)
    log.close()
    for logged in read_log(tmp_path):
        expected = ("canary", 2) if logged.request.inputs["user_id"][0].decode() in IN_CANARY else ("stable", 1)
        assert (logged.label, logged.version) == expected
    assert 0 < sum(logged.label == "canary" for logged in read_log(tmp_path)) < 40


def test_pairs_of_users_of_both_sides(replica, client_of):
    server = replica(labelled)
    scores = client_of(server, canary_share=0.25).score(USERS, [[]] * 200, ["i1"] * 200)
    versions = [2 if user in IN_CANARY else 1 for user in USERS]
    assert scores.model_versions.tolist() == versions and scores.model_version == versions[0]
    assert scores.probability.tolist() == [1000 * version + n for n, version in enumerate(versions)]
    assert len(server.asked) == 1 + 3  # About 50 rows for the canary, 150 for the other.


def test_calls_without_a_user_go_to_the_stable_version(replica, client_of):
    server = replica(lambda asked: {"y": asked.inputs["x"], "model_version": np.ones(1)})
    client = client_of(server, canary_share=1.0)
    client.predict("m", "s", {"x": np.ones(1)})
    client.predict("m", "s", {"x": np.ones(1)}, user="u1")
    assert [asked.label for asked in server.asked] == ["stable", "canary"]


@pytest.mark.parametrize(
    "failure",
    [
        Failure("NOT_FOUND", "Servable not found for request: Specific(ctr_ranker, 2)"),
        Failure("INVALID_ARGUMENT", "Unrecognized servable version label: canary"),
    ],
)
def test_the_stable_version_answers_where_there_is_no_canary(replica, client_of, tmp_path, failure):
    def respond(asked):
        if asked.label == "canary":
            raise failure
        return labelled(asked)

    server, log = replica(respond, {1: "AVAILABLE", 2: "LOADING"}), RequestLog(tmp_path, 1.0)
    client = client_of(server, canary_share=1.0, log=log)
    assert client.rank("u1", [], ["i1"]).model_version == 1
    assert [asked.label for asked in server.asked] == ["canary", "stable"]  # At once: nobody waits for its loading.
    log.close()
    (logged,) = read_log(tmp_path, with_failed=True)  # A canary that is not there has no failures.
    assert (logged.label, logged.version) == ("stable", 1)


def test_other_failures_of_the_canary_are_its_own(replica, client_of, tmp_path):
    def respond(asked):
        if asked.label == "canary":
            raise Failure("INVALID_ARGUMENT", "more than 10000 candidates")
        return labelled(asked)

    server, log = replica(respond), RequestLog(tmp_path, 1.0)
    with pytest.raises(CallError, match="more than 10000"):
        client_of(server, canary_share=1.0, log=log).rank("u1", [], ["i1"])
    log.close()
    (logged,) = read_log(tmp_path, with_failed=True)
    assert (logged.label, logged.code) == ("canary", "INVALID_ARGUMENT")


def test_a_share_lies_between_0_and_1(client_of):
    with pytest.raises(ValueError, match="canary_share must lie between 0 and 1, but is 25"):
        client_of("localhost:1", canary_share=25)
