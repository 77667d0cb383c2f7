"""What strangers send to the REST API: each gets a code of its own, and the next request is answered."""

import http.client
import json
import random

import pytest
import requests

from serving.client import contract

PATH = "/v1/models/ctr_ranker:predict"
ASKED = {"user_id": ["u1"], "history_item_ids": [["i1"]], "item_id": ["i2"]}
EXAMPLE = {"user_id": "u1", "history_item_ids": ["i1"], "item_id": "i2"}
HUGE = int("9" * 400)


def nested(depth, leaf="i1"):
    for _ in range(depth):
        leaf = [leaf]
    return leaf


@pytest.mark.parametrize(
    ("path", "content", "text"),
    [
        *(
            ("ctr_ranker:predict", {"inputs": {**ASKED, "item_id": nested(depth)}}, "'item_id' is nested more than 32")
            for depth in (33, 300, 900)
        ),
        ("similar_items:predict", {"signature_name": "by_embedding", "inputs": nested(70, 0.5)}, "nested more than 32"),
        ("similar_items:predict", {"signature_name": "by_embedding", "inputs": [[HUGE] * 8]}, "JSON Parse Error"),
        ("ctr_ranker:predict", {"signature_name": "\ud800", "inputs": ASKED}, "JSON Parse Error"),
        ("ctr_ranker:predict", {"signature_name": "\udfff", "inputs": ASKED}, "must be UTF-8"),
        ("ctr_ranker:regress", {"signature_name": "regress", "examples": [{"\udfff": "u"}]}, "no UTF-8"),
        ("ctr_ranker:regress", {"signature_name": "regress", "examples": [{"\ud800": "u"}]}, "JSON Parse Error"),
        ("ctr_ranker:regress", {"signature_name": "regress", "examples": [{"x": [0.5, HUGE]}]}, "JSON Parse Error"),
        (
            "ctr_ranker:regress",
            {"signature_name": "regress", "examples": [{"x": nested(900)}]},
            "'x' must hold strings",
        ),
        ("ctr_ranker:predict", {"signature_name": "x" * 10**6, "inputs": ASKED}, "'xxx"),
    ],
)
def test_json_that_is_no_request(server, path, content, text):
    answer = requests.post(f"http://localhost:{server.rest_port}/v1/models/{path}", data=json.dumps(content))
    error = answer.json()["error"]
    assert answer.status_code == 400 and text in error and len(error) < 3000, error[:3000]


def test_surrogates_are_text_in_pairs_alone(server):
    """As an escape or as itself a character is the same. Bytes are taken as they are."""
    url, answers = f"http://localhost:{server.rest_port}{PATH}", []
    for item in ("\\ud83d\\ude00", "\U0001f600", "\\uD83D"):
        body = json.dumps({"inputs": {**ASKED, "item_id": ["here"]}}).replace("here", item).encode()
        answers.append(requests.post(url, data=body))
    assert [answer.status_code for answer in answers] == [200, 200, 400]
    assert answers[0].json() == answers[1].json()
    half = json.dumps({"inputs": {**ASKED, "item_id": ["here"]}}).encode().replace(b"here", b"\xed\xa0\x80")
    assert requests.post(url, data=half).status_code == 200


def exchanged(server, headers, body=b"", method="POST"):
    """(status, error) of a request with just these headers; http.client adds none by itself."""
    connection = http.client.HTTPConnection("localhost", server.rest_port, timeout=20)
    connection.putrequest(method, PATH, skip_accept_encoding=True)
    for name, value in headers:
        connection.putheader(name, value)
    connection.endheaders(body)
    answer = connection.getresponse()
    result = answer.status, json.loads(answer.read())["error"], answer.will_close
    connection.close()
    return result


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        *(([("Content-Length", value)], 400) for value in ("", "-1", "+2", "two", "2.0", "0x2", "\xb2", "1_0", "2, 2")),
        ([("Content-Length", "2"), ("Content-Length", "3")], 400),
        ([("Content-Length", str(2**31))], 413),
        ([("Content-Length", "9" * 5000)], 400),
        ([("Transfer-Encoding", "gzip, chunked")], 501),
        ([("Transfer-Encoding", "chunked"), ("Content-Length", "2")], 400),
        ([("Transfer-Encoding", "chunked")], 400),
    ],
)
def test_lengths_that_are_none(server, headers, status):
    """The connection ends: what follows cannot be told from the next request."""
    given, error, ends = exchanged(server, [(name, value.encode("latin-1")) for name, value in headers], b"{}\r\n")
    assert given == status and ends
    assert any(name in error for name in ("Content-Length", "bytes", "chunk")), error


