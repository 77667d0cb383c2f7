"""The HTTP of the local server: connections, bodies and their limits. What is answered is a function of the request."""

import io
import logging
import re
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import SHUT_RD, socket
from typing import Any, NamedTuple

from courier_tf.escaping import printable

LOG = logging.getLogger(__name__)
MOST_BYTES = 1 << 30  # In the body of a request.
MOST_UNPACKED = 100 << 20  # In a body that came compressed. TensorFlow Serving takes no more.
LONGEST_LINE = 1 << 16
IDLE_SECONDS = 60.0  # Until a connection without a request is closed.
READING_SECONDS = 30.0  # For a whole request: a slow client must not hold a thread for ever.
CONNECTIONS = 1024
HTML, JSON, TEXT = "text/html", "application/json", "text/plain"


class HttpRequest(NamedTuple):
    """A request. Its headers are found in upper and in lower case."""

    method: str
    target: str
    headers: Message
    body: bytes = b""


class HttpAnswer(NamedTuple):
    """An answer. A header that has no value is not sent."""

    status: int
    body: bytes
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()


class HttpServer(ThreadingHTTPServer):
    """Answers requests in threads. It has its port at once, and takes connections once it is opened.

    Args:
        host, port: where to listen; port 0 takes a free one.
        respond: makes the answer to a request.
        threads: how many requests are answered at the same time; the others wait.

    Raises:
        OSError: the port is taken.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, host: str, port: int, respond: Callable[[HttpRequest], HttpAnswer], threads: int) -> None:
        super().__init__((host, port), _Handler, bind_and_activate=False)
        self.respond = respond
        self._turns, self._places = threading.Semaphore(threads), threading.Semaphore(CONNECTIONS)
        self._running, self._ended = 0, threading.Condition()
        self._reading: dict[socket, float] = {}  # Connection -> when its request must be whole.
        try:
            self.server_bind()
        except BaseException:
            self.server_close()
            raise

    def open(self) -> None:
        """Begins to take connections. They are answered once `serve` is called.

        Raises:
            OSError: another process has begun to listen on the port.
        """
        self.server_activate()

    def serve(self) -> None:
        """Begins to answer, in a thread of its own."""
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Counts a request while it is answered, and waits until its turn has come."""
        with self._ended:
            self._running += 1
        try:
            with self._turns:
                yield
        finally:
            with self._ended:
                self._running -= 1
                self._ended.notify_all()

    @contextmanager
    def reading(self, connection: socket) -> Iterator[None]:
        """Bounds the time in which a request arrives."""
        self._reading[connection] = time.monotonic() + READING_SECONDS
        try:
            yield
        finally:
            self.arrived(connection)

    def arrived(self, connection: socket) -> None:
        """Ends what `reading` has begun: the request is whole."""
        self._reading.pop(connection, None)

    def service_actions(self) -> None:
        """Ends the requests that arrive too slowly. The server calls this twice a second."""
        now = time.monotonic()
        for connection, end in list(self._reading.items()):
            if end < now:
                self.arrived(connection)
                with suppress(OSError):  # The client may have gone away.
                    connection.shutdown(SHUT_RD)  # Its thread reads the end of the connection.

    def process_request(self, request: Any, client_address: Any) -> None:
        """Gives a connection a thread, or refuses it where there are too many."""
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
            return
        with suppress(OSError):
            request.sendall(b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answers the requests of one connection."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def drain(self, seconds: float) -> None:
        """Takes no new connections, and waits up to `seconds` until the running requests are answered."""
        self.shutdown()
        with self._ended:
            self._ended.wait_for(lambda: not self._running, seconds)
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Notes that a client has gone away, which is no fault of the server."""
        LOG.info("connection of %s ended", client_address, exc_info=True)


class _Refused(Exception):
    """A body that cannot be read. The connection ends, since the next request cannot be told from it."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "courier-local-server", ""
    timeout = IDLE_SECONDS
    # One write for headers and body, and no waiting for the other side's acknowledgement between two of them.
    wbufsize = 1 << 16
    disable_nagle_algorithm = True
    server: HttpServer
    rfile: io.BufferedReader

    def handle_one_request(self) -> None:
        try:
            self.rfile.peek(1)
        except OSError:  # Nothing came in time.
            self.close_connection = True
            return
        with self.server.reading(self.connection):
            super().handle_one_request()

    def handle_expect_100(self) -> bool:
        going_on = super().handle_expect_100()
        self.wfile.flush()
        return going_on

    def _receive(self) -> None:
        try:
            body = self._body()
        except _Refused as refused:
            self.close_connection = True
            self._write(HttpAnswer(refused.status, f'{{"error": "{refused}"}}'.encode()))
            return
        except ConnectionError:  # The client has gone away, or was too slow.
            self.close_connection = True
            return
        self.server.arrived(self.connection)
        with self.server.answering():
            self._write(self.server.respond(HttpRequest(self.command, self.path, self.headers, body)))

    do_GET = do_POST = do_HEAD = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = _receive

    def _body(self) -> bytes:
        lengths = self.headers.get_all("Content-Length", [])
        if "Transfer-Encoding" in self.headers:
            if self.headers["Transfer-Encoding"].strip().lower() != "chunked":
                raise _Refused(501, "Transfer-Encoding must be chunked")
            self.close_connection |= bool(lengths)  # With a length, too, somebody between us may have read another end.
            body = b"".join(self._chunks())
        elif len(set(lengths)) > 1 or not all(re.fullmatch("[0-9]{1,18}", length.strip()) for length in lengths):
            raise _Refused(400, "Content-Length must be one number of bytes")
        else:
            body = self._read(int(lengths[0]) if lengths else 0, 0)
        return unpacked(body) if "gzip" in self.headers.get("Content-Encoding", "") else body

    def _chunks(self) -> Iterator[bytes]:
        size, total = 1, 0
        while size:
            text = self._line().partition(b";")[0].strip()
            if not re.fullmatch(b"[0-9a-fA-F]{1,15}", text):
                raise _Refused(400, "a chunk must begin with its number of bytes")
            size = int(text, 16)
            yield self._read(size, total)
            total += size
            if size and self._line().strip():
                raise _Refused(400, "a chunk must have the number of bytes that it names")
        while self._line().strip():  # Headers that follow the body are not used.
            total += LONGEST_LINE
            self._check(total)

    def _line(self) -> bytes:
        line = self.rfile.readline(LONGEST_LINE + 1)
        if len(line) > LONGEST_LINE:
            raise _Refused(400, "a line between chunks is too long")
        if not line.endswith(b"\n"):
            raise ConnectionResetError
        return line

    def _read(self, size: int, before: int) -> bytes:
        self._check(before + size)
        body = self.rfile.read(size)
        if len(body) < size:
            raise ConnectionResetError
        return body

    def _check(self, size: int) -> None:
        if size > MOST_BYTES:
            raise _Refused(413, f"the body must have at most {MOST_BYTES} bytes")

    def _write(self, answer: HttpAnswer) -> None:
        self.send_response(answer.status)
        if answer.content_type:
            self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        for name, value in answer.headers:
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def log_message(self, format: str, *arguments: Any) -> None:
        LOG.debug("%s", printable(format % arguments))


def unpacked(body: bytes) -> bytes:
    """A gzip body as it was; empty where it is none, or too large, as TensorFlow Serving has it."""
    unpacker = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        content = unpacker.decompress(body, MOST_UNPACKED)
    except zlib.error:
        return b""
    return content if unpacker.eof else b""
