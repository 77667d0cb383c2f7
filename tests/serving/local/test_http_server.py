"""Connections, bodies and their limits, with an answer that costs nothing: what clients do to a server."""

import contextlib
import gzip
import http.client
import socket
import threading
import time

import pytest

from serving.local import http_server
from serving.local.http_server import HttpAnswer, HttpServer, unpacked


@contextlib.contextmanager
def serving(respond=lambda request: HttpAnswer(200, request.body or b"nothing"), threads=8):
    server = HttpServer("localhost", 0, respond, threads)
    server.open()
    server.serve()
    yield server
    server.drain(5)


@pytest.fixture(scope="module")
def server():
    with serving() as running:
        yield running


def connected(server):
    return socket.create_connection(server.server_address[:2], timeout=20)


def asked(server, sent):
    """(status, body, whether the connection ends) of bytes that are sent as they are."""
    with connected(server) as connection:
        connection.sendall(sent)
        reply = http.client.HTTPResponse(connection)
        reply.begin()
        return reply.status, reply.read(), reply.will_close


def post(*headers, body=b""):
    return "\r\n".join(["POST /x HTTP/1.1", "Host: x", *headers, "", ""]).encode() + body


def test_headers_and_body_come_in_one_write(server):
    """In two the second would wait 40 ms for the acknowledgement of the first, on a connection that is kept."""
    with connected(server) as connection:
        for _ in range(10):
            connection.sendall(post("Content-Length: 2000", body=2000 * b"x"))
            assert connection.recv(1 << 16).endswith(b"\r\n\r\n" + 2000 * b"x")


def test_a_connection_before_the_server_is_open_is_refused():
    server = HttpServer("localhost", 0, lambda request: HttpAnswer(200, b""), 1)
    with pytest.raises(ConnectionRefusedError):
        connected(server)
    server.open()
    server.serve()
    connected(server).close()
    server.drain(5)


CHUNKED = "Transfer-Encoding: chunked"


@pytest.mark.parametrize(
    ("sent", "status", "ends"),
    [
        (post("Content-Length: 2", body=b"ab"), 200, False),
        (post(), 200, False),
        (post(CHUNKED, body=b"2\r\nab\r\n003;name=value\r\ncde\r\n0\r\n\r\n"), 200, False),
        (post(CHUNKED, body=b"2\nab\n0\nX-Sum: 1\n\n"), 200, False),
        (post(CHUNKED, "Content-Length: 12", body=b"2\r\nab\r\n0\r\n\r\n"), 200, True),
        (post(CHUNKED, body=b"two\r\n"), 400, True),
        (post(CHUNKED, body=b"-2\r\nab\r\n"), 400, True),
        (post(CHUNKED, body=b"2\r\nabc\r\n0\r\n\r\n"), 400, True),
        (post(CHUNKED, body=b"7fffffff\r\n"), 413, True),
        (post(CHUNKED, body=b"1" * (1 << 17)), 400, True),
        (post("Transfer-Encoding: br"), 501, True),
        (post("Content-Length: -1"), 400, True),
        (post("Content-Length: 1e3"), 400, True),
        (post("Content-Length: 99999999999"), 413, True),
        (post("Content-Length: 2", "Content-Length: 3"), 400, True),
        (post(f"X-Long: {'x' * (1 << 17)}"), 431, True),
        (post(*(f"X-{number}: x" for number in range(200))), 431, True),
        (b"NONE /x HTTP/1.1\r\n\r\n", 501, True),
    ],
)
def test_bodies(server, sent, status, ends):
    given, body, closed = asked(server, sent)
    assert (given, closed) == (status, ends)
    assert status != 200 or body in (b"ab", b"abcde", b"nothing")


def test_what_follows_a_chunked_body_is_the_next_request(server):
    connection = http.client.HTTPConnection(*server.server_address[:2], timeout=20)
    for _ in range(2):
        connection.request("POST", "/x", iter([b"ab", b"cde"]))
        assert connection.getresponse().read() == b"abcde"
    connection.request("HEAD", "/x")
    assert connection.getresponse().read() == b""
    connection.request("GET", "/x")
    assert connection.getresponse().read() == b"nothing"
    connection.close()


def test_gzip():
    assert unpacked(gzip.compress(b"abc")) == b"abc"
    assert unpacked(b"abc") == unpacked(gzip.compress(b"abc")[:-1]) == unpacked(b"") == b""


def test_a_gzip_that_grows_without_end(monkeypatch):
    monkeypatch.setattr(http_server, "MOST_UNPACKED", 1000)
    assert unpacked(gzip.compress(b"x" * 999)) == b"x" * 999 and unpacked(gzip.compress(b"x" * 10_000)) == b""


@pytest.mark.parametrize("begun", [b"POST /x HT", post("Content-Length: 1000"), post(CHUNKED, body=b"ff\r\n")])
def test_a_request_that_arrives_slowly_is_ended(monkeypatch, server, begun):
    monkeypatch.setattr(http_server, "READING_SECONDS", 0.5)
    with connected(server) as connection:
        connection.sendall(begun)
        ended = time.monotonic() + 20
        with contextlib.suppress(ConnectionError):
            while time.monotonic() < ended:
                connection.sendall(b"x")
                connection.settimeout(0.1)
                with contextlib.suppress(TimeoutError):
                    if connection.recv(1000) == b"":
                        break
        assert time.monotonic() < ended - 10
    assert not server._reading


def test_a_connection_that_is_not_used_is_closed(monkeypatch, server):
    monkeypatch.setattr(http_server._Handler, "timeout", 0.2)
    with connected(server) as connection:
        connection.sendall(post())
        assert connection.recv(1000).endswith(b"nothing") and connection.recv(1000) == b""


def test_more_connections_than_places_are_refused(monkeypatch):
    monkeypatch.setattr(http_server, "CONNECTIONS", 2)
    with serving() as server:
        first, second = connected(server), connected(server)
        for connection in (first, second):
            connection.sendall(post())
            assert connection.recv(1000).startswith(b"HTTP/1.1 200")
        assert asked(server, b"")[0] == 503
        first.close()
        wait_for(lambda: asked(server, post())[0] == 200)
        second.close()


def wait_for(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def test_no_more_requests_are_answered_at_once_than_threads():
    running, most, lock = set(), [], threading.Lock()

    def respond(request):
        with lock:
            running.add(threading.get_ident())
            most.append(len(running))
        time.sleep(0.05)
        with lock:
            running.discard(threading.get_ident())
        return HttpAnswer(200, b"")

    with serving(respond, threads=2) as server:
        clients = [threading.Thread(target=asked, args=[server, post()]) for _ in range(7)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
    assert len(most) == 7 and max(most) == 2


def test_requests_that_run_are_answered_before_the_end():
    begun, answers = threading.Event(), []

    def respond(request):
        begun.set()
        time.sleep(0.3)
        return HttpAnswer(200, b"whole")

    with serving(respond) as server:
        client = threading.Thread(target=lambda: answers.append(asked(server, post())[1]))
        client.start()
        assert begun.wait(20)
    client.join()
    assert answers == [b"whole"]


def test_control_characters_of_a_path_stay_out_of_the_log(server, caplog):
    caplog.set_level("DEBUG")
    asked(server, b"GET /\x1b[2J HTTP/1.1\r\n\r\n")
    assert r"\x1b[2J" in caplog.text and "\x1b" not in caplog.text
