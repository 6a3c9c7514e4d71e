"""Async handlers: many at once on one event loop, each in a task that settles itself.

A Dramatiq thread only submits the attempt and goes on. The loop is the worker's own, in a thread,
or the caller's under `start_consuming`.

A task costs more than a quick handler takes. So where one has ended without ever waiting, and has left nothing on its
task, what follows it runs in the same task, for a moment. Each has a context of its own, and nobody shares the task of
one who waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from events.context import handling
from events.errors import TimeLimitExceeded
from workers.attempt import Attempt, Interrupted, described
from workers.steps import Steps, handled

CANCEL_AGAIN_S = 5.0
SHARED_S = 0.002

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


class _Work(NamedTuple):
    """What a task is to run: an attempt, what a plain call of its handler has returned, and the context of it."""

    attempt: Attempt
    begun: object
    context: contextvars.Context


class AsyncHandlers:
    """Runs attempts on a loop.

    Args:
        begin: called on the loop, at the last moment; sets `started_at`, unless the handler may not start any more.
        finished: called on the loop with each attempt that ended, its result or error set; it may submit one more.
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
        self._sharing_thread = 0  # the thread whose running task takes over what it submits; 0 where none does
        self._following: _Work | None = None
        self._shared_until = 0.0  # when tasks of this turn of the loop take over no more; 0 where none has begun

    def submit(self, attempt: Attempt, begun: object = None) -> None:
        """Start the handler on the loop; from any thread. Where it `goes_on_at_once`, when `finished` has returned.

        Args:
            begun: as `handled` takes it.

        Raises:
            RuntimeError: when the loop is closed.
        """
        if self.goes_on_at_once:
            self._sharing_thread, self._following = 0, _work(attempt, begun)
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
        """Whether the next attempt that this thread submits waits for nobody: the task that runs comes to it next."""
        return self._sharing_thread == threading.get_ident()

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
        self._loop.create_task(self._run(attempt, begun))

    async def _run(self, attempt: Attempt, begun: object) -> None:
        task = asyncio.current_task()
        name = task.get_name() if task is not None else ""
        work: _Work | None = _work(attempt, begun)
        while work is not None:
            work.attempt.task = task
            has_waited = await self._attend(work)
            work.attempt.task = None
            if not has_waited and _is_untouched(task, name) and self._may_share():
                self._sharing_thread = threading.get_ident()
            try:
                work.context.run(self._finished, work.attempt)
            except BaseException:
                if self._following is not None:
                    self._begin_task(self._following.attempt, self._following.begun)
                raise
            finally:
                self._sharing_thread = 0
                work, self._following = self._following, None

    def _may_share(self) -> bool:
        """Whether a task may take one more over: all that run in one turn of the loop share a moment for that.

        A task factory may wrap each task, as tracers do, or begin it at once: there each attempt has one of its own.
        """
        if self._loop.get_task_factory() is not None:
            return False
        if not self._shared_until:
            self._shared_until = time.monotonic() + SHARED_S
            self._loop.call_soon(self._turn_is_over)
        return time.monotonic() < self._shared_until

    def _turn_is_over(self) -> None:
        self._shared_until = 0.0

    async def _attend(self, work: _Work) -> bool:
        """Run an attempt to its end, and return whether it has waited for anything."""
        attempt, begun, context = work
        steps = Steps(self._loop, self._expire, attempt, context)
        try:
            if begun is None:
                if not context.run(self._begin, attempt):
                    raise Interrupted
            elif attempt.cancelled and attempt.task is not None:
                attempt.task.cancel()
            attempt.result = await steps.of(handled(attempt, begun))
        except asyncio.CancelledError as error:
            if attempt.expired:
                limit_s = attempt.subscription.options.time_limit
                late = TimeLimitExceeded(f"the handler ran longer than {limit_s:g} s")
                attempt.error = late.with_traceback(error.__traceback__)
            elif attempt.cancelled:
                attempt.error = Interrupted()
            else:
                attempt.error = RuntimeError(f"The handler was cancelled: {described(error)}")
        except BaseException as error:
            attempt.error = error
        return steps.has_waited


def _work(attempt: Attempt, begun: object) -> _Work:
    context = contextvars.copy_context()
    context.run(handling.set, attempt.context)
    return _Work(attempt, begun, context)


def _is_untouched(task: asyncio.Task[None] | None, name: str) -> bool:
    """Whether the handler that ended in a task has left nothing on it that the next one would take for its own.

    asyncio tells of a cancellation in two ways, and of callbacks in none that is public.
    """
    if not isinstance(task, asyncio.Task) or task.cancelling() or task.get_name() != name:
        return False
    return not (getattr(task, "_must_cancel", False) or getattr(task, "_callbacks", None))
