"""The client for asyncio.

async with AsyncCourierClient("localhost:8500") as client:
    scores = await client.rank("u1", history=["i1", "i2"], candidates=["i7", "i8", "i9"])
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import numpy as np

from serving.client import calls
from serving.client.aio_transports import AioGrpcTransport, AioInThreads
from serving.client.calls import Call, Photos, Scores, Similar
from serving.client.client_base import ClientBase, is_url, new_id
from serving.client.connection import Target
from serving.client.tasks import Tasks
from serving.client.transport import AioTransport, Versions

THREADS = 128  # By REST as many requests may be under way; they begin with the first.
_ANSWER = TypeVar("_ANSWER")


class AsyncCourierClient(ClientBase[AioTransport]):
    """Asks servers for scores, embeddings and similar items. It belongs to the event loop of its first call.

    The arguments are those of `ClientBase`, the methods and their errors those of `CourierClient`. A task that is
    cancelled ends its requests.
    """

    async def __aenter__(self) -> "AsyncCourierClient":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends the connections."""
        self._closed = True
        await asyncio.gather(*(transport.close() for transport in self._attempts.endpoints.transports()))
        self._pool.shutdown(wait=False)

    async def rank(
        self,
        user: str,
        history: Sequence[str],
        candidates: Sequence[str],
        request_id: str | None = None,
        context: Mapping[str, str] | None = None,
    ) -> Scores:
        """See `CourierClient.rank`."""
        return await self._answer(calls.rank(self._label_of, user, history, candidates, context), request_id)

    async def score(
        self,
        users: Sequence[str],
        histories: Sequence[Sequence[str]],
        items: Sequence[str],
        request_id: str | None = None,
        context: Mapping[str, Sequence[str]] | None = None,
    ) -> Scores:
        """See `CourierClient.score`."""
        return await self._answer(calls.score(self._label_of, users, histories, items, context), request_id)

    async def embed(self, photos: Sequence[bytes], request_id: str | None = None, user: str | None = None) -> Photos:
        """See `CourierClient.embed`."""
        call = await self._aside(partial(calls.embed, self._label_of, photos, user))
        return await self._answer(call, request_id)

    async def similar_to_items(
        self, items: Sequence[str], request_id: str | None = None, user: str | None = None
    ) -> list[Similar]:
        """See `CourierClient.similar_to_items`."""
        return await self._answer(calls.similar_to_items(self._label_of, items, user), request_id)

    async def similar_to_photos(
        self, photos: Sequence[bytes], request_id: str | None = None, user: str | None = None
    ) -> list[Similar]:
        """See `CourierClient.similar_to_photos`."""
        call = await self._aside(partial(calls.similar_to_photos, self._label_of, photos, user))
        return await self._answer(call, request_id)

    async def predict(
        self,
        model: str,
        signature: str,
        inputs: Mapping[str, np.ndarray],
        request_id: str | None = None,
        user: str | None = None,
    ) -> Mapping[str, np.ndarray]:
        """See `CourierClient.predict`."""
        return await self._answer(calls.predict(self._label_of, model, signature, inputs, user), request_id)

    async def versions(self, model: str) -> dict[int, str]:
        """See `CourierClient.versions`."""
        self._require_open()
        deadline = time.monotonic() + self.timeout_seconds
        return await self._tasks.run(self._attempts.steps(Versions(model), new_id(), deadline))

    async def _answer(self, call: Call[_ANSWER], request_id: str | None) -> _ANSWER:
        request_id = request_id or new_id()
        answers = await self._tasks.run_all(self._parts(call, request_id))
        return self._read(call, answers, request_id)

    async def _aside(self, make: Callable[[], Call[_ANSWER]]) -> Call[_ANSWER]:
        """Makes a call in a thread: to turn photos into PNG would hold up the event loop."""
        self._require_open()
        return await asyncio.get_running_loop().run_in_executor(self._pool, make)

    def _transport(self, target: Target) -> AioTransport:
        if is_url(target.address):
            from serving.client.rest_transport import RestTransport  # See `CourierClient`.

            return AioInThreads(RestTransport(target, self.connection), self._pool)
        return AioGrpcTransport(target, self.connection)

    def _begin(self) -> None:
        self._pool = ThreadPoolExecutor(THREADS, "courier-rest")
        self._tasks = Tasks(self._attempts, self.hedge_seconds, self._pool)
