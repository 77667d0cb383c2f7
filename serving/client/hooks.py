"""What others may see of each attempt: for traces and metrics, and to pass a trace on."""

import dataclasses
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

LOG = logging.getLogger(__name__)
TRACEPARENT = "traceparent"
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


@dataclasses.dataclass(frozen=True, eq=False)
class Attempt:
    """One attempt of a call. Each is equal to itself alone, so that it can be a key.

    Attributes:
        method: Predict or GetModelStatus.
        endpoint: the server that is asked: host:port, or a URL.
        number: 1 for the first attempt of a call, or of a part of a large one.
        request_id: the ID of the call.
        model: name of the model.
        label, signature: of the request; None where it has none.
    """

    method: str
    endpoint: str
    number: int
    request_id: str
    model: str
    label: str | None
    signature: str | None


class Hook(Protocol):
    """Is told of each attempt, in the thread that sends it. An error of a hook is logged, and fails no call."""

    def started(self, attempt: Attempt) -> Mapping[str, str]:
        """An attempt begins. Returns headers that it carries, by gRPC as its metadata."""

    def ended(self, attempt: Attempt, code: str, seconds: float) -> None:
        """An attempt has ended: OK, or the name of a gRPC code. It is CANCELLED where another one was quicker."""


class Traceparent:
    """Passes the trace of the caller on, as W3C's header `traceparent`.

    Args:
        current: the header of the moment; None for no trace. One that is malformed is not passed on.

    >>> header = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    >>> hook = Traceparent(lambda: header)
    """

    def __init__(self, current: Callable[[], str | None]) -> None:
        self._current = current

    def started(self, attempt: Attempt) -> Mapping[str, str]:
        """The header, if there is a trace."""
        header = self._current()
        return {TRACEPARENT: header} if header and _TRACEPARENT.fullmatch(header) else {}

    def ended(self, attempt: Attempt, code: str, seconds: float) -> None:
        """There is nothing to do."""


def started(hooks: Sequence[Hook], attempt: Attempt) -> dict[str, str]:
    """Tells all hooks that an attempt begins.

    Returns:
        Their headers.
    """
    headers: dict[str, str] = {}
    for hook in hooks:
        try:
            headers |= hook.started(attempt)
        except Exception:  # A fault of somebody else's code.
            LOG.exception("a hook failed at the start of %s", attempt)
    return headers


def ended(hooks: Sequence[Hook], attempt: Attempt, code: str, seconds: float) -> None:
    """Tells all hooks that an attempt has ended."""
    for hook in hooks:
        try:
            hook.ended(attempt, code, seconds)
        except Exception:
            LOG.exception("a hook failed at the end of %s", attempt)
