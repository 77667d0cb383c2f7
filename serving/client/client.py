"""A client for the three served models, over gRPC or REST.

with CourierClient("localhost:8500") as client:
    scores = client.rank("u1", history=["i1", "i2"], candidates=["i7", "i8", "i9"])
"""

import time
from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np

from serving.client import calls
from serving.client.calls import Call, Photos, Scores, Similar
from serving.client.client_base import ClientBase, is_url, new_id
from serving.client.connection import Target
from serving.client.grpc_transport import GrpcTransport
from serving.client.retries import Retries
from serving.client.threads import Threads
from serving.client.transport import Transport, Versions

__all__ = ["CourierClient", "Photos", "Retries", "Scores", "Similar"]
_ANSWER = TypeVar("_ANSWER")


class CourierClient(ClientBase[Transport]):
    """Asks servers for scores, embeddings and similar items. Threads may share a client, and a fork may copy it.

    The arguments are those of `ClientBase`.

    Raises (every call):
        CallError: the last attempt failed. The error has its code, and the request ID.
        ValueError: the arguments make no sense, or the client is closed.
    """

    def __enter__(self) -> "CourierClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connections."""
        self._closed = True
        self._threads.close()
        for transport in self._attempts.endpoints.transports():
            transport.close()

    def rank(
        self,
        user: str,
        history: Sequence[str],
        candidates: Sequence[str],
        request_id: str | None = None,
        context: Mapping[str, str] | None = None,
    ) -> Scores:
        """Scores the candidates of one user, in parts where there are many. The oldest item of the history is first.

        A ranker with context columns needs `context`: column -> its value as the log has it, "" where it is not known.
        """
        return self._answer(calls.rank(self._label_of, user, history, candidates, context), request_id)

    def score(
        self,
        users: Sequence[str],
        histories: Sequence[Sequence[str]],
        items: Sequence[str],
        request_id: str | None = None,
        context: Mapping[str, Sequence[str]] | None = None,
    ) -> Scores:
        """Scores [B] pairs of a user (with a history) and an item, in parts where there are many.

        On `context` see `rank`; it has B values of each column.
        """
        return self._answer(calls.score(self._label_of, users, histories, items, context), request_id)

    def embed(self, photos: Sequence[bytes], request_id: str | None = None, user: str | None = None) -> Photos:
        """Embeds photos: JPEG or PNG files, and with Pillow those that `serving.client.photos` turns into PNG.

        A photo that cannot be used has a status that says why. Only with a user may the canary answer.
        """
        return self._answer(calls.embed(self._label_of, photos, user), request_id)

    def similar_to_items(
        self, items: Sequence[str], request_id: str | None = None, user: str | None = None
    ) -> list[Similar]:
        """Finds the items that are most similar to each item; on `user` see `embed`."""
        return self._answer(calls.similar_to_items(self._label_of, items, user), request_id)

    def similar_to_photos(
        self, photos: Sequence[bytes], request_id: str | None = None, user: str | None = None
    ) -> list[Similar]:
        """Finds the items that are most similar to each photo; see `embed`."""
        return self._answer(calls.similar_to_photos(self._label_of, photos, user), request_id)

    def predict(
        self,
        model: str,
        signature: str,
        inputs: Mapping[str, np.ndarray],
        request_id: str | None = None,
        user: str | None = None,
    ) -> Mapping[str, np.ndarray]:
        """Calls any signature of any model: arrays in (strings as arrays of bytes objects), arrays out.

        On `user` see `embed`.
        """
        return self._answer(calls.predict(self._label_of, model, signature, inputs, user), request_id)

    def versions(self, model: str) -> dict[int, str]:
        """The versions of a model that a server knows, each with its state (AVAILABLE, LOADING, ...)."""
        self._require_open()
        deadline = time.monotonic() + self.timeout_seconds
        return self._threads.run(self._attempts.steps(Versions(model), new_id(), deadline))

    def _answer(self, call: Call[_ANSWER], request_id: str | None) -> _ANSWER:
        request_id = request_id or new_id()
        answers = self._threads.run_all(self._parts(call, request_id))
        return self._read(call, answers, request_id)

    def _transport(self, target: Target) -> Transport:
        if is_url(target.address):
            # Only REST needs `requests`, which takes a third of the time that this package takes to import.
            from serving.client.rest_transport import RestTransport

            return RestTransport(target, self.connection)
        return GrpcTransport(target, self.connection)

    def _begin(self) -> None:
        self._threads = Threads(self._attempts, self.hedge_seconds)
