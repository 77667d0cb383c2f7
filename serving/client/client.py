"""A client for the three models, over gRPC or REST.

with CourierClient("localhost:8500") as client:
    scores = client.rank("u1", history=["i1", "i2"], candidates=["i7", "i8", "i9"])
"""

import dataclasses
import random
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

import grpc
import numpy as np

from serving.client import contract
from serving.client.contract import MOST_ROWS, RowStatus
from serving.client.request_log import RequestLog
from serving.client.rest_transport import RestTransport
from serving.client.transport import CallError, GrpcTransport, Transport

#: What may go well at the next attempt: the server is starting, stopping, or its queue is full.
RETRYABLE = (grpc.StatusCode.UNAVAILABLE,)
#: Tokens of a client per attempt of a call. As gRPC's own throttling has it, a failure takes one and a success gives a
#: tenth of one, and where half are gone nothing is tried again: retries must not multiply the load of a server that has
#: too much already.
TOKENS_PER_ATTEMPT = 2.5
Result = TypeVar("Result")


@dataclasses.dataclass(frozen=True)
class Retries:
    """How often, and how long to wait: a random time up to `first_wait_seconds` * 2 ** attempt, at most `longest`."""

    attempts: int = 4
    first_wait_seconds: float = 0.05
    longest_wait_seconds: float = 2.0

    def wait_seconds(self, attempt: int) -> float:
        """Before attempt number `attempt` + 1, counted from 0. Random, so that clients do not come back together."""
        return random.uniform(0, min(self.longest_wait_seconds, self.first_wait_seconds * 2 ** min(attempt, 30)))


@dataclasses.dataclass(frozen=True)
class Photos:
    """What `image_embedder` says: status [B] `RowStatus`, embedding [B, D], cluster_id [B], codes [B, L]."""

    status: np.ndarray
    embedding: np.ndarray
    cluster_id: np.ndarray
    codes: np.ndarray
    model_version: int


@dataclasses.dataclass(frozen=True)
class Similar:
    """What `similar_items` says of one row: the items, the most similar first, with their cosines."""

    status: RowStatus
    items: tuple[str, ...]
    similarity: np.ndarray
    model_version: int


@dataclasses.dataclass(frozen=True)
class Scores:
    """Click probabilities [N] of the candidates, in their order."""

    probability: np.ndarray
    model_version: int


