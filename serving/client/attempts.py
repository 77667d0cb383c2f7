"""What a call does, step by step: whom it asks, how long, and what follows a failure.

The steps are a generator, which waits for nothing itself. A client with threads takes them by `threads.py`, one with
asyncio by `tasks.py`.
"""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any, Generic, NamedTuple, TypeVar

import grpc

from serving.client import hooks
from serving.client.connection import Connection
from serving.client.contract import REQUEST_ID
from serving.client.endpoints import Endpoint, Endpoints
from serving.client.grpc_messages import METHODS
from serving.client.retries import RETRYABLE, Retries
from serving.client.transport import CallError, Predict, Question, Versions

SHORTEST_SECONDS = 0.001  # A deadline of an attempt must lie ahead.
_LOADING = ("START", "LOADING")  # States of a version.
_SENT = TypeVar("_SENT")


class Send(NamedTuple):
    """A step: one attempt. Its answer, or its CallError, goes back into the generator.

    Attributes:
        question: what is asked.
        endpoint: whom.
        seconds: the deadline of the attempt.
        number: of the attempt, from 1.
        request_id: of the call.
        backup: the attempt that a hedged call makes beside this one; None where there is no other server.
    """

    question: Question
    endpoint: Endpoint[Any]
    seconds: float
    number: int
    request_id: str
    backup: Callable[[], "Send | None"]


class Wait(NamedTuple):
    """A step: some seconds pass."""

    seconds: float


class Work(NamedTuple):
    """A step: something that may wait for a disk or a name."""

    do: Callable[[], None]


Steps = Generator[Send | Wait | Work, Any, Any]


@dataclasses.dataclass(frozen=True)
class Attempts(Generic[_SENT]):
    """How the calls of a client are attempted.

    Attributes:
        endpoints: the servers.
        retries: how often, and the waits.
        attempt_seconds: the longest time of one attempt. With None, it is half of what is left while another server
            could still answer, and all of it else.
        connection: for the headers.
        hooks: are told of each attempt.
    """

    endpoints: Endpoints[_SENT]
    retries: Retries
    attempt_seconds: float | None
    connection: Connection
    hooks: tuple[hooks.Hook, ...]

    def steps(self, question: Question, request_id: str, deadline: float, waits_for_label: bool = True) -> Steps:
        """The steps to the answer of a question.

        Args:
            question: what is asked.
            request_id: of the call.
            deadline: of the call, in seconds of `time.monotonic`.
            waits_for_label: whether a label is asked for again while its version may still be loading.

        Raises:
            CallError: the last attempt failed.
        """
        look_up = self.endpoints.look_up
        if look_up and look_up.is_needed():
            yield Work(lambda: look_up.wait(deadline - time.monotonic()))
        elif look_up:
            look_up.refresh()
        if not len(self.endpoints):
            reason = look_up.error if look_up else "none is named"
            raise CallError(grpc.StatusCode.UNAVAILABLE, f"there is no server to ask: {reason}", request_id)
        return (yield from _Course(self, question, request_id, deadline, waits_for_label).steps())

    @contextlib.contextmanager
    def watched(self, send: Send) -> Iterator[dict[str, str]]:
        """An attempt happens in here. It gives the headers; servers and hooks are told what becomes of the attempt."""
        question, code, start = send.question, grpc.StatusCode.OK, time.perf_counter()
        attempt = hooks.Attempt(
            method=METHODS[type(question)].path.rpartition("/")[2],
            endpoint=send.endpoint.target.address,
            number=send.number,
            request_id=send.request_id,
            model=question.model,
            label=getattr(question, "label", None),
            signature=getattr(question, "signature", None),
        )
        headers = self.connection.headers_now() | hooks.started(self.hooks, attempt) | {REQUEST_ID: send.request_id}
        try:
            yield headers
        except CallError as error:
            code = error.code
            raise
        except BaseException:  # Such as a task of asyncio that is cancelled.
            code = grpc.StatusCode.CANCELLED
            raise
        finally:
            self.endpoints.ended(send.endpoint, code)
            hooks.ended(self.hooks, attempt, code.name, time.perf_counter() - start)


class _Course(Generic[_SENT]):
    """The attempts of one question."""

    def __init__(
        self, attempts: Attempts[_SENT], question: Question, request_id: str, deadline: float, waits_for_label: bool
    ) -> None:
        self._endpoints, self._retries, self._attempt_seconds = (
            attempts.endpoints,
            attempts.retries,
            attempts.attempt_seconds,
        )
        self._question, self._request_id, self._deadline = question, request_id, deadline
        self._label = question.label if isinstance(question, Predict) and waits_for_label else None
        self._tried: list[Endpoint[_SENT]] = []
        self._was_loading = False

    def steps(self) -> Steps:
        endpoint = self._endpoints.pick()
        while endpoint is not None:
            send = self._send(endpoint)
            had_all = send.seconds >= self._left()
            try:
                return (yield send)
            except CallError as error:
                is_loading = error.code == grpc.StatusCode.NOT_FOUND and (yield from self._is_loading(endpoint))
                wait, endpoint = self._following(error, had_all, is_loading)
            yield Wait(wait)

    def _following(self, error: CallError, had_all: bool, is_loading: bool) -> tuple[float, Endpoint[_SENT]]:
        """How long to wait after a failure, and whom to ask then. Where nothing follows, the failure is raised."""
        is_late = error.code == grpc.StatusCode.DEADLINE_EXCEEDED and had_all
        may_appear = error.code == grpc.StatusCode.NOT_FOUND and self._label is not None
        if is_late or not (may_appear or error.code in RETRYABLE):
            raise error
        if not is_loading and len(self._tried) >= self._most_attempts():
            raise error
        endpoint = self._endpoints.pick(self._tried)
        if endpoint is None:
            raise error
        # Another server may be well. One with too many requests has neighbours with too many.
        at_once = endpoint not in self._tried and error.code != grpc.StatusCode.RESOURCE_EXHAUSTED
        wait = 0.0 if at_once else self._retries.wait_seconds(len(self._tried) - 1)
        if wait >= self._left():
            raise error
        return wait, endpoint

    def _is_loading(self, endpoint: Endpoint[_SENT]) -> Steps:
        """Whether the server that lacks the version of a label is still loading one, or has done so since."""
        if self._label is None:
            return False
        question = Versions(self._question.model)
        try:
            states = yield Send(question, endpoint, self._seconds(), len(self._tried), self._request_id, lambda: None)
        except CallError:
            return False
        before, self._was_loading = self._was_loading, any(state in _LOADING for state in states.values())
        return before or self._was_loading

    def _send(self, endpoint: Endpoint[_SENT]) -> Send:
        self._tried.append(endpoint)
        number = len(self._tried)
        return Send(self._question, endpoint, self._seconds(), number, self._request_id, self._backup)

    def _backup(self) -> Send | None:
        endpoint = self._endpoints.pick(self._tried) if self._endpoints.has_other(self._tried) else None
        return None if endpoint is None or endpoint in self._tried else self._send(endpoint)

    def _most_attempts(self) -> int:
        return max(self._retries.attempts, len(self._endpoints)) if self._retries.attempts > 1 else 1

    def _seconds(self) -> float:
        left = max(SHORTEST_SECONDS, self._left())
        if self._attempt_seconds is not None:
            return min(left, self._attempt_seconds)
        is_last = len(self._tried) >= self._most_attempts()
        return left if is_last or not self._endpoints.has_other(self._tried) else left / 2

    def _left(self) -> float:
        return self._deadline - time.monotonic()