@pytest.mark.parametrize("value", ["nan", "inf", "1e9999", "-1e999", "soon", "1" * 400])
def test_timeouts_that_are_none(server, value):
    body = json.dumps({"inputs": ASKED})
    headers = {"x-request-timeout-seconds": value}
    answer = requests.post(f"http://localhost:{server.rest_port}{PATH}", data=body, headers=headers)
    assert answer.status_code == 400 and "x-request-timeout-seconds" in answer.json()["error"]


def test_the_body_of_a_get_is_not_the_next_request(server):
    connection = http.client.HTTPConnection("localhost", server.rest_port, timeout=20)
    for _ in range(2):
        connection.request("GET", f"/v1/models/{contract.CTR_RANKER}", body=b"GET /nothing HTTP/1.1\r\n\r\n")
        answer = connection.getresponse()
        assert answer.status == 200 and "model_version_status" in json.loads(answer.read())
    connection.close()


def changed(rng, value):
    """A JSON value with something else in one of its places."""
    if isinstance(value, dict) and value and rng.random() < 0.8:
        name = rng.choice(sorted(value))
        return {**value, name: changed(rng, value[name])}
    if isinstance(value, list) and value and rng.random() < 0.7:
        place = rng.randrange(len(value))
        return [*value[:place], changed(rng, value[place]), *value[place + 1 :]]
    leaf = rng.choice(["", "i1", "\ud800", "\0", 0, -1, 0.5, 2**63, HUGE, 1e308, float("nan"), True, None])
    odd = [{}, [], {"b64": "aTE="}, {"b64": "?"}, {"b64": leaf}, {"\udfff": leaf}, [leaf, [leaf]]]
    return rng.choice([leaf, value, [value, value], nested(rng.choice([1, 2, 31, 40, 400, 5000]), leaf), *odd])


BODIES = {
    "ctr_ranker:predict": {"inputs": ASKED},
    "ctr_ranker/versions/1:predict": {"instances": [EXAMPLE]},
    "ctr_ranker:classify": {"signature_name": "classify", "examples": [EXAMPLE], "context": {"user_id": "u1"}},
    "ctr_ranker:regress": {"signature_name": "regress", "examples": [EXAMPLE, EXAMPLE]},
    "image_embedder:predict": {"instances": [{"b64": "aTE="}]},
    "similar_items:predict": {"signature_name": "by_embedding", "inputs": [[0.5] * 8]},
}


def json_text(value):
    """As `json.dumps`, for any depth."""
    opened = 0
    while isinstance(value, list) and len(value) == 1:
        value, opened = value[0], opened + 1
    if isinstance(value, dict):
        inner = "{" + ", ".join(f"{json.dumps(name)}: {json_text(part)}" for name, part in value.items()) + "}"
    elif isinstance(value, list):
        inner = "[" + ", ".join(map(json_text, value)) + "]"
    else:
        inner = json.dumps(value)
    return "[" * opened + inner + "]" * opened


@pytest.mark.parametrize("number", [100, pytest.param(500, marks=pytest.mark.slow)])
@pytest.mark.parametrize("path", BODIES)
def test_fuzzed_values(server, path, number):
    """Well-formed JSON that is some other request, or none."""
    rng, statuses = random.Random(path), {}
    with requests.Session() as session:
        for _ in range(number):
            content = BODIES[path]
            for _ in range(rng.randrange(4)):
                content = changed(rng, content)
            text = json_text(content)
            answer = session.post(f"http://localhost:{server.rest_port}/v1/models/{path}", data=text)
            assert answer.status_code in (200, 400), (text[:1000], answer.text)
            statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1
    assert set(statuses) == {200, 400} and min(statuses.values()) > 9, statuses


def test_fuzzed_text(server):
    rng = random.Random(0)
    body = (
        b'{"signature_name": "rank", "inputs": {"user_id": ["u1"], "history_item_ids": [["i1"]], "item_id": [["i2"]]}}'
    )
    url, statuses = f"http://localhost:{server.rest_port}/v1/models/ctr_ranker:predict", set()
    with requests.Session() as session:
        for _ in range(300):
            broken = bytearray(body)
            for _ in range(rng.randrange(3)):
                place = rng.randrange(len(broken))
                broken[place : place + rng.randrange(3)] = rng.choice([b"", b"[", b'"', b"1", b"\xff", b"null", b"{}"])
            statuses.add(session.post(url, data=bytes(broken)).status_code)
    assert statuses == {200, 400}
