"""A client for the three served models, over gRPC or REST.

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
from serving.client.photos import as_png
from serving.client.request_log import CallFacts, RequestLog
from serving.client.transport import CallError, GrpcTransport, Transport

#: The codes after which another attempt may succeed: the server is starting or stopping, or its queue is full.
RETRYABLE = (grpc.StatusCode.UNAVAILABLE,)
#: A client has this many tokens for each attempt of a call. As in gRPC's own throttling, a failure takes a token, and a
#: success gives a tenth of one back. There are no retries once half of the tokens are gone: retries must not multiply
#: the load of a server that has too much already.
TOKENS_PER_ATTEMPT = 2.5
Result = TypeVar("Result")


@dataclasses.dataclass(frozen=True)
class Retries:
    """How often a call is attempted, and how long the client waits in between.

    A wait is a random time of up to `first_wait_seconds` * 2 ** attempt, and at most `longest_wait_seconds`.

    >>> 0 <= Retries(first_wait_seconds=0.1).wait_seconds(attempt=2) <= 0.4
    True
    """

    attempts: int = 4
    first_wait_seconds: float = 0.05
    longest_wait_seconds: float = 2.0

    def wait_seconds(self, attempt: int) -> float:
        """The wait after an attempt, counted from 0. It is random, so that clients do not come back together."""
        return random.uniform(0, min(self.longest_wait_seconds, self.first_wait_seconds * 2 ** min(attempt, 30)))


@dataclasses.dataclass(frozen=True)
class Photos:
    """The answer of `image_embedder`.

    Attributes:
        status: [B] `RowStatus`.
        embedding: [B, D].
        cluster_id: [B], the nearest cluster; -1 for a photo that cannot be used. An item of the catalogue may stay in
            another one, which its retrained ranker knows it by: `cluster_id` in `item_clusters.parquet`.
        codes: [B, L], one code for each level of the codebook.
        model_version: the version that has answered.
    """

    status: np.ndarray
    embedding: np.ndarray
    cluster_id: np.ndarray
    codes: np.ndarray
    model_version: int


@dataclasses.dataclass(frozen=True)
class Similar:
    """The answer of `similar_items` for one row: items with their cosines, the most similar first."""

    status: RowStatus
    items: tuple[str, ...]
    similarity: np.ndarray
    model_version: int


@dataclasses.dataclass(frozen=True)
class Scores:
    """Click probabilities [N] of the candidates, in the order of the candidates."""

    probability: np.ndarray
    model_version: int


class CourierClient:
    """Asks a server for scores, embeddings and similar items. Several threads may use one client.

    Args:
        target: host:port for gRPC, or a URL (http://host:port) for REST.
        label: which versions answer: stable or canary. None asks the highest version that is loaded.
        timeout_seconds: for a call with all its attempts. Each attempt gets the time that is left as its deadline.
        retries: how a call that ended with UNAVAILABLE is attempted again. While most calls fail, none is.
        credentials: for TLS over gRPC.
        log: where a sample of the requests and answers is kept.

    Raises (every call):
        CallError: the last attempt failed. The error has its code, and the request ID.
        ValueError: the arguments make no sense.
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
        self._transport = _transport(target, credentials)
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
        """Scores the candidates of one user, in parts where there are many. The oldest item of the history is first."""
        if not candidates:
            raise ValueError("there are no candidates to rank")
        most = contract.MAX_CANDIDATES
        parts = [candidates[start : start + most] for start in range(0, len(candidates), most)]
        context = {"user_id": _ids([user]), "history_item_ids": _histories([history])}
        requests = [{**context, "item_id": _ids(part)[None]} for part in parts]
        answers = self._all(contract.CTR_RANKER, contract.RANK, requests, request_id)
        # A server that joins requests may have padded the candidates.
        scores = [answer["probability"][0, : len(part)] for answer, part in zip(answers, parts, strict=True)]
        return Scores(np.concatenate(scores), int(answers[0]["model_version"][0]))

    def score(
        self,
        users: Sequence[str],
        histories: Sequence[Sequence[str]],
        items: Sequence[str],
        request_id: str | None = None,
    ) -> Scores:
        """Scores [B] pairs of a user (with a history) and an item, in parts where there are many."""
        if not len(users) == len(histories) == len(items) > 0:
            raise ValueError(f"{len(users)} users, {len(histories)} histories and {len(items)} items: not one of each")
        inputs = {"user_id": _ids(users), "history_item_ids": _histories(histories), "item_id": _ids(items)}
        outputs = self._in_parts(contract.CTR_RANKER, contract.DEFAULT_SIGNATURE, inputs, request_id)
        return Scores(outputs["probability"], int(outputs["model_version"][-1]))

    def embed(self, photos: Sequence[bytes], request_id: str | None = None) -> Photos:
        """Embeds photos: JPEG or PNG files, and with Pillow those that `serving.client.photos` turns into PNG.

        A photo that cannot be used has a status that says why.
        """
        if not photos:
            raise ValueError("there are no photos to embed")
        inputs = {"photos": _ids([as_png(photo) for photo in photos])}
        outputs = self._in_parts(contract.IMAGE_EMBEDDER, contract.DEFAULT_SIGNATURE, inputs, request_id)
        version = int(outputs.pop("model_version")[-1])
        return Photos(**outputs, model_version=version)

    def similar_to_items(self, items: Sequence[str], request_id: str | None = None) -> list[Similar]:
        """Finds the items that are most similar to each item."""
        return self._similar(contract.DEFAULT_SIGNATURE, {"item_id": _ids(items)}, request_id)

    def similar_to_photos(self, photos: Sequence[bytes], request_id: str | None = None) -> list[Similar]:
        """Finds the items that are most similar to each photo; see `embed`."""
        return self._similar(contract.BY_PHOTO, {"photos": _ids([as_png(photo) for photo in photos])}, request_id)

    def versions(self, model: str) -> dict[int, str]:
        """The versions of a model that the server knows, each with its state (AVAILABLE, LOADING, ...)."""
        deadline = time.monotonic() + self.timeout_seconds
        return self._retried(partial(self._transport.versions, model), uuid.uuid4().hex, deadline)

    def predict(
        self, model: str, signature: str, inputs: Mapping[str, np.ndarray], request_id: str | None = None
    ) -> dict[str, np.ndarray]:
        """Calls any signature of any model: arrays in (strings as arrays of bytes objects), arrays out."""
        return self._all(model, signature, [inputs], request_id)[0]

    def _similar(self, signature: str, inputs: Mapping[str, np.ndarray], request_id: str | None) -> list[Similar]:
        if not len(next(iter(inputs.values()))):
            raise ValueError("there is nothing to be similar to")
        outputs = self._in_parts(contract.SIMILAR_ITEMS, signature, inputs, request_id)
        rows = []
        for row, status in enumerate(outputs["status"]):
            items = tuple(item.decode() for item in outputs["item_ids"][row] if item)
            similarity = outputs["similarity"][row, : len(items)]
            rows.append(Similar(RowStatus(int(status)), items, similarity, int(outputs["model_version"][row])))
        return rows

    def _in_parts(
        self, model: str, signature: str, inputs: Mapping[str, np.ndarray], request_id: str | None
    ) -> dict[str, np.ndarray]:
        """The outputs for any number of rows: they go in parts of MOST_ROWS."""
        starts = range(0, len(next(iter(inputs.values()))), MOST_ROWS)
        parts = [{name: value[start : start + MOST_ROWS] for name, value in inputs.items()} for start in starts]
        answers = self._all(model, signature, parts, request_id)
        return {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}

    def _all(
        self, model: str, signature: str, parts: Sequence[Mapping[str, np.ndarray]], request_id: str | None
    ) -> list[dict[str, np.ndarray]]:
        """The answers to the parts of one call. They share a deadline, a request ID and a version of the model."""
        request_id, deadline = request_id or uuid.uuid4().hex, time.monotonic() + self.timeout_seconds
        answers = []
        for inputs in parts:
            attempt_once = partial(self._transport.predict, model, self.label, signature, inputs)
            start = time.monotonic()
            try:
                outputs = self._retried(attempt_once, request_id, deadline)
            except CallError as error:
                self._note(model, signature, inputs, {}, error.code, start, request_id)
                raise
            self._note(model, signature, inputs, outputs, grpc.StatusCode.OK, start, request_id)
            answers.append(outputs)
        versions = {int(version) for answer in answers for version in np.ravel(answer.get("model_version", []))}
        if len(versions) > 1:
            message = f"versions {sorted(versions)} of {model} have answered parts of one call; ask again"
            raise CallError(grpc.StatusCode.ABORTED, message, request_id)
        return answers

    def _note(
        self,
        model: str,
        signature: str,
        inputs: Mapping[str, np.ndarray],
        outputs: Mapping[str, np.ndarray],
        code: grpc.StatusCode,
        start: float,
        request_id: str,
    ) -> None:
        if self.log:
            facts = CallFacts(self.label, code, time.monotonic() - start, request_id)
            self.log.add(model, signature, inputs, outputs, facts)

    def _retried(self, attempt_once: Callable[[float, str], Result], request_id: str, deadline: float) -> Result:
        for attempt in range(self.retries.attempts):
            try:
                result = attempt_once(max(0.001, deadline - time.monotonic()), request_id)
            except CallError as error:
                if error.code not in RETRYABLE:
                    raise
                self._tokens = max(0.0, self._tokens - 1)
                wait = self.retries.wait_seconds(attempt)
                is_last = attempt + 1 == self.retries.attempts or time.monotonic() + wait >= deadline
                if is_last or self._tokens <= self._most_tokens / 2:
                    raise
                time.sleep(wait)
            else:
                self._tokens = min(self._most_tokens, self._tokens + 0.1)
                return result
        raise ValueError(f"retries.attempts must be at least 1, but is {self.retries.attempts}")


def _transport(target: str, credentials: grpc.ChannelCredentials | None) -> Transport:
    if target.startswith(("http://", "https://")):
        # Only REST needs `requests`, which takes a third of the time that this package takes to import.
        from serving.client.rest_transport import RestTransport

        return RestTransport(target)
    return GrpcTransport(target, credentials)


def _histories(histories: Sequence[Sequence[str]]) -> np.ndarray:
    """[B, 1 + longest] ids. A server that joins requests pads with the first id of each, so that is the empty id."""
    width = max(map(len, histories), default=0)
    return np.array([[b"", *map(_id, history), *[b""] * (width - len(history))] for history in histories], object)


def _ids(texts: Sequence[str | bytes]) -> np.ndarray:
    ids = np.empty(len(texts), object)
    ids[:] = [_id(text) for text in texts]
    return ids


def _id(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text
