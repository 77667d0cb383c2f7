"""What the clients with and without asyncio have in common: their settings, and the steps of a call."""

import abc
import time
import uuid
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import grpc

from serving.client import forks
from serving.client.attempts import Attempts, Steps, Work
from serving.client.calls import Arrays, Call, Part
from serving.client.canary import in_canary
from serving.client.connection import Connection, Target
from serving.client.contract import CANARY, STABLE
from serving.client.endpoints import Endpoints
from serving.client.hooks import Hook
from serving.client.request_log import CallFacts, RequestLog
from serving.client.retries import TOKENS_PER_ATTEMPT, Retries
from serving.client.transport import CallError, Predict

_SENT = TypeVar("_SENT")
_ANSWER = TypeVar("_ANSWER")


class ClientBase(abc.ABC, Generic[_SENT]):
    """The settings of a client.

    Args:
        targets: host:port for gRPC, or a URL (http://host:port) for REST. Several are asked in turn; one that fails is
            left out for a while.
        all_addresses: whether a target stands for every address that its name has, such as that of a headless service.
        label: which versions answer: stable or canary. None asks the highest version that is loaded.
        canary_share: the share of users whose calls go to the canary in place of `label`; where there is none, `label`
            answers. A user is always on the same side.
        timeout_seconds: for a call with all its attempts. The server gets the time of an attempt as its deadline.
        attempt_seconds: for one attempt. With None, an attempt has half of the time that is left while another server
            could still answer, and all of it else.
        retries: how a call is attempted again that a server did not answer. While most calls fail, none is.
        hedge_seconds: after which a second server is asked, too, and the first answer counts; None for never.
        connection: TLS, options of gRPC, and headers.
        hooks: are told of each attempt; see `serving.client.hooks`.
        log: where a sample of the requests and answers is kept.

    Raises:
        ValueError: the settings make no sense.
    """

    def __init__(
        self,
        targets: str | Sequence[str],
        *,
        all_addresses: bool = False,
        label: str | None = STABLE,
        canary_share: float = 0.0,
        timeout_seconds: float = 1.0,
        attempt_seconds: float | None = None,
        retries: Retries = Retries(),  # noqa: B008 (frozen)
        hedge_seconds: float | None = None,
        connection: Connection = Connection(),  # noqa: B008 (frozen)
        hooks: Sequence[Hook] = (),
        log: RequestLog | None = None,
    ) -> None:
        self.targets = (targets,) if isinstance(targets, str) else tuple(targets)
        if not self.targets:
            raise ValueError("targets is empty; name at least one server")
        if not 0 <= canary_share <= 1:
            raise ValueError(f"canary_share must lie between 0 and 1, but is {canary_share}")
        self.all_addresses, self.label, self.canary_share = all_addresses, label, canary_share
        self.timeout_seconds, self.attempt_seconds, self.retries = timeout_seconds, attempt_seconds, retries
        self.hedge_seconds, self.connection, self.hooks, self.log = hedge_seconds, connection, tuple(hooks), log
        self._closed = False
        self.after_fork()
        forks.tell(self)

    def after_fork(self) -> None:
        """Begins anew: with the next call it connects."""
        most_tokens = TOKENS_PER_ATTEMPT * self.retries.attempts
        endpoints = Endpoints(self.targets, self.all_addresses, self._transport, most_tokens)
        self._attempts = Attempts(endpoints, self.retries, self.attempt_seconds, self.connection, self.hooks)
        self._begin()

    @abc.abstractmethod
    def _transport(self, target: Target) -> _SENT:
        """How a server is asked."""

    @abc.abstractmethod
    def _begin(self) -> None:
        """Prepares what takes the steps."""

    def _require_open(self) -> None:
        if self._closed:
            raise ValueError("the client is closed; make another one")

    def _label_of(self, user: str | None) -> str | None:
        return CANARY if user is not None and in_canary(user, self.canary_share) else self.label

    def _parts(self, call: Call[Any], request_id: str) -> list[Steps]:
        """The steps of each part of a call. They share a deadline and a request ID."""
        self._require_open()
        deadline = time.monotonic() + self.timeout_seconds
        return [self._part(call, part, request_id, deadline) for part in call.parts]

    def _part(self, call: Call[Any], part: Part, request_id: str, deadline: float) -> Steps:
        labels = list(dict.fromkeys((part.label, self.label)))  # The second answers where the canary is not there.
        for label in labels:
            question, start = Predict(call.model, label, call.signature, part.inputs), time.monotonic()
            is_last = label == labels[-1]
            try:
                outputs = yield from self._attempts.steps(question, request_id, deadline, waits_for_label=is_last)
            except CallError as error:
                if is_last or not _lacks_label(error):
                    yield from self._noted(
                        question, {}, CallFacts(label, error.code, time.monotonic() - start, request_id)
                    )
                    raise
            else:
                facts = CallFacts(label, grpc.StatusCode.OK, time.monotonic() - start, request_id)
                yield from self._noted(question, outputs, facts)
                return outputs

    def _noted(self, question: Predict, outputs: Arrays, facts: CallFacts) -> Steps:
        if log := self.log:
            yield Work(lambda: log.add(question.model, question.signature, question.inputs, outputs, facts))

    def _read(self, call: Call[_ANSWER], answers: Sequence[Arrays], request_id: str) -> _ANSWER:
        """The answer of a call.

        Raises:
            CallError: several versions of a label have answered it.
        """
        for versions in call.versions(answers).values():
            if len(versions) > 1:
                message = f"versions {sorted(versions)} of {call.model} have answered parts of one call; ask again"
                raise CallError(grpc.StatusCode.ABORTED, message, request_id)
        return call.read(answers)


def is_url(target: str) -> bool:
    """Whether a target is asked by REST."""
    return target.startswith(("http://", "https://"))


def new_id() -> str:
    """An ID for a call that has none of the caller's."""
    return uuid.uuid4().hex


def _lacks_label(error: CallError) -> bool:
    """Whether a server has no version of a label: none that is loaded, or no such label at all."""
    return error.code == grpc.StatusCode.NOT_FOUND or "servable version label" in str(error)
