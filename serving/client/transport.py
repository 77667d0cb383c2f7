"""What a client asks a server, and what every way of asking has in common: by gRPC or REST, waiting or with asyncio.

All raise `CallError` with a gRPC code.
"""

import threading
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import grpc
import numpy as np

from serving.client.contract import REQUEST_ID

ANOTHER_WAS_QUICKER = "the answer of another attempt was quicker"


class CallError(RuntimeError):
    """A call failed.

    Attributes:
        code: gRPC status code.
        request_id: the ID of the call, which the log of the server has, too.
    """

    def __init__(self, code: grpc.StatusCode, message: str, request_id: str) -> None:
        super().__init__(f"{code.name}: {message} (request {request_id})")
        self.code, self.request_id = code, request_id


class Predict(NamedTuple):
    """Asks a signature of a model: arrays in, arrays out; strings are bytes. The answer is `dict[str, np.ndarray]`."""

    model: str
    label: str | None
    signature: str
    inputs: Mapping[str, np.ndarray]


class Versions(NamedTuple):
    """Asks for the versions of a model. The answer is `dict[int, str]`: version -> state (AVAILABLE, ...)."""

    model: str


Question = Predict | Versions


class Cancellation:
    """Lets another thread end an attempt that is under way.

    Attributes:
        cancelled: whether it has been ended.
    """

    def __init__(self) -> None:
        self._lock, self.cancelled = threading.Lock(), False
        self._end: Callable[[], object] = lambda: None

    def cancel(self) -> None:
        """Ends the attempt now, or as soon as it begins."""
        with self._lock:
            self.cancelled = True
            self._end()

    def on_cancel(self, end: Callable[[], object]) -> None:
        """Says how the attempt is ended from now on."""
        with self._lock:
            self._end = end
            if self.cancelled:
                end()


class Transport(Protocol):
    """Sends one attempt of a call to one server, and waits for its answer."""

    def ask(
        self,
        question: Question,
        headers: Mapping[str, str],
        timeout_seconds: float,
        cancellation: Cancellation | None = None,
    ) -> Any:
        """The answer to a question. Raises CallError, or TensorError for an input that is no tensor."""

    def close(self) -> None:
        """Ends the connection."""


class AioTransport(Protocol):
    """The same for asyncio. A task that is cancelled ends its attempt."""

    async def ask(self, question: Question, headers: Mapping[str, str], timeout_seconds: float) -> Any:
        """The answer to a question. Raises CallError, or TensorError for an input that is no tensor."""

    async def close(self) -> None:
        """Ends the connection."""


def request_id_of(headers: Mapping[str, str]) -> str:
    """The ID that a request carries."""
    return headers.get(REQUEST_ID, "")
