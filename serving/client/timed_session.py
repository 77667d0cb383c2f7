"""A session of `requests` whose timeouts are for the whole answer instead of for each part of it that arrives.

Another thread may end a request: the one that is sent within `ended_by(cancellation)`.
"""

import contextlib
import http.client
import io
import socket
import threading
import time
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection

from serving.client.transport import Cancellation

THREADS = 128  # As many may ask at once without connections being closed and opened all the time.
_CANCELLATION: ContextVar[Cancellation | None] = ContextVar("cancellation", default=None)


def timed_session(server_name: str | None = None) -> requests.Session:
    """A session that takes timeouts as `urllib3.Timeout(total=seconds)`; they end a request before its last byte.

    Args:
        server_name: name in the certificates of all servers; None for the host of each URL.
    """
    session = requests.Session()
    session.mount("http://", _Adapter(pool_maxsize=THREADS))
    session.mount("https://", _Adapter(server_name, pool_maxsize=THREADS))
    return session


@contextlib.contextmanager
def ended_by(cancellation: Cancellation | None) -> Iterator[None]:
    """The request that this thread sends in here ends when it is cancelled."""
    token = _CANCELLATION.set(cancellation)
    try:
        yield
    finally:
        _CANCELLATION.reset(token)
        if cancellation:
            cancellation.on_cancel(lambda: None)


class _UntilDeadline(io.RawIOBase):
    """Reads from a socket until a deadline. The socket's own timeout begins anew with every byte that arrives."""

    def __init__(self, connection: socket.socket, raw: io.RawIOBase, deadline: float) -> None:
        super().__init__()
        self._connection, self._raw, self._deadline = connection, raw, deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the deadline has passed")
        self._connection.settimeout(left)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Answer(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *arguments: Any, **named: Any) -> None:
        super().__init__(sock, *arguments, **named)
        seconds = sock.gettimeout()  # The part of the total that is left when the answer begins.
        if seconds is not None:
            raw = self.fp.detach()
            self.fp = io.BufferedReader(_UntilDeadline(sock, raw, time.monotonic() + seconds))


class _Cancelled:
    """A connection that ends when the request on it is cancelled, and only then: others use it afterwards."""

    sock: socket.socket | None

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._lock = threading.Lock()
        self._owner: Cancellation | None = None

    def request(self, *arguments: Any, **named: Any) -> None:
        cancellation = _CANCELLATION.get()
        with self._lock:
            self._owner = cancellation
        if cancellation:
            cancellation.on_cancel(lambda: self._end(cancellation))
        super().request(*arguments, **named)  # type: ignore[misc]  # The class beside this one has it.

    def connect(self) -> None:
        super().connect()  # type: ignore[misc]  # As above.
        if self._owner and self._owner.cancelled:  # There was no socket yet that could have been ended.
            raise ConnectionAbortedError("the request was cancelled")

    def _end(self, cancellation: Cancellation) -> None:
        with self._lock:
            if self._owner is cancellation and self.sock is not None:
                with contextlib.suppress(OSError):  # It has ended by itself.
                    # Not TLS's own, which would change the socket under the thread that reads from it.
                    socket.socket.shutdown(self.sock, socket.SHUT_RDWR)


class _Connection(_Cancelled, HTTPConnection):
    response_class = _Answer


class _SecureConnection(_Cancelled, HTTPSConnection):
    response_class = _Answer


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


class _Adapter(HTTPAdapter):
    """The usual adapter, on connections with timed answers. SOCKS has connections of its own, which are not timed."""

    def __init__(self, server_name: str | None = None, **named: Any) -> None:
        self._tls: dict[str, Any] = {"server_hostname": server_name} if server_name else {}
        super().__init__(**named)

    def init_poolmanager(self, *arguments: Any, **named: Any) -> None:
        super().init_poolmanager(*arguments, **{**named, **self._tls})
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}

    def proxy_manager_for(self, *arguments: Any, **named: Any) -> urllib3.PoolManager:
        manager = super().proxy_manager_for(*arguments, **named)
        if isinstance(manager, urllib3.ProxyManager):
            manager.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}
        return manager
