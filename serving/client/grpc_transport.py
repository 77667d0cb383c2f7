"""Sends requests by gRPC, and waits for their answers."""

from collections.abc import Mapping
from typing import Any

import grpc

from serving.client.connection import Connection, Target
from serving.client.grpc_messages import answer_in, call_error, callables, is_lost, message_of
from serving.client.transport import ANOTHER_WAS_QUICKER, CallError, Cancellation, Question, request_id_of


class GrpcTransport:
    """Sends requests to one server by gRPC."""

    def __init__(self, target: Target, connection: Connection) -> None:
        self._target, self._connection = target, connection
        self._open()

    def ask(
        self,
        question: Question,
        headers: Mapping[str, str],
        timeout_seconds: float,
        cancellation: Cancellation | None = None,
    ) -> Any:
        method, message, request_id = self._methods[type(question)], message_of(question), request_id_of(headers)
        sent = {"timeout": timeout_seconds, "metadata": list(headers.items())}
        try:
            if cancellation is None:
                response = method(message, **sent)
            else:
                call = method.future(message, **sent)
                cancellation.on_cancel(call.cancel)
                response = call.result()
        except grpc.RpcError as error:
            if is_lost(error):
                self._open()
            raise call_error(error, request_id) from error
        except grpc.FutureCancelledError as error:
            raise CallError(grpc.StatusCode.CANCELLED, ANOTHER_WAS_QUICKER, request_id) from error
        return answer_in(response, request_id)

    def close(self) -> None:
        self._channel.close()

    def _open(self) -> None:
        options, credentials = self._connection.grpc_options(self._target), self._connection.grpc_credentials()
        if credentials:
            self._channel = grpc.secure_channel(self._target.address, credentials, options)
        else:
            self._channel = grpc.insecure_channel(self._target.address, options)
        self._methods = callables(self._channel)
