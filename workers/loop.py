"""Async handlers: many at once on one event loop, each a task that settles itself.

A Dramatiq thread only submits the attempt and goes on. The loop is the worker's own, in a thread,
or the caller's under `start_consuming`.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import logging
import threading
from collections.abc import Callable

from events.context import handling
from events.errors import TimeLimitExceeded
from workers.attempt import Attempt, Interrupted, materialized

CANCEL_AGAIN_S = 5.0

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


class AsyncHandlers:
    """Runs attempts on a loop.

    Args:
        begin: called on the loop, at the last moment; sets `started_at`, unless the handler may not start any more.
        finished: called on the loop with each attempt that ended, its result or error set.
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

    def submit(self, attempt: Attempt, begun: object = None) -> None:
        """Start the handler on the loop; from any thread.

        Args:
            begun: the awaitable or async generator that a plain call has already returned.

        Raises:
            RuntimeError: when the loop is closed.
        """
        if asyncio._get_running_loop() is self._loop and self._loop.get_task_factory() is None:
            self._start(attempt, begun)  # an eager factory would run it here, and so on without end
        else:
            self._loop.call_soon_threadsafe(self._start, attempt, begun)

    def cancel(self, attempt: Attempt) -> None:
        """Cancel the attempt's task until it ends, if it runs; from any thread."""
        attempt.cancelled = True
        with contextlib.suppress(RuntimeError):  # the loop has ended, and its tasks with it
            self._loop.call_soon_threadsafe(self._cancel, attempt)

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

    def _start(self, attempt: Attempt, begun: object) -> None:
        context = contextvars.copy_context()
        context.run(handling.set, attempt.context)
        self._loop.create_task(self._run(attempt, begun), context=context)

    async def _run(self, attempt: Attempt, begun: object) -> None:
        attempt.task = asyncio.current_task()
        limit_s = attempt.subscription.options.time_limit
        limit = self._loop.call_later(limit_s, self._expire, attempt)
        try:
            if begun is None:
                if not self._begin(attempt):
                    raise Interrupted
            elif attempt.cancelled and attempt.task is not None:
                attempt.task.cancel()
            if attempt.trace is not None:
                attempt.trace.enter()
            attempt.result = await collected(begun if begun is not None else attempt.call())
        except asyncio.CancelledError as error:
            if attempt.expired:
                late = TimeLimitExceeded(f"the handler ran longer than {limit_s:g} s")
                attempt.error = late.with_traceback(error.__traceback__)
            elif attempt.cancelled:
                attempt.error = Interrupted()
            else:
                attempt.error = RuntimeError(f"The handler was cancelled: {error!r}")
        except BaseException as error:
            attempt.error = error
        finally:
            limit.cancel()
        self._finished(attempt)


async def collected(result: object) -> object:
    """Await what a handler returned, or gather what its async generator yields."""
    if inspect.isasyncgen(result):
        return [event async for event in result]
    if inspect.isawaitable(result):
        return materialized(await result)
    return materialized(result)
