"""Every address of a name, such as that of a headless service: looked up aside, again and again."""

import logging
import socket
import threading
import time
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from serving.client.connection import Target

LOG = logging.getLogger(__name__)
#: How often a name is looked up, and how often at most where a server has failed.
SECONDS, SECONDS_AFTER_A_FAILURE = 30.0, 2.0


def addresses_of(name: str) -> list[Target]:
    """A target for each address of a name.

    Args:
        name: host:port, or a URL with a port.

    Raises:
        OSError: the name has no address.
        ValueError: it has no port.

    >>> addresses_of("http://127.0.0.1:8501")
    [Target(address='http://127.0.0.1:8501', name='127.0.0.1:8501')]
    """
    scheme, host, port = _parts(name)
    hosts = {str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    places = sorted(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host in hosts)
    return [Target(f"{scheme}{place}", f"{host}:{port}") for place in places]


def _parts(name: str) -> tuple[str, str, int]:
    scheme, separator, place = name.rpartition("://")
    url = urlsplit(f"//{place}")
    if url.hostname is None or url.port is None:
        raise ValueError(f"{name!r} is no host:port, so its addresses cannot be looked up; add the port")
    return f"{scheme}{separator}", url.hostname, url.port


class LookUp:
    """Looks names up in a thread of its own, as that may take long.

    Args:
        names: host:port, or URLs.
        take: gets the addresses of all names.

    Attributes:
        error: why there are no addresses yet.

    Raises:
        ValueError: a name has no port.
    """

    def __init__(self, names: Sequence[str], take: Callable[[Sequence[Target]], None]) -> None:
        for name in names:
            _parts(name)
        self._names, self._take, self.error = names, take, "they are being looked up"
        self._lock, self._known, self._began = threading.Lock(), False, float("-inf")
        self._thread = threading.Thread()

    def is_needed(self) -> bool:
        """Whether no address is known yet."""
        return not self._known

    def wait(self, seconds: float) -> None:
        """Looks up, and waits for the first addresses, but no longer than some seconds."""
        self._look_up_after(0.0)
        self._thread.join(seconds)

    def refresh(self) -> None:
        """Looks up where that was long ago; nobody waits for it."""
        self._look_up_after(SECONDS)

    def after_a_failure(self) -> None:
        """A server has failed: it may have another address now."""
        self._look_up_after(SECONDS_AFTER_A_FAILURE)

    def _look_up_after(self, seconds: float) -> None:
        with self._lock:
            if self._thread.is_alive() or time.monotonic() < self._began + seconds:
                return
            self._began = time.monotonic()
            self._thread = threading.Thread(target=self._look_up, name="courier-look-up", daemon=True)
            self._thread.start()

    def _look_up(self) -> None:
        try:
            self._take([target for name in self._names for target in addresses_of(name)])
            self._known = True
        except OSError as error:
            self.error = str(error)
            LOG.warning("%s cannot be looked up, the addresses stay as they were: %s", ", ".join(self._names), error)
