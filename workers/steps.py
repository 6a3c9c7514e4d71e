"""A handler's steps: run in a context of its own, whosever task takes them, while a clock runs."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any

from workers.attempt import Attempt, materialized


class Steps:
    """The steps of one attempt's handler.

    Args:
        expire: called on the loop with the attempt when its time limit is over.
        context: what the handler runs in.

    Attributes:
        has_waited: whether it gave the loop back before its end.
    """

    __slots__ = ("_attempt", "_context", "_expire", "_loop", "has_waited")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        expire: Callable[[Attempt], None],
        attempt: Attempt,
        context: contextvars.Context,
    ) -> None:
        self._loop, self._expire = loop, expire
        self._attempt, self._context = attempt, context
        self.has_waited = False

    @types.coroutine
    def of(self, coroutine: Coroutine[Any, Any, object]) -> Generator[Any, Any, object]:
        """Return what it returns; what it waits for is passed on to the task, and what the task throws to it.

        Its time limit counts from here, and is set where it first waits: before, nothing could interrupt it.
        """
        began_at = self._loop.time()
        limit: asyncio.TimerHandle | None = None
        step: Callable[[Any], Any] = coroutine.send
        argument: Any = None
        try:
            while True:
                try:
                    awaited = self._context.run(step, argument)
                except StopIteration as end:
                    return end.value
                if limit is None:
                    expires_at = began_at + self._attempt.subscription.options.time_limit
                    self.has_waited, limit = True, self._loop.call_at(expires_at, self._expire, self._attempt)
                try:
                    step, argument = coroutine.send, (yield awaited)
                except BaseException as error:
                    step, argument = coroutine.throw, error
        finally:
            if limit is not None:
                limit.cancel()


async def handled(attempt: Attempt, begun: object) -> object:
    """Return what the handler returns, its span the current one.

    Args:
        begun: the awaitable or async generator that a plain call has already returned; None calls the handler.
    """
    if attempt.trace is not None:
        attempt.trace.enter()
    return await collected(begun if begun is not None else attempt.call())


async def collected(result: object) -> object:
    """Await what a handler returned, or gather what its async generator yields."""
    if type(result) is types.CoroutineType:  # nearly always, and soon said
        return materialized(await result)
    if inspect.isasyncgen(result):
        return [event async for event in result]
    if inspect.isawaitable(result):
        return materialized(await result)
    return materialized(result)
