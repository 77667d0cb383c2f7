"""Takes the steps of calls and waits for them; the parts of a large call and hedged attempts have threads."""

import concurrent.futures
import contextvars
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from serving.client.attempts import Attempts, Send, Steps, Wait, Work
from serving.client.contract import PARALLEL_PARTS
from serving.client.transport import CallError, Cancellation, Transport

HEDGED_ATTEMPTS = 128  # At once; others wait for one of them.


class Threads:
    """Takes the steps of calls.

    Args:
        attempts: whose steps they are.
        hedge_seconds: after which a second server is asked; None for never.
    """

    def __init__(self, attempts: Attempts[Transport], hedge_seconds: float | None) -> None:
        self._attempts, self._hedge_seconds = attempts, hedge_seconds
        self._parts = ThreadPoolExecutor(PARALLEL_PARTS, "courier-part")
        self._hedged = ThreadPoolExecutor(HEDGED_ATTEMPTS, "courier-attempt")

    def close(self) -> None:
        """Ends the threads, once they have nothing to do."""
        self._parts.shutdown(wait=False)
        self._hedged.shutdown(wait=False)

    def run_all(self, parts: Sequence[Steps]) -> list[Any]:
        """The results of all, in their order. Raises the first failure in that order; what has not begun is dropped."""
        if len(parts) == 1:
            return [self.run(parts[0])]
        futures = [self._parts.submit(contextvars.copy_context().run, self.run, steps) for steps in parts]
        try:
            return [future.result() for future in futures]
        finally:
            for future in futures:
                future.cancel()

    def run(self, steps: Steps) -> Any:
        """The result of the steps."""
        try:
            step = next(steps)
            while True:
                try:
                    result = self._take(step)
                except CallError as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(result)
        except StopIteration as end:
            return end.value

    def _take(self, step: Send | Wait | Work) -> Any:
        if isinstance(step, Wait):
            return time.sleep(step.seconds)
        if isinstance(step, Work):
            return step.do()
        return self._ask(step) if self._hedge_seconds is None else self._ask_hedged(step, self._hedge_seconds)

    def _ask(self, send: Send, cancellation: Cancellation | None = None) -> Any:
        with self._attempts.watched(send) as headers:
            return send.endpoint.transport.ask(send.question, headers, send.seconds, cancellation)

    def _ask_hedged(self, send: Send, hedge_seconds: float) -> Any:
        """The first answer of an attempt and, once some seconds have passed, of another one beside it."""
        running = [self._begun(send)]
        try:
            concurrent.futures.wait([running[0][0]], hedge_seconds)
            if not running[0][0].done() and (backup := send.backup()):
                running.append(self._begun(backup))
            for future in concurrent.futures.as_completed([future for future, _ in running]):
                if not isinstance(future.exception(), CallError):
                    return future.result()
            return running[0][0].result()  # Both have failed.
        finally:
            for future, cancellation in running:
                if not future.done():
                    cancellation.cancel()

    def _begun(self, send: Send) -> tuple[Future[Any], Cancellation]:
        cancellation = Cancellation()
        return self._hedged.submit(contextvars.copy_context().run, self._ask, send, cancellation), cancellation
