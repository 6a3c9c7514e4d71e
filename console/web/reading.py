"""What blocks, on threads: questions wait for each other, and what must answer does not wait for questions.

ask      a question: as many at once as the SQL pool has connections; the others wait their turn, at most `WAIT_S`
vital    the live feed, and whether this process is ready: on threads of their own. The two connections that the
         SQL pool opens beyond its size are theirs
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Generic, TypeVar

from events.errors import Unavailable

T = TypeVar("T")

WAIT_S = 20.0
VITAL_THREADS = 3
"""One for each that is vital: the feed's next page, where history ends, and readiness. Each asks one at a time."""


class Busy(Unavailable):
    """The web process has more questions than it can ask: nothing was asked."""


class Reading:
    """The threads of one web process, for one event loop.

    Args:
        questions: most that are asked at once.
    """

    def __init__(self, questions: int) -> None:
        self._questions = ThreadPoolExecutor(questions, thread_name_prefix="eventbus-web")
        self._vital = ThreadPoolExecutor(VITAL_THREADS, thread_name_prefix="eventbus-web-vital")
        self._free = asyncio.Semaphore(questions)
        self._count = questions

    async def ask(self, call: Callable[[], T]) -> T:
        """Run a read or a change; a caller that is cancelled leaves it to end.

        Raises:
            Busy: no thread was free for `WAIT_S` seconds.
        """
        try:
            async with asyncio.timeout(WAIT_S):
                await self._free.acquire()
        except TimeoutError:
            raise Busy(
                f"All {self._count} readers of this web process have been busy for {WAIT_S:g} s: ask again later, ask "
                "less at once, or raise EVENTBUS_SQL_POOL_SIZE."
            ) from None
        future = self._questions.submit(call)
        future.add_done_callback(self._freed(asyncio.get_running_loop()))
        return await asyncio.wrap_future(future)

    async def vital(self, call: Callable[[], T]) -> T:
        """Run what must answer however many questions wait."""
        return await asyncio.wrap_future(self._vital.submit(call))

    def close(self) -> None:
        """Let what runs end, and begin nothing more; blocks."""
        self._questions.shutdown(wait=True, cancel_futures=True)
        self._vital.shutdown(wait=True, cancel_futures=True)

    def _freed(self, loop: asyncio.AbstractEventLoop) -> Callable[[Future[T]], None]:
        def release(_: Future[T]) -> None:
            with suppress(RuntimeError):  # the loop has ended before the thread
                loop.call_soon_threadsafe(self._free.release)

        return release


class Shared(Generic[T]):
    """A computation that all who ask while it runs share: asking more often costs nothing more.

    Args:
        compute: begun by whoever asks while it does not run.
    """

    def __init__(self, compute: Callable[[], Awaitable[T]]) -> None:
        self._compute = compute
        self._under_way: asyncio.Future[T] | None = None

    async def get(self) -> T:
        """Return what it computes, or raise what it raises; who is cancelled leaves it to the others."""
        if self._under_way is None or self._under_way.done():
            self._under_way = asyncio.ensure_future(self._compute())
        return await asyncio.shield(self._under_way)
