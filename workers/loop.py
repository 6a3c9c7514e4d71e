"""Async handlers: many at once on one event loop, each in a task that settles itself.

A Dramatiq thread only submits the attempt and goes on. The loop is the worker's own, in a thread,
or the caller's under `start_consuming`.

A task costs more than a quick handler takes. So where one has ended without ever waiting, what follows it runs in the
same task, for a moment; each has a context of its own, and whoever waits has the task to the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import logging
import threading
import time
import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any, NamedTuple

from events.context import handling
from events.errors import TimeLimitExceeded
from workers.attempt import Attempt, Interrupted, materialized

CANCEL_AGAIN_S = 5.0
SLICE_S = 0.002

log = logging.getLogger("eventbus.worker")


class LoopThread:
    """An event loop of its own, in a thread of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="eventbus-loop", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping = True
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(5)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        while not self._stopping:
            try:
                self.loop.run_forever()
            except BaseException:  # a task of a handler called sys.exit: the worker goes on
                log.exception("A task on the handlers' event loop tried to end it.")
        self.loop.close()


class _Start(NamedTuple):
    """What is to run in a task: an attempt, what a plain call of its handler has returned, and the context of it."""

    attempt: Attempt
    begun: object
    context: contextvars.Context


class AsyncHandlers:
    """Runs attempts on a loop.

    Args:
        begin: called on the loop, at the last moment; sets `started_at`, unless the handler may not start any more.
        finished: called on the loop with each attempt that ended, its result or error set; may submit one more.
        cancel_again_s: how long a cancelled handler may clean up, or ignore that it was cancelled, before it is
            cancelled again.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        begin: Callable[[Attempt], bool],
        finished: Callable[[Attempt], None],
        cancel_again_s: float = CANCEL_AGAIN_S,
    ) -> None:
        self._loop = loop
        self._cancel_again_s = cancel_again_s
        self._begin = begin
        self._finished = finished
        self._has_room = 0  # the thread whose running task takes over what it submits; 0 where none does
        self._following: _Start | None = None

    def submit(self, attempt: Attempt, begun: object = None) -> None:
        """Start the handler on the loop; from any thread.

        Args:
            begun: the awaitable or async generator that a plain call has already returned.

        Raises:
            RuntimeError: when the loop is closed.
        """
        if self.goes_on_at_once:
            self._has_room, self._following = 0, _start(attempt, begun)
        elif asyncio._get_running_loop() is self._loop and self._loop.get_task_factory() is None:
            self._begin_task(attempt, begun)  # an eager factory would run it here, and so on without end
        else:
            self._loop.call_soon_threadsafe(self._begin_task, attempt, begun)

    def cancel(self, attempt: Attempt) -> None:
        """Cancel the attempt's task until it ends, if it runs; from any thread."""
        attempt.cancelled = True
        with contextlib.suppress(RuntimeError):  # the loop has ended, and its tasks with it
            self._loop.call_soon_threadsafe(self._cancel, attempt)

    @property
    def goes_on_at_once(self) -> bool:
        """Whether what this thread submits now waits for nobody: the task that runs comes to it next."""
        return self._has_room == threading.get_ident()

    @property
    def has_ended(self) -> bool:
        """Whether the loop is closed: nothing on it will ever finish."""
        return self._loop.is_closed()

    def _cancel(self, attempt: Attempt) -> None:
        """Cancel, and again: one that a handler swallows would leave it running for as long as it likes.

        A task that is cancelled before its first step ends without a word: it would hold its delivery and its
        place for ever. Until then it has no task here, and finds `cancelled` when it begins.
        """
        if attempt.task is not None and not attempt.task.done():
            attempt.task.cancel()
            self._loop.call_later(self._cancel_again_s, self._cancel, attempt)

    def _expire(self, attempt: Attempt) -> None:
        if not attempt.cancelled:
            attempt.expired = True
            self._cancel(attempt)

    def _begin_task(self, attempt: Attempt, begun: object) -> None:
        self._loop.create_task(self._run(_start(attempt, begun)))

    async def _run(self, start: _Start | None) -> None:
        task = asyncio.current_task()
        assert task is not None
        until = time.monotonic() + SLICE_S
        while start is not None:
            start.attempt.task = task
            has_waited = await self._attend(start)
            start.attempt.task = None
            # who was cancelled leaves a mark on the task, which others would take for their own
            if not has_waited and not task.cancelling() and time.monotonic() < until:
                self._has_room = threading.get_ident()
            try:
                start.context.run(self._finished, start.attempt)
            finally:
                self._has_room = 0
                start, self._following = self._following, None

    async def _attend(self, start: _Start) -> bool:
        """Run an attempt to its end, and return whether it has waited for anything."""
        attempt, begun, context = start
        steps = _Steps(self._loop, self._expire, attempt, context)
        try:
            if begun is None:
                if not self._begin(attempt):
                    raise Interrupted
            elif attempt.cancelled and attempt.task is not None:
                attempt.task.cancel()
            attempt.result = await steps.of(_handled(attempt, begun))
        except asyncio.CancelledError as error:
            if attempt.expired:
                limit_s = attempt.subscription.options.time_limit
                late = TimeLimitExceeded(f"the handler ran longer than {limit_s:g} s")
                attempt.error = late.with_traceback(error.__traceback__)
            elif attempt.cancelled:
                attempt.error = Interrupted()
            else:
                attempt.error = RuntimeError(f"The handler was cancelled: {error!r}")
        except BaseException as error:
            attempt.error = error
        return steps.has_waited


class _Steps:
    """Runs the coroutine of an attempt in a context that is not its task's, while a clock runs.

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


def _start(attempt: Attempt, begun: object) -> _Start:
    context = contextvars.copy_context()
    context.run(handling.set, attempt.context)
    return _Start(attempt, begun, context)


async def _handled(attempt: Attempt, begun: object) -> object:
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
