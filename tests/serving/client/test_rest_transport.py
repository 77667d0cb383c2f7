"""The client by REST against servers that answer badly: cut, dripping, unreadable, behind a bad certificate."""

import contextlib
import datetime
import ipaddress
import json
import socket
import ssl
import threading

import grpc
import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from serving.client.client import CourierClient, Retries
from serving.client.transport import CallError

GOOD = json.dumps({"outputs": {"p": [0.5]}}).encode()


def answer(body, status=200, headers=b""):
    """The bytes of an answer that then ends the connection."""
    head = b"HTTP/1.1 %d x\r\nContent-Length: %d\r\nConnection: close\r\n%s\r\n" % (status, len(body), headers)
    return head + body


class Server:
    """Answers the first connection with the first script, and so on; the last script stays. A script sends pieces.

    Attributes:
        seen: number of connections.
    """

    def __init__(self, *scripts, context=None):
        self.scripts, self.seen, self.ended = scripts, 0, threading.Event()
        self._context, self._listening = context, socket.create_server(("127.0.0.1", 0))
        self.url = f"127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            script = self.scripts[min(self.seen, len(self.scripts) - 1)]
            self.seen += 1
            # The client may go away.
            with contextlib.suppress(OSError), connection, self._secured(connection) as secured:
                self.read_request(secured)
                script(secured, self)

    def _secured(self, connection):
        return self._context.wrap_socket(connection, server_side=True) if self._context else connection

    def read_request(self, connection):
        read = connection.makefile("rb")
        length = 0
        while (line := read.readline().strip().lower()) != b"":
            length = int(line.split(b":")[1]) if line.startswith(b"content-length") else length
        read.read(length)

    def close(self):
        self.ended.set()
        self._listening.close()


def sends(content):
    return lambda connection, server: connection.sendall(content)


def drips(content, pause=0.05):
    """Byte by byte, each well within the timeout of the call; all of them are not."""

    def script(connection, server):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for place in range(len(content)):
            connection.sendall(content[place : place + 1])
            server.ended.wait(pause)

    return script


@pytest.fixture
def serving():
    """Starts a server with scripts; returns (server, client)."""
    started = []

    def start(*scripts, scheme="http", context=None, **settings):
        server = Server(*scripts, context=context)
        client = CourierClient(f"{scheme}://{server.url}", **{"timeout_seconds": 20, **settings})
        started.extend([client.close, server.close])
        return server, client

    yield start
    for end in started:
        end()


def asked(client):
    return client.predict("m", "s", {"x": np.zeros(1)})["p"].tolist()


def refused(client):
    """(code, message) of a call that fails."""
    with pytest.raises(CallError) as failed:
        asked(client)
    return failed.value.code, str(failed.value)


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n100\r\nabc"


@pytest.mark.parametrize("cut", [b"", b"HTTP/1.1 20", answer(GOOD)[:40], answer(GOOD)[:-3], CHUNKED])
def test_a_connection_that_is_cut_is_unavailable_and_asked_again(serving, cut):
    server, client = serving(sends(cut), sends(answer(GOOD)))
    assert asked(client) == [0.5] and server.seen == 2
    server, client = serving(sends(cut), retries=Retries(attempts=2))
    assert refused(client)[0] == grpc.StatusCode.UNAVAILABLE and server.seen == 2


@pytest.mark.parametrize("slow", [answer(b" " * 300 + GOOD), answer(GOOD, headers=b"x-long: " + b"a" * 300 + b"\r\n")])
def test_a_dripping_answer_ends_at_the_deadline(serving, slow):
    """In the body, in the headers: an answer that would be whole in the end, and is not waited for."""
    server, client = serving(drips(slow), timeout_seconds=1)
    assert refused(client)[0] == grpc.StatusCode.DEADLINE_EXCEEDED and server.seen == 1


def test_a_dripping_answer_through_a_proxy(serving, monkeypatch):
    server, _ = serving(sends(answer(GOOD)), drips(answer(b" " * 300 + GOOD)))
    monkeypatch.setenv("http_proxy", f"http://{server.url}")
    with CourierClient("http://nowhere.invalid", timeout_seconds=1) as client:
        assert asked(client) == [0.5]
        assert refused(client)[0] == grpc.StatusCode.DEADLINE_EXCEEDED and server.seen == 2


def test_a_slow_answer_within_the_deadline_is_read(serving):
    server, client = serving(drips(answer(GOOD), 0.01))
    assert asked(client) == [0.5] and asked(client) == [0.5]


def test_a_server_that_says_nothing(serving):
    server, client = serving(lambda connection, server: server.ended.wait(30), timeout_seconds=0.3)
    assert refused(client)[0] == grpc.StatusCode.DEADLINE_EXCEEDED and server.seen == 1


