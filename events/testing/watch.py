"""Watches handlers from the outside: which of them run, and what they raised last, with its traceback.

A watched handler is called by the engine as any other; it sees its own events and nothing else.
"""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from events.event import Event
from events.subscriptions import Subscription
from events.testing.doors import Attempt, Doors
from workers.attempt import materialized
from workers.steps import collected


@dataclass(frozen=True, slots=True)
class Call:
    """A handler that runs: whose, of which events, since when (monotonic seconds)."""

    subscriber: str
    events: tuple[Event, ...]
    since: float

    def __str__(self) -> str:
        first, more = self.events[0], len(self.events) - 1
        what = f"{first.type.value} {first.event_id}" + (f" and {more} more" if more else "")
        return f"{self.subscriber} has run for {time.monotonic() - self.since:.1f} s with {what}"


class Watch:
    """Remembers what handlers do. Threads may share it.

    Args:
        doors: through which the handlers' publishes and commits go, if anybody counts them.
    """

    def __init__(self, doors: Doors | None = None) -> None:
        self._doors = doors
        self._lock = threading.Lock()
        self._running: dict[int, Call] = {}
        self._raised: dict[tuple[str, str], BaseException] = {}

    def running(self) -> list[Call]:
        """Return the handlers that run, the longest first."""
        with self._lock:
            return sorted(self._running.values(), key=lambda call: call.since)

    def raised(self, subscriber: str, event_id: str) -> BaseException | None:
        """Return what the last attempt raised that failed; None when none has here."""
        with self._lock:
            return self._raised.get((subscriber, event_id))

    def watched(self, subscription: Subscription) -> Subscription:
        """Return the subscription with its handler watched."""
        name, handler = subscription.name, subscription.handler

        async def awaited(result: Any, given: Any) -> Any:
            with self._call(name, given):
                return await collected(result)

        async def on_a_loop(given: Any, *more: Any) -> Any:
            with self._call(name, given):
                return await collected(handler(given, *more))

        def in_a_thread(given: Any, *more: Any) -> Any:
            with self._call(name, given) as attempt:
                result = handler(given, *more)
                attempt.goes_on = inspect.isawaitable(result) or inspect.isasyncgen(result)
                result = awaited(result, given) if attempt.goes_on else materialized(result)
            return result

        return replace(subscription, handler=on_a_loop if subscription.is_async else in_a_thread)

    @contextmanager
    def _call(self, name: str, given: Event | list[Event]) -> Iterator[Attempt]:
        call = Call(name, tuple(given) if isinstance(given, list) else (given,), time.monotonic())
        with self._lock:
            self._running[id(call)] = call
        try:
            if self._doors is None:
                yield Attempt(name)
            else:
                with self._doors.attempt(name) as attempt:
                    yield attempt
        except BaseException as error:
            with self._lock:
                self._raised |= {(name, event.event_id): error for event in call.events}
            raise
        finally:
            with self._lock:
                del self._running[id(call)]
