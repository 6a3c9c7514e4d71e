"""A batch on its way from an event loop: what is known of its answers, whoever gave them.

Mostly the loop's link answers all of it. What the link leaves open the sender's thread is asked for; and where both
were asked, for the sake of the order, the answer is that of the one that published: the other found it there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from events.due import Due
from events.errors import EventBusError
from events.event import Event
from events.publisher import Answer, Prepared
from events.sender import Request

Answered = asyncio.Future[list[Answer]]


@dataclass(slots=True)
class Part:
    """What the thread was asked to publish of one request.

    Attributes:
        start, end: where the request's events are among the batch's. numbers: those that the thread has.
        answered: its answers to these.
    """

    request: Request[Answered]
    start: int
    end: int
    numbers: list[int]
    answered: Answered


class Batch:
    """Requests that go together; their events are numbered from 0.

    Attributes:
        prepared: the answers so far.
        parts: what the thread was asked for; empty while it was not.
    """

    def __init__(self, requests: Sequence[Request[Answered]]) -> None:
        self.requests = requests
        self.events = [event for request in requests for event in request.events]
        self.prepared = Prepared([None] * len(self.events))
        self.parts: list[Part] = []

    def dues(self) -> list[Due]:
        """Return when each event is due; nothing when all are to be published at once."""
        return [request.due for request in self.requests if request.due for _ in request.events]

    def settle(self) -> None:
        """Answer each request all of whose events have an answer."""
        for request, start, end in self._spans():
            answers = self._known(start, end)
            if answers is not None and not request.answers.done():
                request.answers.set_result(answers)

    def fail(self, error: Exception) -> None:
        """Answer each request that has no answer with an error."""
        for request in self.requests:
            if not request.answers.done():
                request.answers.set_exception(error)

    def divide(self, submit: Callable[[Request[Answered], list[Event]], Answered]) -> None:
        """Have somebody else publish what has no answer; `take` what becomes of it."""
        answers = self.prepared.answers
        for request, start, end in self._spans():
            numbers = [number for number in range(start, end) if answers[number] is None]
            if numbers or not request.answers.done():
                answered = submit(request, [self.events[number] for number in numbers])
                self.parts.append(Part(request, start, end, numbers, answered))

    def take(self, part: Part, answered: Answered) -> None:
        """Note what has become of a part, and answer its request; the link has said by now what it has to say."""
        error = answered.exception()
        if error is None:
            answers = self.prepared.answers
            for number, answer in zip(part.numbers, answered.result(), strict=False):
                answers[number] = _of_the_publisher(answers[number], answer)
        if part.request.answers.done():
            return  # its caller was cancelled
        known = self._known(part.start, part.end)
        if known is not None:
            part.request.answers.set_result(known)
        else:
            part.request.answers.set_exception(error or EventBusError("No answer came for a part of the events."))

    def _spans(self) -> Iterator[tuple[Request[Answered], int, int]]:
        start = 0
        for request in self.requests:
            end = start + len(request.events)
            yield request, start, end
            start = end

    def _known(self, start: int, end: int) -> list[Answer] | None:
        """Return the answers of some events; None when one is missing."""
        known = [answer for answer in self.prepared.answers[start:end] if answer is not None]
        return known if len(known) == end - start else None


def _of_the_publisher(link: Answer | None, thread: Answer) -> Answer:
    """Return that of two answers which tells what happened: an error, or that it was there, tells less."""
    if link is None or isinstance(link, EventBusError):
        return thread
    return link if isinstance(thread, EventBusError) or link.is_new else thread