@pytest.fixture(scope="module")
def untrusted(tmp_path_factory):
    """Context of a server whose certificate nobody has signed but itself."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    start = datetime.datetime(2020, 1, 1)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, start, start.replace(year=2120), [])
    signed = made.add_extension(address, critical=True).sign(key, hashes.SHA256())
    file = tmp_path_factory.mktemp("certificate") / "both.pem"
    plain = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file.write_bytes(signed.public_bytes(serialization.Encoding.PEM) + key.private_bytes(*plain))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context, file


def test_a_bad_certificate_is_final(serving, untrusted, monkeypatch):
    server, client = serving(sends(answer(GOOD)), scheme="https", context=untrusted[0])
    code, message = refused(client)
    assert code == grpc.StatusCode.FAILED_PRECONDITION and "CERTIFICATE_VERIFY_FAILED" in message
    assert server.seen == 1
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(untrusted[1]))  # Who trusts it gets its answers, in time.
    server, client = serving(sends(answer(GOOD)), scheme="https", context=untrusted[0])
    assert asked(client) == [0.5]
    slow = drips(answer(b" " * 300 + GOOD))
    server, client = serving(slow, scheme="https", context=untrusted[0], timeout_seconds=1)
    assert refused(client)[0] == grpc.StatusCode.DEADLINE_EXCEEDED


def test_tls_that_ends_early_is_unavailable(serving):
    """A server that goes away in the handshake."""
    server, client = serving(sends(b""), scheme="https", retries=Retries(attempts=2))
    server.read_request = lambda connection: connection.recv(1000)  # Of TLS, which this server does not speak.
    assert refused(client)[0] == grpc.StatusCode.UNAVAILABLE and server.seen == 2


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (answer(b"<html>a proxy</html>"), "<html>a proxy"),
        (answer(b"[1]"), "[1]"),
        (answer(b'{"predictions": [1]}'), "'predictions'"),
        (answer(b'{"outputs": {"p": [[1], [1, 2]]}}'), "cannot be read"),
        (answer(b'{"outputs": {"p": null}}'), "neither numbers nor text"),
        (answer(b'{"outputs": {"p": ["a", 1]}}'), "numbers among text"),
        (answer(b'{"outputs": {"p": [["a"], ["b", "c"]]}}'), "cannot be read"),
        (answer(b'{"outputs": {"p": ["\\ud800"]}}'), "cannot be read"),
        (answer(b"no gzip", headers=b"Content-Encoding: gzip\r\n"), "gzip"),
        (answer(b"<html>broken</html>", 500), "INTERNAL: <html>broken</html>"),
        (answer(b'["broken"]', 500), "broken"),
        (answer(b'{"error": "out of memory"}', 500), "INTERNAL: out of memory"),
    ],
)
def test_answers_that_cannot_be_read_say_so(serving, content, text):
    server, client = serving(sends(content))
    code, message = refused(client)
    assert code == grpc.StatusCode.INTERNAL and text in message and server.seen == 1
    if b" 200 " in content:
        with pytest.raises(CallError, match="INTERNAL"):
            client.versions("m")


def test_texts_of_an_answer_are_whole(serving):
    """NumPy's own strings lose NUL bytes at the end, and are all as long as the longest."""
    texts = [["a\0", "", "\0"], ["x" * 10_000, "Zoë", "a"]]
    _, client = serving(sends(answer(json.dumps({"outputs": {"p": texts}}).encode())))
    assert asked(client) == [[text.encode() for text in row] for row in texts]


STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    409: "ABORTED",
    418: "UNKNOWN",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    504: "DEADLINE_EXCEEDED",
}


@pytest.mark.parametrize(("status", "code"), STATUSES.items())
def test_other_statuses_are_final(serving, status, code):
    server, client = serving(sends(answer(b"{}", status)), sends(answer(GOOD)))
    assert refused(client)[0].name == code and server.seen == 1


def test_a_redirect_is_not_followed(serving):
    """Each would begin the deadline anew."""
    elsewhere = answer(b"", 307, headers=b"Location: /elsewhere\r\n")
    server, client = serving(sends(elsewhere), sends(answer(GOOD)))
    with pytest.raises(CallError, match="FAILED_PRECONDITION"):
        client.predict("m", "s", {})
    assert server.seen == 1


@pytest.mark.parametrize("status", [404, 429, 502, 503])
def test_servers_that_are_busy_or_lack_a_label_are_asked_again(serving, status):
    answers = [sends(answer(b"busy", status)), sends(answer(GOOD))]
    if status == 404:  # The status of the model comes between them.
        answers.insert(1, sends(answer(b'{"model_version_status": []}')))
    server, client = serving(*answers)
    assert asked(client) == [0.5] and server.seen == len(answers)
    server, client = serving(sends(answer(b"busy", status)), retries=Retries(attempts=1))
    assert refused(client)[0].name == {404: "NOT_FOUND", 429: "RESOURCE_EXHAUSTED"}.get(status, "UNAVAILABLE")
