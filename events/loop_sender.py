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
import logging
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any

import redis

from events.due import Due
from events.errors import EventBusError
from events.event import Event
from events.link import Link
from events.loop_batch import Answered, Batch
from events.publisher import MAX_BATCH_EVENTS, Answer, Call, Publisher
from events.sender import Request, taken

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 5.0  # between attempts to connect
LEAVE_S = 2.0

Slowly = Callable[[Sequence[Event], str, "Due | None"], "Future[list[Answer]]"]

log = logging.getLogger("eventbus.publish")


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
        self._requests: deque[Request[Answered]] = deque()
        self._is_busy = False
        self._asked: Batch | None = None  # what the link was asked to publish and has not answered
        self._with_thread = 0  # batches that it has and has not answered
        self._flushing: list[asyncio.Future[None]] = []
        self._link: Link | None = None
        self._opening: asyncio.Task[None] | None = None
        self._pause_s, self._not_before = FIRST_PAUSE_S, 0.0  # of the next attempt to connect
        self._is_closed = False
        self._with_the_loop: AsyncIterator[None] | None = None

    def submit(self, events: Sequence[Event], origin: str, due: Due | None) -> Answered:
        """Queue events; the future gets an answer per event."""
        request = Request(events, origin, due, self._loop.create_future())
        self._requests.append(request)
        if not self._is_busy:
            self._is_busy = True
            self._loop.call_soon(self._send)
        return request.answers

    def give_way(self) -> None:
        """Let the thread publish what is under way here: something is about to be submitted to it that came later.

        Also what the link has not answered. Whether that has arrived nobody knows, and nobody can wait for it while
        a synchronous publish holds the loop; sent again it is in history before what came later, and once.
        """
        if self._asked is not None and not self._asked.parts:
            self._asked.divide(self._to_thread)
        while self._requests:
            self._hand_over(Batch(taken(self._requests)))

    async def flush(self) -> None:
        """Wait until all that was submitted is answered."""
        if self._is_busy:
            self._flushing.append(self._loop.create_future())
            await self._flushing[-1]

    def leave(self) -> None:
        """Let the thread publish what is under way here, and close the link."""
        self.give_way()
        self.close()

    def close(self) -> None:
        """Close the link."""
        self._is_closed = True
        if self._opening is not None:
            self._opening.cancel()
        if self._link is not None:
            self._link.close()

    def _send(self) -> None:
        if self._with_thread or self._asked is not None:
            return
        if self._requests:
            self._step(Batch(taken(self._requests)), self._begin)
            return
        self._is_busy = False
        for waiter in self._flushing:
            if not waiter.done():
                waiter.set_result(None)
        self._flushing.clear()

    def _step(self, batch: Batch, step: Callable[[Batch], None]) -> None:
        """Whatever goes wrong with a batch is for its callers to hear; what comes after it is sent."""
        try:
            step(batch)
        except Exception as error:
            batch.fail(error)
            self._loop.call_soon(self._send)

    def _begin(self, batch: Batch) -> None:
        publisher = self._publisher()
        if publisher is None or not self._is_linked() or len(batch.events) > MAX_BATCH_EVENTS:
            self._hand_over(batch)
            return
        prepared = publisher.prepare(batch.events, batch.requests[0].origin, batch.dues())
        if prepared is None:
            self._hand_over(batch)
            return
        batch.prepared = prepared
        if prepared.call is not None:
            self._ask(batch, publisher, prepared.call)
        else:
            batch.settle()
            self._loop.call_soon(self._send)

    def _ask(self, batch: Batch, publisher: Publisher, call: Call) -> None:
        assert self._link is not None
        reply = self._link.ask(publisher.command(call))
        self._asked = batch
        reply.add_done_callback(partial(self._answered, batch, publisher, call))

    def _answered(self, batch: Batch, publisher: Publisher, call: Call, reply: asyncio.Future[Any]) -> None:
        self._asked = None
        self._step(batch, partial(self._take, publisher, call, reply))

    def _take(self, publisher: Publisher, call: Call, reply: asyncio.Future[Any], batch: Batch) -> None:
        """Take a reply; what it does not answer is sent again, by the link where it only asked for that."""
        later = None
        if reply.exception() is None and isinstance(reply.result(), list):
            self._pause_s = FIRST_PAUSE_S
            later = publisher.read(batch.prepared, call, reply.result())
        if batch.parts:
            self._wait_for_thread(batch)
            return
        batch.settle()
        if later is None or (later and not self._is_linked()):
            self._hand_over(batch)
        elif later:
            self._ask(batch, publisher, Call(call.script, call.origin, later))
        else:
            self._send()

    def _hand_over(self, batch: Batch) -> None:
        """Let the thread publish what has no answer."""
        batch.divide(self._to_thread)
        self._wait_for_thread(batch)

    def _to_thread(self, request: Request[Answered], events: list[Event]) -> Answered:
        try:
            return asyncio.wrap_future(self._slowly(events, request.origin, request.due), loop=self._loop)
        except Exception as error:
            failed: Answered = self._loop.create_future()
            failed.set_exception(error)
            return failed

    def _wait_for_thread(self, batch: Batch) -> None:
        """The next batch goes when the thread has answered, so that nothing overtakes."""
        self._with_thread += 1
        for part in batch.parts:
            part.answered.add_done_callback(partial(batch.take, part))
        waited_for = [part.answered for part in batch.parts]
        asyncio.gather(*waited_for, return_exceptions=True).add_done_callback(self._came_back)

    def _came_back(self, _: object) -> None:
        self._with_thread -= 1
        self._send()

    def _is_linked(self) -> bool:
        """Whether there is a link; begins to make one where there is none and the pause is over."""
        if self._link is not None and self._link.is_open:
            return True
        opens = self._opening is not None and not self._opening.done()  # an eager task may be done when it is made
        if not (opens or self._is_closed) and self._loop.time() >= self._not_before:
            self._not_before = self._loop.time() + self._pause_s
            self._pause_s = min(self._pause_s * 2, LONGEST_PAUSE_S)  # until a link has answered
            self._opening = self._loop.create_task(self._connect())
        return False

    async def _connect(self) -> None:
        self._link = None
        try:
            if self._with_the_loop is None:
                self._with_the_loop = self._end_with_the_loop()
                await anext(self._with_the_loop)  # once: going on with it closes this sender
            self._link = await self._open_link()
        except (redis.RedisError, OSError, EventBusError):
            pass  # the thread says what is wrong
        except Exception:
            log.warning("An event loop could not connect to publish by itself; a thread does it.", exc_info=True)

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
            for ended in [known for known in list(self._by_loop) if known.is_closed()]:
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
        """Let the thread publish what is under way on any loop, and close the links; none is waited for that hangs."""
        until, left = time.monotonic() + LEAVE_S, []
        for loop, sender in list(self._by_loop.items()):
            if loop is asyncio._get_running_loop():
                sender.leave()
            elif not loop.is_closed():
                gone = threading.Event()
                with suppress(RuntimeError):  # it has been closed since
                    loop.call_soon_threadsafe(_leave, sender, gone)
                    left += [gone] if loop.is_running() else []
        for gone in left:
            gone.wait(max(0.0, until - time.monotonic()))


def _leave(sender: LoopSender, gone: threading.Event) -> None:
    try:
        sender.leave()
    finally:
        gone.set()
