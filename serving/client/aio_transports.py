"""Sends requests with asyncio: by gRPC's own, by REST in threads."""

import asyncio
import contextvars
from collections.abc import Mapping
from concurrent.futures import Executor
from functools import partial
from typing import Any

import grpc
import grpc.aio

from serving.client.connection import Connection, Target
from serving.client.grpc_messages import answer_in, call_error, callables, message_of
from serving.client.transport import Cancellation, Question, Transport, request_id_of


class AioGrpcTransport:
    """Sends requests to one server by gRPC. It belongs to the event loop in which it is made."""

    def __init__(self, target: Target, connection: Connection) -> None:
        options, credentials = connection.grpc_options(target), connection.grpc_credentials()
        if credentials:
            self._channel = grpc.aio.secure_channel(target.address, credentials, options)
        else:
            self._channel = grpc.aio.insecure_channel(target.address, options)
        self._methods = callables(self._channel)

    async def ask(self, question: Question, headers: Mapping[str, str], timeout_seconds: float) -> Any:
        method, message, request_id = self._methods[type(question)], message_of(question), request_id_of(headers)
        try:
            response = await method(message, timeout=timeout_seconds, metadata=tuple(headers.items()))
        except grpc.RpcError as error:
            raise call_error(error, request_id) from error
        return answer_in(response, request_id)

    async def close(self) -> None:
        await self._channel.close()


class AioInThreads:
    """Sends requests by a transport that waits, in the threads of a pool."""

    def __init__(self, transport: Transport, pool: Executor) -> None:
        self._transport, self._pool = transport, pool

    async def ask(self, question: Question, headers: Mapping[str, str], timeout_seconds: float) -> Any:
        cancellation = Cancellation()
        ask = partial(self._transport.ask, question, headers, timeout_seconds, cancellation)
        context = contextvars.copy_context()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, context.run, ask)
        except asyncio.CancelledError:
            cancellation.cancel()
            raise

    async def close(self) -> None:
        self._transport.close()
