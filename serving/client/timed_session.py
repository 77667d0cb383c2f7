"""A session of `requests` with timeouts for the whole answer instead of for each part of it that arrives."""

import http.client
import io
import socket
import time
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection

THREADS = 128  # As many may ask at once without connections being closed and opened all the time.


def timed_session() -> requests.Session:
    """A session that takes timeouts as `urllib3.Timeout(total=seconds)`; they end a request before its last byte."""
    session = requests.Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, _Adapter(pool_maxsize=THREADS))
    return session


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


class _Connection(HTTPConnection):
    response_class = _Answer


class _SecureConnection(HTTPSConnection):
    response_class = _Answer


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


class _Adapter(HTTPAdapter):
    """The usual adapter, on connections with timed answers. SOCKS has connections of its own, which are not timed."""

    def init_poolmanager(self, *arguments: Any, **named: Any) -> None:
        super().init_poolmanager(*arguments, **named)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}

    def proxy_manager_for(self, *arguments: Any, **named: Any) -> urllib3.PoolManager:
        manager = super().proxy_manager_for(*arguments, **named)
        if isinstance(manager, urllib3.ProxyManager):
            manager.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}
        return manager
