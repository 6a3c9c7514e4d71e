"""Publishing from an event loop without leaving it: the common case of `Sender`, at a third of its cost.

    await bus.publish(event) ──┐
    await bus.publish(event) ──┼── queue, in order ──> one script call on the loop's own link
                               │                          │ any answer but the common one
                               └───────────────<──────────┴──> the sender's thread, which tries again

Events go out in the order in which they were submitted, one call at a time. Whatever is not answered at once and
plainly (a first connection, routes to write, a lost epoch, a script that Redis has forgotten, a connection that
failed) is the thread's, which knows what to do; meanwhile nothing overtakes it. Publishing again is safe.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any

import redis

from events.due import Due
from events.event import Event
from events.link import Link
from events.publisher import Answer, Prepared, Publisher
from events.sender import Request, taken

Slowly = Callable[[Sequence[Event], str, "Due | None"], "Future[list[Answer]]"]


class LoopSender:
    """For one loop, and used there only.

    Args:
        publisher: what to publish with; None while the thread has to be asked.
        slowly: submits to the sender's thread.
        open_link: connects.
    """

    def __init__(
        self, publisher: Callable[[], Publisher | None], slowly: Slowly, open_link: Callable[[], Awaitable[Link]]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._publisher = publisher
        self._slowly = slowly
        self._open_link = open_link
        self._requests: deque[Request[asyncio.Future[list[Answer]]]] = deque()
        self._is_busy = False
        self._with_thread = 0  # batches that it has and has not answered
        self._flushing: list[asyncio.Future[None]] = []
        self._link: Link | None = None
        self._opening: asyncio.Task[None] | None = None
        self._is_closed = False
        self._with_the_loop = self._end_with_the_loop()

    def submit(self, events: Sequence[Event], origin: str, due: Due | None) -> asyncio.Future[list[Answer]]:
        """Queue events; the future gets an answer per event."""
        request = Request(events, origin, due, self._loop.create_future())
        self._requests.append(request)
        if not self._is_busy:
            self._is_busy = True
            self._loop.call_soon(self._send)
        return request.answers

    def give_way(self) -> None:
        """Let the thread publish what waits here: something is about to be submitted to it that came later."""
        while self._requests:
            self._hand_over(taken(self._requests))

    async def flush(self) -> None:
        """Wait until all that was submitted is answered."""
        if self._is_busy:
            self._flushing.append(self._loop.create_future())
            await self._flushing[-1]

    def close(self) -> None:
        """Close the link; what waits is the thread's."""
        self._is_closed = True
        if self._opening is not None:
            self._opening.cancel()
        if self._link is not None:
            self._link.close()

    def _send(self) -> None:
        if self._with_thread:
            return
        if not self._requests:
            self._is_busy = False
            for waiter in self._flushing:
                if not waiter.done():
                    waiter.set_result(None)
            self._flushing.clear()
            return
        batch = taken(self._requests)
        publisher = self._publisher()
        if publisher is None or not self._is_linked():
            self._hand_over(batch)
            return
        events = [event for request in batch for event in request.events]
        dues = [request.due for request in batch if request.due for _ in request.events]
        prepared = publisher.prepare(events, batch[0].origin, dues)
        if len(prepared.calls) != 1:
            self._hand_over(batch)
            return
        assert self._link is not None
        self._link.ask(publisher.command(prepared.calls[0])).add_done_callback(
            partial(self._answered, batch, publisher, prepared)
        )

    def _answered(
        self,
        batch: list[Request[asyncio.Future[list[Answer]]]],
        publisher: Publisher,
        prepared: Prepared,
        reply: asyncio.Future[Any],
    ) -> None:
        if reply.exception() is not None or not publisher.is_plain(reply.result()):
            self._hand_over(batch)
            return
        publisher.read(prepared, prepared.calls[0], reply.result())
        answers, start = prepared.result(), 0
        for request in batch:
            end = start + len(request.events)
            if not request.answers.done():  # else its caller was cancelled; the events are published all the same
                request.answers.set_result(answers[start:end])
            start = end
        self._send()

    def _hand_over(self, batch: list[Request[asyncio.Future[list[Answer]]]]) -> None:
        """Let the thread publish; the next batch goes when it has answered, so that nothing overtakes."""
        self._with_thread += 1
        waited_for: list[asyncio.Future[list[Answer]]] = []
        for request in batch:
            try:
                future = self._slowly(request.events, request.origin, request.due)
            except Exception as error:
                if not request.answers.done():
                    request.answers.set_exception(error)
                continue
            answered = asyncio.wrap_future(future, loop=self._loop)
            answered.add_done_callback(partial(_pass_on, request.answers))
            waited_for.append(answered)
        asyncio.gather(*waited_for, return_exceptions=True).add_done_callback(self._came_back)

    def _came_back(self, _: object) -> None:
        self._with_thread -= 1
        self._send()

    def _is_linked(self) -> bool:
        """Whether there is a link; begins to make one where there is none."""
        if self._link is not None and self._link.is_open:
            return True
        if self._opening is None and not self._is_closed:
            self._opening = self._loop.create_task(self._connect())
        return False

    async def _connect(self) -> None:
        try:
            await anext(self._with_the_loop, None)
            self._link = await self._open_link()
        except (redis.RedisError, OSError, AttributeError):
            self._link = None  # the thread says what is wrong
        finally:
            self._opening = None

    async def _end_with_the_loop(self) -> AsyncIterator[None]:
        """Close the link when the loop ends: `asyncio.run` closes every asynchronous generator then."""
        try:
            yield
        finally:
            self.close()


class LoopSenders:
    """The senders of one bus: each loop that publishes has one, as long as it lives. Arguments as `LoopSender`'s."""

    def __init__(
        self, publisher: Callable[[], Publisher | None], slowly: Slowly, open_link: Callable[[], Awaitable[Link]]
    ) -> None:
        self._make = partial(LoopSender, publisher, slowly, open_link)
        self._by_loop: dict[asyncio.AbstractEventLoop, LoopSender] = {}

    def sender(self) -> LoopSender:
        """Return the running loop's."""
        loop = asyncio.get_running_loop()
        found = self._by_loop.get(loop)
        if found is None:
            for ended in [known for known in self._by_loop if known.is_closed()]:
                self._by_loop.pop(ended, None)
            found = self._by_loop[loop] = self._make()
        return found

    def give_way(self) -> None:
        """Keep the order of whoever publishes in both ways on the thread of a loop."""
        try:
            sender = self._by_loop.get(asyncio.get_running_loop())
        except RuntimeError:  # no loop runs in this thread
            return
        if sender is not None:
            sender.give_way()

    def close(self) -> None:
        """Close their links, each on its loop."""
        for loop, sender in list(self._by_loop.items()):
            if not loop.is_closed():
                loop.call_soon_threadsafe(sender.close)


def _pass_on(to: asyncio.Future[list[Answer]], answered: asyncio.Future[list[Answer]]) -> None:
    if to.done():
        return  # its caller was cancelled
    error = answered.exception()
    if error is not None:
        to.set_exception(error)
    else:
        to.set_result(answered.result())
