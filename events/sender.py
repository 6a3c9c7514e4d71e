"""The sender: one thread through which a bus publishes, so that concurrent publishes share a call.

    await bus.publish(event) ──┐
    await bus.publish(event) ──┼── queue, in order ──> one script call ──> an answer for each
    publish(event)           ──┘

Events go out in the order in which they were submitted. One refused event fails only its caller.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Generic, TypeVar

from events.due import Due
from events.errors import EventBusError, RedisUnavailable
from events.event import Event
from events.publisher import MAX_BATCH_EVENTS, Answer, Publisher

Answers = TypeVar("Answers")


@dataclass(slots=True)
class Request(Generic[Answers]):
    """Events that were submitted together, and the future of their answers.

    Attributes:
        origin: `publish`, or the delivery whose handler publishes. due: when; None is at once.
    """

    events: Sequence[Event]
    origin: str
    due: Due | None
    answers: Answers

    def joins(self, other: Request[Answers]) -> bool:
        """Whether one script call can take both."""
        return self.origin == other.origin and (self.due is None) == (other.due is None)


def taken(requests: deque[Request[Answers]]) -> list[Request[Answers]]:
    """Take from the front those that one script call can take, as many as it should; there is one at least."""
    batch = [requests.popleft()]
    size = len(batch[0].events)
    while requests and requests[0].joins(batch[0]):
        size += len(requests[0].events)
        if size > MAX_BATCH_EVENTS:
            break
        batch.append(requests.popleft())
    return batch


class Sender:
    """Publishes what is submitted, from a thread of its own that starts with the first event.

    Args:
        publisher: called on the thread, once, when it is first needed.
        before: called before each batch; writes routes that are not written yet.
    """

    def __init__(self, publisher: Callable[[], Publisher], before: Callable[[], None]) -> None:
        self._make_publisher = publisher
        self.publisher: Publisher | None = None
        """What it publishes with, once it has."""
        self._before = before
        self._requests: deque[Request[Future[list[Answer]]]] = deque()
        self._wake = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False

    def submit(self, events: Sequence[Event], origin: str, due: Due | None = None) -> Future[list[Answer]]:
        """Queue events; the future gets an answer per event. Never blocks.

        Args:
            due: when they are to be published; at once without.

        Raises:
            EventBusError: when the bus is disconnected.
        """
        request: Request[Future[list[Answer]]] = Request(events, origin, due, Future())
        with self._wake:
            if self._closed:
                raise EventBusError("The bus is disconnected; make a new one to publish.")
            self._requests.append(request)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="eventbus-sender", daemon=True)
                self._thread.start()
            self._wake.notify()
        return request.answers

    def close(self) -> None:
        """Send what was submitted, then end the thread."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._requests and not self._closed:
                    self._wake.wait()
                if not self._requests:
                    return
                batch = taken(self._requests)
            away = self._send(batch)
            if away is not None and self._closed:
                self._give_up(away)

    def _give_up(self, away: RedisUnavailable) -> None:
        """Answer all that waits with the error: a bus that is closing does not wait for each time-out."""
        with self._wake:
            waiting = list(self._requests)
            self._requests.clear()
        for request in waiting:
            _resolve(request.answers, [away] * len(request.events))

    def _send(self, batch: list[Request[Future[list[Answer]]]]) -> RedisUnavailable | None:
        """Publish a batch and answer it; return the error when Redis is away."""
        events = [event for request in batch for event in request.events]
        dues = [request.due for request in batch if request.due for _ in request.events]
        try:
            self._before()
            publisher = self._make_publisher()
            answers = publisher.publish_many(events, batch[0].origin, dues)
            self.publisher = publisher
        except EventBusError as error:
            answers = [error] * len(events)
        except BaseException as error:
            for request in batch:
                _resolve(request.answers, error=error)
            return None
        start = 0
        for request in batch:
            end = start + len(request.events)
            _resolve(request.answers, answers[start:end])
            start = end
        return next((answer for answer in answers if isinstance(answer, RedisUnavailable)), None)


def _resolve(
    future: Future[list[Answer]], answers: list[Answer] | None = None, error: BaseException | None = None
) -> None:
    if not future.set_running_or_notify_cancel():
        return  # its caller was cancelled; the events are published all the same
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(answers or [])
