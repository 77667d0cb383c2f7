"""HTTP below the API: methods, bodies, connections, metrics."""

import gzip
import http.client
import json
import re
import socket

from tests.serving.local.yardstick.bundle import HALF, JOINED, MOST_ROWS
from tests.serving.local.yardstick.cases import Case, cases, counted

GROUP = "HTTP"
PREDICT = f"/v1/models/{HALF}:predict"
BODY = b'{"instances": [2.0]}'
METRICS = "/monitoring/prometheus/metrics"


def exchanged(server, method, path, body=b"", **headers):
    """(status, body, Content-Type) of a request by a socket, with the headers that http.client adds."""
    connection = http.client.HTTPConnection("localhost", server.rest_port, timeout=20)
    connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    reply = connection.getresponse()
    found = reply.status, reply.read(), reply.getheader("Content-Type")
    connection.close()
    return found


METHODS = [
    Case("HEAD", "HEAD", 400),
    Case("PUT", "PUT", 400),
    Case("DELETE", "DELETE", 400),
    Case("PATCH", "PATCH", 400),
    Case("TRACE", "TRACE", 501),
    Case("OPTIONS without an origin", "OPTIONS", 400),
]


@cases(GROUP, METHODS)
def test_methods(server, case):
    status, body, _ = exchanged(server, case.asked, PREDICT)
    assert status == case.answer
    assert case.asked != "HEAD" or not body


@counted(GROUP)
def test_options_with_an_origin(server):
    assert exchanged(server, "OPTIONS", PREDICT, Origin="https://shop.example")[:2] == (200, b"")


@cases(GROUP, [Case("no path", "/", 404), Case("another path", "/statuspage", 404), Case("v1 alone", "/v1", 404)])
def test_other_paths_are_no_part_of_the_api(server, case):
    status, body, content_type = exchanged(server, "GET", case.asked)
    assert status == case.answer and body and content_type.startswith("text/html")


BODIES = [
    Case("gzip", (gzip.compress(BODY), "gzip"), 200),
    Case("gzip that is none", (BODY, "gzip"), 400),
    Case("half of a gzip", (gzip.compress(BODY)[:-9], "gzip"), 400),
    Case("gzip without its header", (gzip.compress(BODY), "identity"), 400),
    Case("gzip of more than 100 MB", (gzip.compress(b" " * (101 << 20) + BODY, 1), "gzip"), 400),
]


@cases(GROUP, BODIES)
def test_bodies(server, case):
    content, encoding = case.asked
    assert exchanged(server, "POST", PREDICT, content, Content_Encoding=encoding)[0] == case.answer


@counted(GROUP)
def test_a_large_gzip(server):
    body = json.dumps({"signature_name": "string", "inputs": ["x" * 10_000_000]}).encode()
    status, answer, _ = exchanged(server, "POST", PREDICT, gzip.compress(body, 1), Content_Encoding="gzip")
    assert status == 200 and len(answer) > 10_000_000


@counted(GROUP)
def test_a_body_in_chunks(server):
    assert exchanged(server, "POST", PREDICT, iter([BODY[:5], BODY[5:]]))[0] == 200


def answered(server, sent, times=1):
    """The answers to bytes that are sent as they are."""
    found = []
    with socket.create_connection(("localhost", server.rest_port), timeout=20) as connection:
        connection.sendall(sent)
        for _ in range(times):
            reply = http.client.HTTPResponse(connection)
            reply.begin()
            found.append((reply.status, reply.read()))
    return found


@counted(GROUP)
def test_a_post_without_a_length_has_no_body(server):
    ((status, body),) = answered(server, f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert status == 400 and json.loads(body)["error"]


@counted(GROUP)
def test_a_post_in_chunks_with_trailers(server):
    head = f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    ((status, _),) = answered(server, head + b"%x\r\n%s\r\n0\r\nX-Sum: 1\r\n\r\n" % (len(BODY), BODY))
    assert status == 200


@counted(GROUP)
def test_a_connection_serves_several_requests(server):
    one = f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(BODY)}\r\n\r\n".encode() + BODY
    connection = http.client.HTTPConnection("localhost", server.rest_port, timeout=20)
    for _ in range(3):
        connection.request("POST", PREDICT, BODY)
        reply = connection.getresponse()
        assert reply.status == 200 and reply.read() and not reply.will_close
    connection.close()
    assert [status for status, _ in answered(server, one)] == [200]


