"""Takes the steps of calls in the tasks of asyncio."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import Executor
from typing import Any

from serving.client.attempts import Attempts, Send, Steps, Wait, Work
from serving.client.contract import PARALLEL_PARTS
from serving.client.transport import AioTransport, CallError


class Tasks:
    """Takes the steps of calls.

    Args:
        attempts: whose steps they are.
        hedge_seconds: after which a second server is asked; None for never.
        pool: threads for what would hold up the event loop.
    """

    def __init__(self, attempts: Attempts[AioTransport], hedge_seconds: float | None, pool: Executor) -> None:
        self._attempts, self._hedge_seconds, self._pool = attempts, hedge_seconds, pool

    async def run_all(self, parts: Sequence[Steps]) -> list[Any]:
        """The results of all, in their order. The first failure is raised, and ends the others."""
        if len(parts) == 1:
            return [await self.run(parts[0])]
        free = asyncio.Semaphore(PARALLEL_PARTS)

        async def run(steps: Steps) -> Any:
            async with free:
                return await self.run(steps)

        tasks = [asyncio.ensure_future(run(steps)) for steps in parts]
        try:
            return await asyncio.gather(*tasks)
        finally:
            await _ended(tasks)

    async def run(self, steps: Steps) -> Any:
        """The result of the steps."""
        try:
            step = next(steps)
            while True:
                try:
                    result = await self._take(step)
                except CallError as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(result)
        except StopIteration as end:
            return end.value

    async def _take(self, step: Send | Wait | Work) -> Any:
        if isinstance(step, Wait):
            return await asyncio.sleep(step.seconds)
        if isinstance(step, Work):
            return await asyncio.get_running_loop().run_in_executor(self._pool, step.do)
        return await (self._ask(step) if self._hedge_seconds is None else self._ask_hedged(step, self._hedge_seconds))

    async def _ask(self, send: Send) -> Any:
        with self._attempts.watched(send) as headers:
            return await send.endpoint.transport.ask(send.question, headers, send.seconds)

    async def _ask_hedged(self, send: Send, hedge_seconds: float) -> Any:
        """The first answer of an attempt and, once some seconds have passed, of another one beside it."""
        tasks = [asyncio.ensure_future(self._ask(send))]
        try:
            await asyncio.wait(tasks, timeout=hedge_seconds)
            if not tasks[0].done() and (backup := send.backup()):
                tasks.append(asyncio.ensure_future(self._ask(backup)))
            for first in asyncio.as_completed(tasks):
                try:
                    return await first
                except CallError:
                    continue
            return await tasks[0]  # All have failed.
        finally:
            await _ended(tasks)


async def _ended(tasks: Sequence["asyncio.Future[Any]"]) -> None:
    """Cancels what still runs, and waits for it."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
