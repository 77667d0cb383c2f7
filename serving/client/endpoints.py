"""The servers that a client asks: each in turn, but for those that fail."""

import functools
import itertools
import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from grpc import StatusCode

from serving.client.addresses import LookUp
from serving.client.connection import Target
from serving.client.retries import RETRYABLE, TOKENS_OF_A_SUCCESS

#: How long a server is left out after its first failure; each further one in a row doubles it.
FIRST_OUT_SECONDS, LONGEST_OUT_SECONDS = 1.0, 30.0
_SENT = TypeVar("_SENT")


class Endpoint(Generic[_SENT]):
    """One server.

    Attributes:
        target: where it is.
        tokens: what it has left for retries; see `TOKENS_PER_ATTEMPT`.
    """

    def __init__(self, target: Target, open_transport: Callable[[Target], _SENT], most_tokens: float) -> None:
        self.target, self._open = target, open_transport
        self.tokens = self._most_tokens = most_tokens
        self._failures, self._out_until = 0, 0.0

    @functools.cached_property
    def transport(self) -> _SENT:
        """How it is asked. It connects with the first call, as a process that forks before that has nothing open."""
        return self._open(self.target)

    @property
    def is_open(self) -> bool:
        """Whether it was asked yet."""
        return "transport" in self.__dict__

    def is_out(self) -> bool:
        """Whether it is left out now."""
        return time.monotonic() < self._out_until

    def has_tokens(self) -> bool:
        """Whether it may get a call that has failed before."""
        return self.tokens > self._most_tokens / 2

    def chosen(self) -> None:
        """It gets a call. One that was out gets a single one, and the others wait for what becomes of it."""
        if self._failures:
            self._leave_out()

    def ended(self, code: StatusCode) -> None:
        """An attempt has ended with a code. CANCELLED says nothing of the server."""
        if code == StatusCode.CANCELLED:
            return
        self.tokens = max(0.0, self.tokens - RETRYABLE.get(code, 0.0))
        if code == StatusCode.OK:
            self.tokens = min(self._most_tokens, self.tokens + TOKENS_OF_A_SUCCESS)
        if code in (StatusCode.UNAVAILABLE, StatusCode.DEADLINE_EXCEEDED):
            self._failures += 1
            self._leave_out()
        else:
            self._failures, self._out_until = 0, 0.0

    def _leave_out(self) -> None:
        longest = min(LONGEST_OUT_SECONDS, FIRST_OUT_SECONDS * 2 ** min(self._failures - 1, 30))
        self._out_until = time.monotonic() + random.uniform(0.8, 1) * longest


class Endpoints(Generic[_SENT]):
    """All servers of a client. Several threads may use them.

    Args:
        names: their addresses: host:port, or URLs.
        all_addresses: whether a name stands for every address that it has, which are looked up again and again.
        open_transport: connects to a server.
        most_tokens: of each server, for retries.
    """

    def __init__(
        self, names: Sequence[str], all_addresses: bool, open_transport: Callable[[Target], _SENT], most_tokens: float
    ) -> None:
        self._open, self._most_tokens, self._lock = open_transport, most_tokens, threading.Lock()
        # Clients of a single call do not all ask the first. What follows a failure has turns of its own: else calls
        # that are attempted twice would all begin with the same one of two servers.
        self._first_turn, self._later_turn = (itertools.count(random.randrange(1_000)) for _ in range(2))
        self._by_target: dict[Target, Endpoint[_SENT]] = {}
        self.look_up = LookUp(names, self._set) if all_addresses else None
        if not all_addresses:
            self._set([Target(name) for name in names])

    def __len__(self) -> int:
        return len(self._by_target)

    def pick(self, tried: Sequence[Endpoint[_SENT]] = ()) -> Endpoint[_SENT] | None:
        """The next server, in turn: one that is well and was not tried, else one that is well, else any.

        Args:
            tried: those that have failed the call so far, in this order.

        Returns:
            None where no server may get a call that has failed before, and where there is none.
        """
        with self._lock:
            endpoints = [e for e in self._by_target.values() if not tried or e.has_tokens()]
            ranks = [(e.is_out(), e in tried, e in tried[-1:]) for e in endpoints]
            best = [e for e, rank in zip(endpoints, ranks, strict=True) if rank == min(ranks)]
            if not best:
                return None
            endpoint = best[next(self._later_turn if tried else self._first_turn) % len(best)]
            endpoint.chosen()
            return endpoint

    def has_other(self, tried: Sequence[Endpoint[_SENT]]) -> bool:
        """Whether a server is well that a call has not asked yet."""
        with self._lock:
            return any(not e.is_out() and e.has_tokens() and e not in tried for e in self._by_target.values())

    def ended(self, endpoint: Endpoint[_SENT], code: StatusCode) -> None:
        """An attempt at a server has ended with a code."""
        with self._lock:
            endpoint.ended(code)
        if code == StatusCode.UNAVAILABLE and self.look_up:
            self.look_up.after_a_failure()

    def transports(self) -> list[_SENT]:
        """The connections that are open."""
        with self._lock:
            return [endpoint.transport for endpoint in self._by_target.values() if endpoint.is_open]

    def _set(self, targets: Sequence[Target]) -> None:
        """Keeps the servers that are still there. The others end with their last call, when nobody holds them."""
        with self._lock:
            self._by_target = {
                target: self._by_target.get(target) or Endpoint(target, self._open, self._most_tokens)
                for target in targets
            }