@counted(GROUP)
def test_expect_100_continue(server):
    head = f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(BODY)}\r\nExpect: 100-continue\r\n\r\n"
    with socket.create_connection(("localhost", server.rest_port), timeout=20) as connection:
        connection.sendall(head.encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 100")
        connection.sendall(BODY)
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")


@counted(GROUP)
def test_a_length_below_zero(server):
    ((status, _),) = answered(server, f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n".encode())
    assert status == 400


def counters(server):
    """Name and labels -> value, of the page for Prometheus."""
    status, page, content_type = exchanged(server, "GET", METRICS)
    assert status == 200 and content_type.startswith("text/plain")
    lines = [line for line in page.decode().splitlines() if line and not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


@counted(GROUP)
def test_metrics_have_types(server):
    exchanged(server, "POST", PREDICT, BODY)
    page = exchanged(server, "GET", METRICS)[1].decode()
    assert "# TYPE :tensorflow:serving:request_count counter" in page
    assert "# TYPE :tensorflow:serving:request_latency histogram" in page


@counted(GROUP)
def test_requests_are_counted_by_model_and_status(server):
    ok = f':tensorflow:serving:request_count{{model_name="{HALF}",status="OK"}}'
    wrong = f':tensorflow:serving:request_count{{model_name="{HALF}",status="INVALID_ARGUMENT"}}'
    before = counters(server)
    exchanged(server, "POST", PREDICT, BODY)
    exchanged(server, "POST", PREDICT, b"{}")
    after = counters(server)
    assert [after[name] - before.get(name, 0) for name in (ok, wrong)] == [1, 1]


@counted(GROUP)
def test_times_are_counted_by_entry_point(server):
    exchanged(server, "POST", PREDICT, BODY)
    found = counters(server)
    labels = f'{{model_name="{HALF}",API="predict",entrypoint="REST"'
    name = f":tensorflow:serving:request_latency_bucket{labels},le="
    buckets = [value for key, value in found.items() if key.startswith(name)]
    assert len(buckets) == 34 and buckets == sorted(buckets)
    assert found[f'{name}"+Inf"}}'] == found[f":tensorflow:serving:request_latency_count{labels}}}"] > 0
    assert f'{name}"18"}}' in found and f'{name}"58.32"}}' in found


@counted(GROUP)
def test_examples_are_counted(server):
    name = f':tensorflow:serving:request_example_count_total{{model="{HALF}"}}'
    before = counters(server).get(name, 0)
    body = json.dumps({"signature_name": "regress", "examples": [{"x": 1.5}] * 3}).encode()
    exchanged(server, "POST", f"/v1/models/{HALF}:regress", body)
    assert counters(server)[name] - before == 3


@counted(GROUP)
def test_metrics_with_a_query(server):
    status, body, content_type = exchanged(server, "GET", f"{METRICS}?x=1")
    assert status == 400 and body and content_type.startswith("text/plain")


ROWS = [
    Case("as many rows as a batch may have", ("serving_default", MOST_ROWS), 200),
    Case("more rows than a batch may have", ("serving_default", MOST_ROWS + 1), 400),
    Case("more examples than a batch may have", ("regress", MOST_ROWS + 1), 400),
]


@cases(GROUP, ROWS)
def test_rows_of_joined_requests(server, case):
    signature, rows = case.asked
    if signature == "regress":
        method, content = "regress", {"examples": [{"x": 1.5}] * rows}
    else:
        method, content = "predict", {"instances": [1.5] * rows}
    body = json.dumps({"signature_name": signature, **content}).encode()
    reply = server.ask("POST", f"/v1/models/{JOINED}:{method}", body)
    assert reply.status == case.answer
    if case.answer == 400:
        assert re.search(f"Task size {rows} .* {MOST_ROWS}", json.loads(reply.body)["error"])


@counted(GROUP)
def test_a_scalar_cannot_be_joined(server):
    reply = server.ask("POST", f"/v1/models/{JOINED}:predict", b'{"inputs": 1.5}')
    assert reply.status == 400