class CourierClient:
    """Asks a server for scores, embeddings and similar items. May be used from several threads.

    Args:
        target: host:port for gRPC; a URL (http://host:port) for REST.
        label: of the versions to ask: stable or canary; None for the highest version that is loaded.
        timeout_seconds: of a call, all its attempts together; each attempt gets what is left as its deadline.
        retries: of UNAVAILABLE alone, and none while most calls fail.
        credentials: for TLS over gRPC.
        log: that gets a sample of what is asked and answered.

    Raises (by every call):
        CallError: with the code of the last attempt, and the request ID.
        ValueError: what is asked makes no sense.
    """

    def __init__(
        self,
        target: str,
        *,
        label: str | None = "stable",
        timeout_seconds: float = 1.0,
        retries: Retries = Retries(),  # noqa: B008 (frozen)
        credentials: grpc.ChannelCredentials | None = None,
        log: RequestLog | None = None,
    ) -> None:
        is_url = target.startswith(("http://", "https://"))
        self._transport: Transport = RestTransport(target) if is_url else GrpcTransport(target, credentials)
        self.label, self.timeout_seconds, self.retries, self.log = label, timeout_seconds, retries, log
        self._most_tokens = self._tokens = TOKENS_PER_ATTEMPT * retries.attempts

    def __enter__(self) -> "CourierClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection."""
        self._transport.close()

    def rank(
        self, user: str, history: Sequence[str], candidates: Sequence[str], request_id: str | None = None
    ) -> Scores:
        """Scores the candidates of one user; history oldest first. Any number of candidates: they go in parts."""
        if not candidates:
            raise ValueError("there are no candidates to rank")
        most = contract.MAX_CANDIDATES
        parts = [candidates[start : start + most] for start in range(0, len(candidates), most)]
        whose = {"user_id": _ids([user]), "history_item_ids": _histories([history])}
        asked = [{**whose, "item_id": _ids(part)[None]} for part in parts]
        found = self._all(contract.CTR_RANKER, contract.RANK, asked, request_id)
        # A server that joins requests may have padded the candidates.
        scores = [one["probability"][0, : len(part)] for one, part in zip(found, parts, strict=True)]
        return Scores(np.concatenate(scores), int(found[0]["model_version"][0]))

    def score(
        self,
        users: Sequence[str],
        histories: Sequence[Sequence[str]],
        items: Sequence[str],
        request_id: str | None = None,
    ) -> Scores:
        """Scores pairs, [B] of each; any B: they go in parts of MOST_ROWS."""
        if not len(users) == len(histories) == len(items) > 0:
            raise ValueError(f"{len(users)} users, {len(histories)} histories and {len(items)} items: not one of each")
        inputs = {"user_id": _ids(users), "history_item_ids": _histories(histories), "item_id": _ids(items)}
        found = self._in_parts(contract.CTR_RANKER, contract.DEFAULT_SIGNATURE, inputs, request_id)
        return Scores(found["probability"], int(found["model_version"][-1]))

    def embed(self, photos: Sequence[bytes], request_id: str | None = None) -> Photos:
        """Embeds JPEG or PNG files; one that cannot be used has a status of its own."""
        if not photos:
            raise ValueError("there are no photos to embed")
        found = self._in_parts(
            contract.IMAGE_EMBEDDER, contract.DEFAULT_SIGNATURE, {"photos": _ids(photos)}, request_id
        )
        version = int(found.pop("model_version")[-1])
        return Photos(**found, model_version=version)

    def similar_to_items(self, items: Sequence[str], request_id: str | None = None) -> list[Similar]:
        """The items most similar to each."""
        return self._similar(contract.DEFAULT_SIGNATURE, {"item_id": _ids(items)}, request_id)

    def similar_to_photos(self, photos: Sequence[bytes], request_id: str | None = None) -> list[Similar]:
        """The items most similar to each JPEG or PNG file."""
        return self._similar(contract.BY_PHOTO, {"photos": _ids(photos)}, request_id)

    def versions(self, model: str) -> dict[int, str]:
        """Version -> state, as the server has it."""
        deadline = time.monotonic() + self.timeout_seconds
        return self._retried(partial(self._transport.versions, model), uuid.uuid4().hex, deadline)

    def predict(
        self, model: str, signature: str, inputs: Mapping[str, np.ndarray], request_id: str | None = None
    ) -> dict[str, np.ndarray]:
        """Any signature of any model: arrays in (strings as arrays of bytes objects), arrays out."""
        return self._all(model, signature, [inputs], request_id)[0]

    def _similar(self, signature: str, inputs: Mapping[str, np.ndarray], request_id: str | None) -> list[Similar]:
        if not len(next(iter(inputs.values()))):
            raise ValueError("there is nothing to be similar to")
        found = self._in_parts(contract.SIMILAR_ITEMS, signature, inputs, request_id)
        answers = []
        for row, status in enumerate(found["status"]):
            items = tuple(item.decode() for item in found["item_ids"][row] if item)
            similarity = found["similarity"][row, : len(items)]
            answers.append(Similar(RowStatus(int(status)), items, similarity, int(found["model_version"][row])))
        return answers

    def _in_parts(
        self, model: str, signature: str, inputs: Mapping[str, np.ndarray], request_id: str | None
    ) -> dict[str, np.ndarray]:
        starts = range(0, len(next(iter(inputs.values()))), MOST_ROWS)
        parts = [{name: value[start : start + MOST_ROWS] for name, value in inputs.items()} for start in starts]
        found = self._all(model, signature, parts, request_id)
        return {name: np.concatenate([part[name] for part in found]) for name in found[0]}

    def _all(
        self, model: str, signature: str, parts: Sequence[Mapping[str, np.ndarray]], request_id: str | None
    ) -> list[dict[str, np.ndarray]]:
        """The answers to the parts of one call: one deadline, one request ID, one version of the model."""
        request_id, deadline = request_id or uuid.uuid4().hex, time.monotonic() + self.timeout_seconds
        found = []
        for inputs in parts:
            attempt_once = partial(self._transport.predict, model, self.label, signature, inputs)
            outputs = self._retried(attempt_once, request_id, deadline)
            if self.log:
                self.log.add(model, signature, inputs, outputs)
            found.append(outputs)
        versions = sorted({int(version) for one in found for version in np.ravel(one.get("model_version", []))})
        if len(versions) > 1:
            message = f"versions {versions} of {model} have answered parts of one call; ask again"
            raise CallError(grpc.StatusCode.ABORTED, message, request_id)
        return found

    def _retried(self, attempt_once: Callable[[float, str], Result], request_id: str, deadline: float) -> Result:
        for attempt in range(self.retries.attempts):
            try:
                found = attempt_once(max(0.001, deadline - time.monotonic()), request_id)
            except CallError as error:
                if error.code not in RETRYABLE:
                    raise
                self._tokens = max(0.0, self._tokens - 1)
                wait = self.retries.wait_seconds(attempt)
                last = attempt + 1 == self.retries.attempts or time.monotonic() + wait >= deadline
                if last or self._tokens <= self._most_tokens / 2:
                    raise
                time.sleep(wait)
            else:
                self._tokens = min(self._most_tokens, self._tokens + 0.1)
                return found
        raise ValueError(f"retries.attempts must be at least 1, but is {self.retries.attempts}")


def _id(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


def _histories(histories: Sequence[Sequence[str]]) -> np.ndarray:
    """[B, 1 + longest] ids. A server that joins requests pads with the first id of each: that must be the empty one."""
    width = max(map(len, histories), default=0)
    return np.array([[b"", *map(_id, history), *[b""] * (width - len(history))] for history in histories], object)


def _ids(texts: Sequence[str | bytes]) -> np.ndarray:
    found = np.empty(len(texts), object)
    found[:] = [_id(text) for text in texts]
    return found
